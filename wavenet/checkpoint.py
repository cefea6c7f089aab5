"""A trained model as a directory that can be shared: plain data, checked to the last bit.

    config.json         format, shape of the model, meaning of its audio, what it was trained on
    model.safetensors   weights
    README.md           model card

The config holds a SHA-256 of the weights and of itself. Loading checks both before it builds
anything, takes no key or tensor too many or too few, and executes nothing that a file says.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet, init_empty
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError, printable
from wavenet.utils.files import atomic_directory, file_digest

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
CONFIG_LIMIT = 1 << 20  # bytes; ours are a few hundred


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where a model comes from, for its card.

    Attributes:
        data: Name of the data set.
        steps: Updates of the weights.
        seconds_of_audio: Length of the training audio.
        bits_per_sample: On held-out audio; absent if none was held out.
        dataset: Which clips, and how they are split; absent if that is not known.
    """

    data: str = ""
    steps: int = 0
    seconds_of_audio: float = 0.0
    bits_per_sample: float | None = None
    dataset: DataIdentity | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """All of `config.json`.

    Attributes:
        model: Shape of the weights.
        audio: Meaning of the signal.
        training: Where the weights come from.
        sha256: Digests of the weights file and of this config without its digests.
        format: Version of this layout.
    """

    model: WaveNetConfig
    audio: AudioConfig
    training: Training = field(default_factory=Training)
    sha256: "Digests | None" = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 in hexadecimal of the two halves of a checkpoint."""

    weights: str
    config: str


class Checkpoint(NamedTuple):
    """What `load` returns."""

    model: WaveNet
    audio: AudioConfig
    training: Training


def save(
    path: Path | str, model: WaveNet, audio: AudioConfig, training: Training | None = None
) -> None:
    """Write a checkpoint directory, atomically and durably; an older one there is replaced.

    Args:
        path: The directory.
        model: Whose weights to write, as float32.
        audio: Meaning of the model's signal.
        training: Where the weights come from, for the card.

    Raises:
        CheckpointError: A weight is NaN or infinite, or something else than a checkpoint is there
            already; nothing is written.
        EnvironmentFault: The place cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in model.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{name} holds NaN or infinity: {printable(path)} is not written")
    _refuse_what_is_not_ours(Path(path))
    training = training or Training()
    plain = to_dict(CheckpointConfig(model=model.config, audio=audio, training=training))
    with atomic_directory(Path(path)) as folder:
        (folder / WEIGHTS).write_bytes(serialize(tensors))
        plain["sha256"] = {"weights": file_digest(folder / WEIGHTS), "config": _digest(plain)}
        (folder / CONFIG).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        (folder / CARD).write_text(_card(model, audio, training), encoding="utf-8")


def load(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint directory that `save` wrote.

    Args:
        path: The directory.
        device: Where the weights go.

    Returns:
        The model in evaluation mode, the meaning of its audio, and where it comes from.

    Raises:
        CheckpointError: A file is missing, damaged, foreign or too new.
    """
    folder = Path(path)
    config = read_config(folder)
    tensors = _read_weights(folder, config)
    model = init_empty(config.model)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    kinds = {tensor.dtype for tensor in tensors.values()} - {torch.float32}
    if kinds:
        raise CheckpointError(f"{printable(folder / WEIGHTS)} holds {kinds.pop()}, not float32")
    if found != wanted:
        name = min(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise CheckpointError(
            f"{printable(folder / WEIGHTS)}: tensor {printable(name)} is "
            f"{found.get(name, 'missing')}, {CONFIG} wants {wanted.get(name, 'none of that name')}"
        )
    model.load_state_dict(tensors)  # copied: the file may change later
    return Checkpoint(model.to(device).eval(), config.audio, config.training)


def read_config(folder: Path) -> CheckpointConfig:
    """Read and check the `config.json` of a checkpoint directory, without its weights."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(_what_is_there(folder))
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_LIMIT + 1)
        if len(text) > CONFIG_LIMIT:
            raise ValueError(f"it is larger than {CONFIG_LIMIT:,} bytes")
        plain = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {printable(error)}") from error
    version = plain.get("format") if isinstance(plain, dict) else None
    if type(version) is int and version > FORMAT:
        raise CheckpointError(
            f"{printable(path)} has format {version}, this wavenet reads up to {FORMAT}: "
            "pip install --upgrade torch-wavenet"
        )
    try:
        config = from_dict(CheckpointConfig, plain, CONFIG)
    except ConfigError as error:
        raise CheckpointError(f"{printable(folder)}: {error}") from error
    if config.format != FORMAT:
        raise CheckpointError(f"{printable(path)} has format {config.format}, wanted {FORMAT}")
    digests = plain.pop("sha256", None)
    if config.sha256 is None or _digest(plain | {"sha256": None}) != digests["config"]:
        raise CheckpointError(
            f"{printable(path)}: checksum differs, the file was damaged or edited: "
            "copy the checkpoint again"
        )
    return config


