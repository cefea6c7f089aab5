"""A trained model as a directory that can be shared: plain data, verified by checksums.

    config.json         format, config of the model, meaning of its audio, what it was trained on
    model.safetensors   weights, float32 or, at half the size, bfloat16
    README.md           model card

The config holds a SHA-256 of the weights and of itself. `load` compares the sizes in the config, in
the header of the weights and of the file with each other and with the memory, then verifies both
checksums. It refuses unknown and missing keys and tensors, and executes nothing from a file.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor, nn

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.model import WaveNet, meta_model, unwrap
from wavenet.model_card import TrainingInfo as TrainingInfo
from wavenet.model_card import model_card
from wavenet.model_directory import CONFIG as CONFIG
from wavenet.model_directory import how_it_lacks, why_no_model
from wavenet.utils.dataclass_io import from_dict, to_file_dict
from wavenet.utils.device import parse_device
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError, printable
from wavenet.utils.files import atomic_directory, file_digest
from wavenet.utils.memory import check_memory
from wavenet.utils.safetensors_file import StoredTensor, read_header, read_tensor, write_tensors
from wavenet.utils.strict_json import parse_json

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "README.md"
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
        write_tensors(folder / WEIGHTS, tensors, DTYPE_NAMES[weight_dtype])
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
        ConfigError: There is no such device.
        MachineError: A file cannot be read, or the weights need more memory than there is.
    """
    folder, target = Path(path), parse_device(device)
    config = read_config(folder)
    with _verified_weights(folder, config, to_load=True) as (file, tensors):
        model = meta_model(config.model)
        # One at a time, to where torch aligns them
        weights = {name: read_tensor(file, tensor) for name, tensor in tensors.items()}
    model.load_state_dict(weights, assign=True)
    return Checkpoint(model.to(target).eval(), config.audio, config.training)


def verify(path: Path | str) -> CheckpointConfig:
    """Return the config of a model directory of which both files are whole and fit each other.

    The weights are compared with their checksum, but not kept in memory.

    Raises:
        CheckpointError: As `load`.
    """
    folder = Path(path)
    config = read_config(folder)
    with _verified_weights(folder, config, to_load=False):
        return config


def read_config(folder: Path) -> CheckpointConfig:
    """Read and verify the `config.json` of a model directory, without its weights."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(why_no_model(folder))
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES:,} bytes")
        plain = parse_json(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {printable(error)}") from error
    version = plain.get("format") if isinstance(plain, dict) else None
    if type(version) is int and version > FORMAT:
        raise CheckpointError(
            f"{printable(path)} has format {printable(version, 20)}, this wavenet reads up to "
            f"{FORMAT}: pip install --upgrade torch-wavenet"
        )
    _raise_if_config_changed(path, plain)
    try:
        config = from_dict(CheckpointConfig, plain, CONFIG)
    except ConfigError as error:
        raise CheckpointError(f"{printable(folder)}: {error}") from error
    if config.format != FORMAT:
        raise CheckpointError(
            f"{printable(path)} has format {printable(config.format, 20)}, expected {FORMAT}"
        )
    if config.sha256 is None:
        raise CheckpointError(
            f"{printable(path)} holds no checksums, the file was edited: copy the model directory "
            "again"
        )
    return config


def _raise_if_config_changed(path: Path, plain: Any) -> None:
    """Raise if a config states another digest than its own; one that states none is let through."""
    digests = plain.get("sha256") if isinstance(plain, dict) else None
    stated = digests.get("config") if isinstance(digests, dict) else None
    if not isinstance(stated, str):
        return
    try:
        found = _digest(plain | {"sha256": None})
    except RecursionError:  # parsed, but too deep to be written again: none of ours
        return
    if found != stated:
        raise CheckpointError(
            f"{printable(path)} was changed: checksum differs, its digest is {found[:8]}, expected "
            f"{printable(stated[:8])}: copy the model directory again"
        )


def all_finite(tensor: Tensor) -> bool:
    """Return whether a tensor of numbers holds neither NaN nor infinity, without a copy of it."""
    if bool(tensor.detach().sum().isfinite()):
        return True  # faster; large numbers may have an infinite sum
    return all(bool(bound.isfinite()) for bound in tensor.detach().aminmax())


@contextlib.contextmanager
def _verified_weights(
    folder: Path, config: CheckpointConfig, *, to_load: bool
) -> Iterator[tuple[BinaryIO, dict[str, StoredTensor]]]:
    """Yield the file of the weights and what it holds, verified.

    What costs least comes first: the header must fit the file and the memory before it is compared
    with the config, and that before the weights are hashed.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(
            f"{printable(folder)} {how_it_lacks(folder, WEIGHTS)}: copy the model directory again"
        )
    try:
        with path.open("rb") as file:
            tensors = read_header(file)
            if to_load:
                numbers = sum(math.prod(tensor.shape) for tensor in tensors.values())
                check_memory(4 * numbers, f"loading {printable(path)}")  # as float32
            _raise_if_other_tensors(path, config.model, tensors)
            assert config.sha256 is not None
            if file_digest(file) != config.sha256.weights:
                raise CheckpointError(
                    f"{printable(path)}: checksum differs from the one in {CONFIG}, the file was "
                    "damaged or copied in part: copy the model directory again"
                )
            yield file, tensors
    except OSError as error:
        raise MachineError(f"cannot read {printable(path)}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(
            f"{printable(path)}: {error}; the file was damaged or copied in part: copy the model "
            "directory again"
        ) from error


