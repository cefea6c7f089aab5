"""Choices of `wavenet-generate` that depend on the model: sampler, speaker, length, files."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from wavenet.config import AudioConfig
from wavenet.distributions import SamplingConfig
from wavenet.generation.options import GenerateCommand
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, available_cores, make_sampler
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import ConfigError, printable

DEFAULT_SECONDS = 3.0  # without an input


def build_sampler(options: GenerateCommand, model: WaveNet) -> Sampler:
    """Return the sampler of the options.

    The default is one thread per recording: several threads on one recording wait for each other
    at every sample, so they are faster on an idle machine only.
    """
    num_threads = options.num_threads or 1
    if options.num_threads is None and options.backend != "reference":
        parallel = max(options.num_samples, options.batch_size)
        if importlib.util.find_spec("numba"):
            num_threads = min(available_cores(), parallel)
    return make_sampler(
        model, options.backend, num_threads=num_threads, weight_dtype=options.weight_dtype
    )


def sampling_config(options: GenerateCommand, model: WaveNet) -> SamplingConfig:
    """Return temperature and truncation.

    Raises:
        ConfigError: The model's distribution does not support them.
    """
    sampling = SamplingConfig(
        temperature=options.temperature, top_k=options.top_k, top_p=options.top_p
    )
    model.distribution.check(sampling)
    return sampling


def speaker_and_guidance(options: GenerateCommand, audio: AudioConfig) -> dict[str, Any]:
    """Return speaker and guidance, as keywords of `Sampler.init_state`.

    Raises:
        ConfigError: The model has no such speaker.
    """
    conditioning: dict[str, Any] = {"guidance_scale": options.guidance_scale}
    if options.speaker is not None:
        names = audio.speaker_names
        if options.speaker not in names:
            known = nearest(options.speaker, names) or ": the model has no speakers"
            raise ConfigError(f"no speaker {printable(options.speaker)!r}{known}")
        conditioning["speaker"] = torch.tensor(names.index(options.speaker))
    elif options.guidance_scale != 1.0:
        raise ConfigError("guidance_scale needs speaker=NAME")
    return conditioning


def check_input(options: GenerateCommand, audio: AudioConfig) -> None:
    """Check that there is an input if the model needs one.

    Raises:
        ConfigError: The input is missing, or the model has no use for it or for `mel_preset`.
    """
    features = " and ".join(audio.features)
    if features and options.input is None:
        raise ConfigError(f"the model is conditioned on {features}: add input=FILE")
    if not features and options.input is not None:
        raise ConfigError("the model is unconditional: remove input, or use prompt=FILE")
    path = Path(options.input or "")
    may_be_array = path.suffix.lower() == ".npy" or (options.input is not None and path.is_dir())
    if options.mel_preset is not None and not may_be_array:
        raise ConfigError("mel_preset is for input=FILE.npy only: remove it")


def resolve_length(seconds: float | None, available: int | None, sample_rate: int) -> int:
    """Return the number of samples to generate.

    Args:
        seconds: Requested length; `None` for everything that the input covers.
        available: Samples that the input covers after the prompt; `None` without an input.
        sample_rate: In Hz.

    Raises:
        ConfigError: The input is too short, or the length is less than one sample.
    """
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
            f"{length / sample_rate:g} s is less than one sample at {sample_rate} Hz: "
            "increase seconds"
        )
    return length


def output_paths(options: GenerateCommand) -> list[Path]:
    """Return the file of each recording: `speech.wav`, or `speech-0.wav` and so on for several.

    Raises:
        ConfigError: A file exists, or `output` is not a WAV file.
    """
    output = Path(options.output)
    if output.suffix.lower() != ".wav":
        raise ConfigError(f"output must be a .wav file, got {printable(output)}")
    paths = [output]
    if options.num_samples > 1:
        numbers = range(options.num_samples)
        paths = [output.with_name(f"{output.stem}-{i}{output.suffix}") for i in numbers]
    for path in paths:
        if path.exists() and not options.overwrite:
            raise ConfigError(f"{printable(path)} exists: choose another output, or overwrite=true")
    return paths


def input_folder(options: GenerateCommand) -> Path | None:
    """Return the folder of inputs or prompts; `None` for a single recording.

    Raises:
        ConfigError: Input, prompt, output, shard and num_samples do not fit together.
    """
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
    if not output.is_dir() and (output.exists() or output.suffix.lower() == ".wav"):
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
