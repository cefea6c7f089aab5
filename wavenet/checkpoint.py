"""A trained model as a directory that can be shared: plain data, verified by checksums.

    config.json         format, config of the model, meaning of its audio, what it was trained on
    model.safetensors   weights, float32 or, at half the size, bfloat16
    README.md           model card

The config holds a SHA-256 of the weights and of itself. `load` verifies both before it builds
anything, refuses unknown and missing keys and tensors, and executes nothing from a file.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet, meta_model, unwrap
from wavenet.model_card import TrainingInfo as TrainingInfo
from wavenet.model_card import model_card
from wavenet.utils.dataclass_io import from_dict, to_file_dict
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError, printable
from wavenet.utils.files import atomic_directory, file_digest

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MAX_CONFIG_BYTES = 1 << 20  # a few hundred are usual
FileDtype = Literal["float32", "bfloat16"]  # of the weights in the file; a model has float32
DTYPE_NAMES: dict[FileDtype, str] = {"float32": "F32", "bfloat16": "BF16"}  # of safetensors


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """The contents of `config.json`.

    Attributes:
        model: Shape of the weights.
        audio: Meaning of the signal.
        training: What the model was trained on.
        sha256: Digests of the weights file and of this config without its digests.
        format: Version of this layout.
    """

    model: WaveNetConfig
    audio: AudioConfig
    training: TrainingInfo = field(default_factory=TrainingInfo)
    sha256: "Digests | None" = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Digests:
    """SHA-256 in hexadecimal of the two files that make up a model."""

    weights: str
    config: str


class Checkpoint(NamedTuple):
    """What `load` returns."""

    model: WaveNet
    audio: AudioConfig
    training: TrainingInfo


def save(
    model: nn.Module,
    path: Path | str,
    audio: AudioConfig,
    training: TrainingInfo | None = None,
    weight_dtype: FileDtype = "float32",
) -> None:
    """Write a model directory, atomically and durably; an older one there is replaced.

    Args:
        model: The `WaveNet` to write; torch.compile, DistributedDataParallel and DataParallel may
            have wrapped it.
        path: The directory.
        audio: Meaning of the model's signal.
        training: What the model was trained on, for the card.
        weight_dtype: `bfloat16` rounds the weights to half the size, 8 significant bits; `load`
            gives them back as float32.

    Raises:
        CheckpointError: `load` would not give this model back, a weight is NaN or infinite, or
            `path` holds something other than a model; nothing is written.
        MachineError: The directory cannot be written.
        TypeError: `model` is no `WaveNet`.
        ValueError: `weight_dtype` is another one.
    """
    if weight_dtype not in DTYPE_NAMES:
        raise ValueError(f"weight_dtype must be float32 or bfloat16, got {weight_dtype}")
    path, training, model = Path(path), training or TrainingInfo(), unwrap(model)
    difference = model.nonstandard_part()
    if difference is not None:
        raise CheckpointError(
            f"{printable(path)} is not written: wavenet.load would not give this model back, since "
            f"it builds what the config says, and {difference}; save its state_dict with torch.save"
        )
    tensors = model.state_dict()
    for name, tensor in tensors.items():
        if not all_finite(tensor.to(getattr(torch, weight_dtype))):
            raise CheckpointError(f"{name} holds NaN or infinity: {printable(path)} is not written")
    _raise_if_not_replaceable(path)
    plain = to_file_dict(CheckpointConfig(model=model.config, audio=audio, training=training))
    with atomic_directory(path) as folder:
        _write_weights(folder / WEIGHTS, tensors, weight_dtype)
        plain["sha256"] = {"weights": file_digest(folder / WEIGHTS), "config": _digest(plain)}
        (folder / CONFIG).write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        (folder / CARD).write_text(model_card(model, audio, training), encoding="utf-8")


def load(path: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a model directory that `save` wrote; `wavenet.load` also takes names.

    Args:
        path: The directory.
        device: Where the weights go.

    Returns:
        The model in evaluation mode, the meaning of its audio, and what it was trained on.

    Raises:
        CheckpointError: A file is missing, damaged, of another kind, or of a newer format.
    """
    folder = Path(path)
    config = read_config(folder)
    model = meta_model(config.model)
    model.load_state_dict(_read_weights(folder, config, model), assign=True)
    return Checkpoint(model.to(device).eval(), config.audio, config.training)


