"""Options of `wavenet-generate`."""

from dataclasses import dataclass
from typing import Literal

from wavenet.utils.fields import Options, option
from wavenet.utils.sharding import Shard

WeightDtype = Literal["float32", "bfloat16", "int8"]  # of a sampler; see wavenet.sampling


@dataclass(frozen=True, kw_only=True)
class GenerateCommand(Options):
    """`wavenet-generate`: recordings from a model."""

    checkpoint: str = option(help="Model directory, such as runs/demo/model")
    output: str = option(
        "generated.wav",
        "WAV file, with -i before the suffix for several; a folder where input or prompt is one",
    )
    input: str | None = option(
        None,
        "Conditioning: recording, mel (.safetensors, .npy) or score (.csv: onset,offset,pitch), "
        "or a folder of them",
    )
    mel_preset: str | None = option(
        None, "Mel preset of a .npy input, by name; model for that of the model directory"
    )
    speaker: str | None = option(None, "Speaker by name; null for the null speaker")
    guidance_scale: float = option(
        1.0, "Classifier-free guidance of the speaker; 1 turns it off, others double the work"
    )
    seconds: float | None = option(
        None, "Length without the prompt; null for that of the input, or 3 seconds", gt=0
    )
    prompt: str | None = option(
        None, "Recording to continue, mono at the model's rate, or a folder of them"
    )
    num_samples: int = option(1, "Recordings, from one input or none", ge=1)
    batch_size: int = option(
        1, "Inputs of a folder generated at once; does not change the result", ge=1
    )
    shard: str | None = option(None, "i/n generates every n-th input of a folder from the i-th on")
    seed: int = option(
        0, "Recording i uses seed + i; a file of a folder, this and its name", ge=0, le=2**63 - 1
    )
    temperature: float = option(
        1.0, "Below 1 favors likely values; 0 takes the most likely one", ge=0
    )
    top_k: int | None = option(None, "Sample from this many most likely classes only", ge=1)
    top_p: float | None = option(
        None, "Sample from the most likely classes with this total probability", gt=0, le=1
    )
    backend: str = option("auto", "Sampler: auto for the fastest, cpu or reference")
    num_threads: int | None = option(None, "Threads; null for one per recording", ge=1)
    weight_dtype: WeightDtype = option(
        "float32", "Weights of the sampler; bfloat16 and int8 are faster and less exact"
    )
    overwrite: bool = option(False, "Replace existing files; existing files of a folder are kept")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            Shard.from_text(self.shard)
