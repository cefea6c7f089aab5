"""Options of `wavenet-generate`, and what of them must fit together, and the model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wavenet.config import AudioConfig, WaveNetConfig, check_frames
from wavenet.utils.dataclass_io import Options, option
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import check_replaceable, check_writable, is_special
from wavenet.utils.memory import check_memory
from wavenet.utils.sharding import Shard

if TYPE_CHECKING:  # imports torch, which errors of typing do not need
    from wavenet.features.mel_consistency import MelConsistency

log = logging.getLogger("wavenet")
WeightDtype = Literal["float32", "bfloat16", "int8"]  # of a sampler; see wavenet.sampling
DEFAULT_MODEL = "demo_voice"  # one that ships
DEFAULT_SECONDS = 3.0  # without an input
MEL_CONSISTENCY_PASSES = 3  # where the model has a mel
BYTES_PER_PATH = 500  # of memory
MIN_GPU_STREAMS = 64  # from which a GPU is faster than the CPU's cores: an estimate
CHECKPOINT_HELP = "Model: a directory, a shipped model's name, or owner/name[@revision] on the hub"


@dataclass(frozen=True, kw_only=True)
class GenerateCommand(Options):
    """`wavenet-generate`: recordings from a model."""

    checkpoint: str = option(DEFAULT_MODEL, CHECKPOINT_HELP)
    output: str = option(
        "generated.wav",
        "File, .wav, .flac, .ogg or .mp3, with -i before the suffix for several; a folder of .wav "
        "files where input or prompt is one",
    )
    input: str | None = option(
        None,
        "Conditioning: recording, mel or frames (.safetensors, .npy) or score (.csv: onset,offset,"
        "pitch), or a folder of them; null for the example of a shipped model",
    )
    mel_preset: str | None = option(
        None, "Mel preset of a .npy mel, by name; model for that of the model directory"
    )
    speaker: str | None = option(None, "Speaker by name; null for the null speaker")
    guidance_scale: float = option(
        1.0, "Classifier-free guidance of the speaker; 1 turns it off, others double the work"
    )
    seconds: float | None = option(
        None, "Length without the prompt; null for that of the input, or 3 seconds", gt=0, le=1e9
    )
    prompt: str | None = option(
        None, "Recording to continue, or a folder of them; the output is what follows it"
    )
    include_prompt: bool = option(False, "Start the output with the prompt")
    num_samples: int = option(1, "Recordings, from one input or none", ge=1)
    batch_size: int = option(
        1, "Inputs of a folder generated at once; does not change the result", ge=1
    )
    shard: str | None = option(None, "i/n generates every n-th input of a folder from the i-th on")
    seed: int = option(
        0, "Recording i uses seed + i; a file of a folder, this and its name", ge=0, le=2**63 - 1
    )
    temperature: float | None = option(
        None,
        "Below 1 favors likely values; 0 takes the most likely one; null for that of the model's "
        "own report, or 1",
        ge=0,
    )
    voiced_temperature: float | None = option(
        None,
        "That of vowels and other voiced sounds, for models with a linear predictor from the mel; "
        "null for temperature",
        ge=0,
    )
    top_k: int | None = option(None, "Sample from this many most likely classes only", ge=1)
    top_p: float | None = option(
        None, "Sample from the most likely classes with this total probability", gt=0, le=1
    )
    probability_floor: float = option(
        0.0,
        "Taken from the probability of every class, such as 0.002: keeps out rare clicks",
        ge=0,
        lt=1,
    )
    backend: str = option("auto", "Sampler: auto for the fastest, cuda, cpu, graph or reference")
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto",
        f"Where backend=graph and reference compute; auto uses a GPU for graph and cuda, and for "
        f"{MIN_GPU_STREAMS} or more recordings at once",
    )
    num_threads: int | None = option(None, "Threads; null for one per recording", ge=1)
    weight_dtype: WeightDtype = option(
        "float32", "Weights of the sampler; bfloat16 and int8 are faster and less exact"
    )
    mel_consistency: int | None = option(
        None,
        "Passes that give the audio the mel of the input; 0 for none, null for "
        f"{MEL_CONSISTENCY_PASSES} where the model has a mel",
        ge=0,
        le=1000,
    )
    overwrite: bool = option(False, "Replace existing files; existing files of a folder are kept")
    debug: bool = option(False, "Show tracebacks of errors")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            Shard.from_text(self.shard)

    def check_files(self) -> None:
        """Refuse an output that exists, and an input or prompt that does not.

        Raises:
            ConfigError: As `input_folder` and `output_paths`.
            DataError: There is no such input or prompt.
        """
        for path in map(Path, filter(None, (self.input, self.prompt))):
            if is_special(path) or (str(path) == "-" and not path.exists()):
                raise DataError(
                    f"{printable(path)}: input and prompt are files, not pipes or devices: write "
                    "it into a file first"
                )
            if not path.exists():
                missing = "a broken link" if path.is_symlink() else "no such file or folder"
                raise DataError(f"{printable(path)}: {missing}")
        if input_folder(self) is None:
            output_paths(self)


def input_folder(options: GenerateCommand) -> Path | None:
    """Return the folder of inputs or prompts; `None` for a single recording.

    Raises:
        ConfigError: Input, prompt, output, shard and num_samples do not fit together.
    """
    from wavenet.data.audio_output import OUTPUT_SUFFIXES

    output = Path(options.output)
    given = {"input": options.input, "prompt": options.prompt}
    paths = {name: Path(path) for name, path in given.items() if path is not None}
    folders = {name: path for name, path in paths.items() if path.is_dir()}
    if not folders:
        if options.shard is not None:
            raise ConfigError("shard needs a folder of inputs: input=FOLDER or prompt=FOLDER")
        if output.is_dir():
            raise ConfigError(
                f"output {printable(output)} is a folder, but there is a single input: use "
                "output=NAME.wav, or a folder of inputs"
            )
        return None
    ((name, folder), *_) = folders.items()
    if len(paths) > 1:
        raise ConfigError(f"{name} is a folder: use either input or prompt, not both")
    is_file = output.exists() or options.output == "-" or output.suffix.lower() in OUTPUT_SUFFIXES
    if is_file and not output.is_dir():
        raise ConfigError(
            f"{name} is a folder, so output must be a folder too, got {printable(output)}: use "
            "output=FOLDER"
        )
    if options.num_samples > 1:
        raise ConfigError(
            f"num_samples={options.num_samples} is for a single input, and {name} is a folder: "
            "use batch_size for the number of inputs generated at once"
        )
    if folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise ConfigError(
            f"output {printable(output)} is inside {name}, where it would become an input: "
            "choose another folder"
        )
    return folder


def output_paths(options: GenerateCommand) -> list[Path]:
    """Return the file of each recording: `speech.wav`, or `speech-0.wav` and so on for several.

    Raises:
        ConfigError: A file exists, or is the input or prompt, several recordings are for one pipe,
            or `output` has another suffix than those of `open_audio`.
        MachineError: A folder cannot be written.
    """
    from wavenet.data.audio_output import OUTPUT_SUFFIXES, is_stream

    output = Path(options.output)
    if is_stream(output):
        if options.num_samples > 1:
            raise ConfigError(
                f"{printable(output)} is a pipe or device, which takes one recording: remove "
                f"num_samples={options.num_samples}"
            )
        return [output]
    if output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(
            f"output must be a file {', '.join(OUTPUT_SUFFIXES)}, or /dev/stdout, "
            f"got {printable(output)}"
        )
    paths = [output]
    if options.num_samples > 1:
        what = f"num_samples={options.num_samples}: the list of files"
        check_memory(BYTES_PER_PATH * options.num_samples, what)
        numbers = range(options.num_samples)
        paths = [output.with_name(f"{output.stem}-{i}{output.suffix}") for i in numbers]
    _check_outputs(paths, options)
    return paths


def _check_outputs(paths: Sequence[Path], options: GenerateCommand) -> None:
    """Raise if a file of one folder may not or cannot be written."""
    given = {"input": options.input, "prompt": options.prompt}
    for path in paths:
        for key, source in given.items():
            if source is not None:
                check_not_source(path, Path(source), key)
        check_replaceable(path, overwrite=options.overwrite)
    for path in paths:
        if path is paths[0] or path.is_symlink():  # the others are in the same folder
            check_writable(path)


def check_not_source(output: Path, source: Path, key: str) -> None:
    """Raise a `ConfigError` if a file to write is one that is read, also by another name.

    Args:
        output: The file to write.
        source: The file that is read.
        key: The config key that names it.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(
            f"output {printable(output)} is the same file as {key} {printable(source)}, which is "
            "never replaced: choose another output"
        )