def read_config(folder: Path) -> CheckpointConfig:
    """Read and verify the `config.json` of a model directory, without its weights."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(_why_no_model(folder))
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES:,} bytes")
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
        raise CheckpointError(f"{printable(path)} has format {config.format}, expected {FORMAT}")
    digests = plain.pop("sha256", None)
    if config.sha256 is None or _digest(plain | {"sha256": None}) != digests["config"]:
        raise CheckpointError(
            f"{printable(path)}: checksum differs, the file was damaged or edited: "
            "copy the model directory again"
        )
    return config


def all_finite(tensor: Tensor) -> bool:
    """Return whether a tensor of numbers holds neither NaN nor infinity, without a copy of it."""
    if bool(tensor.detach().sum().isfinite()):
        return True  # faster; large numbers may have an infinite sum
    return all(bool(bound.isfinite()) for bound in tensor.detach().aminmax())


def _write_weights(path: Path, tensors: Mapping[str, Tensor], dtype: FileDtype) -> None:
    """Write tensors in the layout of safetensors, one at a time.

    The library's `save` returns a copy of everything; its `save_file` writes through a mapping,
    where a full disk ends the process, and ignores the umask.
    """
    header: dict[str, Any] = {}
    code, own, end = DTYPE_NAMES[dtype], getattr(torch, dtype), 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + own.itemsize * tensor.numel()
        header[name] = {"dtype": code, "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in header:
            numbers = tensors[name].detach().to("cpu", own).contiguous()
            integers = numbers.view(torch.int16 if own.itemsize == 2 else torch.int32).numpy()
            file.write(integers.astype(f"<i{own.itemsize}", copy=False).data)


def _read_weights(folder: Path, config: CheckpointConfig, model: WaveNet) -> dict[str, Tensor]:
    """Return the weights of `model`, which has their names and shapes, as float32."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"{printable(folder)} has no {WEIGHTS}: copy the model directory again"
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    try:
        assert config.sha256 is not None
        if file_digest(path) != config.sha256.weights:
            raise CheckpointError(
                f"{printable(path)}: checksum differs from the one in {CONFIG}, the file was "
                "damaged or copied in part: copy the model directory again"
            )
        with safe_open(path, framework="pt", backend="pread") as file:  # a mapping could change
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 no dict
            found = {name: tuple(part.get_shape()) for name, part in slices.items()}
            dtypes = {part.get_dtype() for part in slices.values()}
            if dtypes not in ({one} for one in DTYPE_NAMES.values()):
                what = " and ".join(sorted(dtypes)) or "nothing"
                raise CheckpointError(f"{printable(path)} holds {what}, not F32 or BF16 throughout")
            if found != wanted:
                name = min(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
                raise CheckpointError(
                    f"{printable(path)}: tensor {printable(name)} is "
                    f"{found.get(name, 'missing')}, {CONFIG} requires {wanted.get(name, 'none')}"
                )
            # copied one at a time, to where torch aligns them
            return {name: file.get_tensor(name).to(torch.float32, copy=True) for name in wanted}
    except OSError as error:
        raise MachineError(f"cannot read {printable(path)}: {error.strerror}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{printable(path)}: {printable(error)}") from error


def _why_no_model(folder: Path) -> str:
    """Return a sentence on why `folder` is no model directory, and which one may be meant."""
    if not folder.exists():
        older = sorted(folder.parent.glob(f".{folder.name}.old-*")) if folder.name else []
        hint = f"; an interrupted save kept the previous one as {older[0]}" if older else ""
        return f"there is no model directory {printable(folder)}{hint}"
    if folder.is_file():
        return (
            f"{printable(folder)} is a file, not a model directory: give its folder, or convert "
            "another project's checkpoint with wavenet-import"
        )
    if (folder / "model" / CONFIG).is_file():
        return f"{printable(folder)} is a run: its model directory is {printable(folder / 'model')}"
    return f"{printable(folder)} is no model directory: it has no {CONFIG}"


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError("a key appears twice")
    return plain


def _digest(plain: Mapping[str, Any]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _raise_if_not_replaceable(path: Path) -> None:
    """Raise if saving would remove something other than a model directory."""
    found = "is a file" if path.exists() else None
    if path.is_dir():
        foreign = sorted({entry.name for entry in path.iterdir()} - {CONFIG, WEIGHTS, CARD})
        found = f"holds {printable(foreign[0])}" if foreign else None
    if found is not None:
        raise CheckpointError(
            f"{printable(path)} {found}: choose a new folder or an older model directory"
        )
