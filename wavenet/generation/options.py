"""What `wavenet-generate` takes."""

from dataclasses import dataclass
from typing import Literal

from wavenet.utils.dataclass_io import check
from wavenet.utils.sharding import Shard

Precision = Literal["float32", "bfloat16", "int8"]  # a sampler's; see wavenet.sampling


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """`wavenet-generate`: a model to recordings.

    Attributes:
        checkpoint: Directory of the model.
        output: WAV file to write; for a batch, item `i` gets `-i` before the suffix. A folder where
            the input or the prompt is one: each file's recording has its name, below `output`.
        input: What a conditioned model speaks from: a recording or a mel spectrogram
            (`.safetensors`, `.npy`), or a score (`.csv`), as its features ask for; or a folder of
            them.
        mel_convention: How a `.npy` input was made; a name, or `model`.
        speaker: Name of the voice; absent for none in particular.
        guidance_scale: How far to go towards the speaker; 1 as learnt, more for beyond.
        seconds: Length of each recording, without its prompt; absent for as long as the input, or
            3 seconds where there is none.
        prompt: Recording to go on from, or a folder of them.
        num_samples: Recordings, from one input or none.
        batch_size: Inputs of a folder generated at once; does not change the result.
        shard: Of a folder, do every `n`-th input from the `i`-th on, said as `i/n`.
        seed: Item `i` is drawn with `seed + i`, a file of a folder with a seed that follows from
            this one and the file's name.
        temperature: Below 1 the likely becomes likelier; 0 takes the most likely.
        top_k: Draw from this many classes only.
        top_p: Draw from the classes that together have this probability.
        backend: Sampler.
        num_threads: Cores to use; absent for one a recording, as far as there are so many. They
            change no bit.
        weight_dtype: Of the weights.
        overwrite: Replace existing files; of a folder, those that exist are left otherwise.
    """

    checkpoint: str
    output: str = "generated.wav"
    input: str | None = None
    mel_preset: str | None = None
    speaker: str | None = None
    guidance_scale: float = 1.0
    seconds: float | None = None
    prompt: str | None = None
    num_samples: int = 1
    batch_size: int = 1
    shard: str | None = None
    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    backend: str = "auto"
    num_threads: int | None = None
    weight_dtype: Precision = "float32"
    overwrite: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        good = self.seconds is None or self.seconds > 0
        check(good, "seconds", "positive", self.seconds)
        check(self.num_samples >= 1, "num_samples", "1 or more", self.num_samples)
        check(self.batch_size >= 1, "batch_size", "1 or more", self.batch_size)
        if self.shard is not None:
            Shard.from_text(self.shard)
        check(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1", self.seed)
        check(
            self.num_threads is None or self.num_threads >= 1,
            "num_threads",
            "1 or more",
            self.num_threads,
        )
        check(self.temperature >= 0, "temperature", "0 or more", self.temperature)
        check(self.top_k is None or self.top_k >= 1, "top_k", "1 or more", self.top_k)
        check(self.top_p is None or 0 < self.top_p <= 1, "top_p", "in (0, 1]", self.top_p)