def _raise_if_other_tensors(
    path: Path, config: WaveNetConfig, tensors: Mapping[str, StoredTensor]
) -> None:
    """Raise unless `tensors` have the names and shapes of a model's."""
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if dtypes not in ({one} for one in DTYPE_NAMES.values()):
        what = " and ".join(sorted(dtypes)) or "nothing"
        raise CheckpointError(f"{printable(path)} holds {what}, not F32 or BF16 throughout")
    context = () if config.local is None else config.local.context_dilations
    blocks = len(config.dilations) + len(context)
    if len(tensors) < 2 * blocks:  # each has more
        raise CheckpointError(
            f"{printable(path)} holds {len(tensors)} tensors, too few for the {blocks} blocks that "
            f"{CONFIG} requires"
        )
    wanted = tensor_shapes(config)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != wanted:
        name = min(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        raise CheckpointError(
            f"{printable(path)}: tensor {printable(name)} is {found.get(name, 'missing')}, "
            f"{CONFIG} requires {wanted.get(name, 'none')}"
        )


@lru_cache(maxsize=4)
def tensor_shapes(config: WaveNetConfig) -> Mapping[str, tuple[int, ...]]:
    """Return the names and shapes of a model's tensors.

    At most two blocks of a stack are built, since a thousand take seconds: all but the last have
    tensors of the same shapes, at any dilation.
    """
    numbers = {"stack.blocks": len(config.dilations)}
    few = dataclasses.replace(config, dilations=config.dilations[:2])
    if config.local is not None:
        context = config.local.context_dilations
        numbers["local_conditioner.context.blocks"] = len(context)
        local = dataclasses.replace(config.local, context_dilations=context[:2])
        few = dataclasses.replace(few, local=local)
    shapes = {name: tuple(tensor.shape) for name, tensor in meta_model(few).state_dict().items()}
    for stack, number in numbers.items():
        if number > 2:
            first, last = (_taken_out(shapes, f"{stack}.{index}.") for index in range(2))
            for index in range(number):
                block = last if index == number - 1 else first
                shapes |= {f"{stack}.{index}.{name}": shape for name, shape in block.items()}
    return shapes


def _taken_out(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    """Remove the names with a prefix; return what they had, without it."""
    names = [name for name in shapes if name.startswith(prefix)]
    return {name.removeprefix(prefix): shapes.pop(name) for name in names}


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