def check_input(options: GenerateCommand, model: WaveNetConfig, audio: AudioConfig) -> None:
    """Check that there is an input if the model needs one.

    Raises:
        ConfigError: The input is missing, the model has no use for it or for `mel_preset`, or the
            audio config does not describe the model's frames.
    """
    check_frames(model, audio)
    features = " and ".join(audio.features)
    if features and options.input is None:
        raise ConfigError(f"the model is conditioned on {features}: add input=FILE")
    if not features and options.input is not None:
        raise ConfigError("the model is unconditional: remove input, or use prompt=FILE")
    path = Path(options.input or "")
    may_be_array = path.suffix.lower() == ".npy" or (options.input is not None and path.is_dir())
    if options.mel_preset is not None and not may_be_array:
        raise ConfigError("mel_preset is for input=FILE.npy only: remove it")
    if options.mel_preset is not None and audio.mel is None and audio.frames is not None:
        raise ConfigError("mel_preset is for mel spectrograms, not for other frames: remove it")


def mel_consistency(options: GenerateCommand, audio: AudioConfig) -> "MelConsistency | None":
    """Return what gives the audio the mel spectrogram of the input; `None` for nothing.

    Raises:
        ConfigError: It was requested, but the model has no mel, or one of short windows.
    """
    from wavenet.features.mel_consistency import MelConsistency, can_overlap_add

    passes, mel = options.mel_consistency, audio.mel
    if mel is None or not can_overlap_add(mel):
        if passes:
            found = " and ".join(audio.features) or "nothing"
            reason = f"is conditioned on {found}, not on a mel"
            if mel is not None:
                reason = f"has a mel of windows of {mel.win_length} samples every {mel.hop_length}"
            raise ConfigError(f"mel_consistency={passes}, but the model {reason}: remove it")
        return None
    passes = MEL_CONSISTENCY_PASSES if passes is None else passes
    if not passes:
        return None
    log.info("mel consistency after sampling: %d passes; mel_consistency=0 turns it off", passes)
    return MelConsistency(mel, passes)


def resolve_length(seconds: float | None, available: int | None, sample_rate: int) -> int:
    """Return the number of samples to generate.

    Args:
        seconds: Requested length; `None` for everything that the input covers.
        available: Samples that the input covers after the prompt; `None` without an input.
        sample_rate: In Hz.

    Raises:
        ConfigError: The input is too short, or the length is less than one sample.
    """
    if available is not None and available < 1:
        raise ConfigError(
            "the prompt covers all of the input, so nothing is left to generate: use a shorter "
            "prompt or a longer input"
        )
    if seconds is not None:
        length = round(seconds * sample_rate)
    else:
        length = round(DEFAULT_SECONDS * sample_rate) if available is None else available
    if available is not None and length > available:
        raise ConfigError(
            f"the input covers {available / sample_rate:.2f} s after the prompt, less than "
            f"seconds={seconds:g}: remove seconds, or use a longer input"
        )
    if length < 1:
        raise ConfigError(
            f"seconds={seconds:g} is less than one sample at {sample_rate} Hz: increase seconds"
        )
    return length