def _read_weights(folder: Path, config: CheckpointConfig) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{printable(folder)} has no {WEIGHTS}: copy the checkpoint again")
    try:
        assert config.sha256 is not None
        if file_digest(path) != config.sha256.weights:
            raise CheckpointError(
                f"{printable(path)}: checksum differs from the one in {CONFIG}, the file was "
                "damaged or copied in part: copy the checkpoint again"
            )
        return load_file(path)
    except OSError as error:
        raise MachineError(f"cannot read {printable(path)}: {error.strerror}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{printable(path)}: {printable(error)}") from error


def _what_is_there(folder: Path) -> str:
    """Return a sentence on why `folder` is no checkpoint, and which one may be meant."""
    if not folder.exists():
        saved = sorted(folder.parent.glob(f".{folder.name}.old-*")) if folder.name else []
        hint = f"; an interrupted save left the older one as {saved[0]}" if saved else ""
        return f"there is no checkpoint {printable(folder)}{hint}"
    if (folder / "model" / CONFIG).is_file():
        return f"{printable(folder)} is a run: its checkpoint is {printable(folder / 'model')}"
    return f"{printable(folder)} is no checkpoint: it has no {CONFIG}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError("a key stands twice")
    return plain


def _digest(plain: Mapping[str, Any]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refuse_what_is_not_ours(path: Path) -> None:
    """Raise where saving would take away what no checkpoint is."""
    if path.is_dir():
        foreign = sorted({entry.name for entry in path.iterdir()} - {CONFIG, WEIGHTS, CARD})
        if not foreign:
            return
        found = f"holds {printable(foreign[0])}"
    elif path.exists():
        found = "is a file"
    else:
        return
    raise CheckpointError(
        f"{printable(path)} {found}: a checkpoint is saved to a folder of its own"
    )


def _card(model: WaveNet, audio: AudioConfig, training: Training) -> str:
    config = model.config
    bits = training.bits_per_sample
    seconds = config.receptive_field_seconds(audio.sample_rate)
    rows = {
        "Data": training.data or "not said",
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{audio.sample_rate} Hz",
        "Steps": f"{training.steps:,}",
        "Held-out bits per sample": "not measured" if bits is None else f"{bits:.3f}",
        "Blocks": f"{len(config.dilations)}",
        "Receptive field": f"{config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Output": model.distribution.describe(),
        **_conditions(audio),
    }
    extra = "train" if audio.features else "generate"
    source = "seconds=5 output=speech.wav"
    if audio.features:
        heard = audio.mel is not None or audio.f0 is not None
        source = f"input={'speech.wav' if heard else 'score.csv'} output=copy.wav"
    if audio.speaker_names:
        source += f" speaker='{audio.speaker_names[0]}'"
    table = "\n".join(f"| {name} | {printable(value)} |" for name, value in rows.items())
    return f"""---
library_name: torch-wavenet
tags: [audio, wavenet]
---
# WaveNet

| | |
| --- | --- |
{table}

```sh
pip install 'torch-wavenet[{extra}]'
wavenet-generate checkpoint=PATH {source}
```
"""


def _conditions(audio: AudioConfig) -> dict[str, str]:
    """Return what a model is told, for its card."""
    rows = {}
    if audio.features:
        rows["Conditioned on"] = f"{' and '.join(audio.features)}, every {audio.hop_length} samples"
    if audio.mel is not None:
        mel = audio.mel
        rows["Mel"] = (
            f"{mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz, windows of {mel.win_length} "
            f"samples, FFT of {mel.n_fft}, {mel.log_base} logarithm; all of it in {CONFIG}"
        )
    if audio.speaker_names:
        rows["Speakers"] = ", ".join(audio.speaker_names)
    return rows
