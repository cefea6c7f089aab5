"""`load`: which project a checkpoint is of, its config and statistics, and the importer for it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavenet.features.frame_file import HEADER_ERRORS
from wavenet.interop import herrmann, ibab, kan_bayashi, nv_wavenet, r9y9, ttslearn
from wavenet.interop.source import Fields, Imported, Source, Weights
from wavenet.interop.state_dicts import state_dict_of
from wavenet.interop.tensorflow import read_tensorflow
from wavenet.interop.torch_file import read_torch
from wavenet.utils.errors import CheckpointError, ConfigError, MachineError, printable, require
from wavenet.utils.strict_json import parse_json

Statistics = Path | str | Sequence[float]


class Kind(NamedTuple):
    """What tells a project's checkpoints, and how they are imported.

    Attributes:
        convert: The importer.
        weight: Name of a weight that only this kind has.
        config: Usual name of its config, if it has one.
    """

    convert: Callable[[Source], Imported]
    weight: str
    config: str | None


KINDS = {
    "r9y9": Kind(r9y9.convert, "conv_layers.0.conv1x1_skip.weight", "hparams.json"),
    "ttslearn": Kind(ttslearn.convert, "main_conv_layers.0.conv1x1_skip.weight", "model.yaml"),
    "kan_bayashi": Kind(kan_bayashi.convert, "dil_tanh.0.conv.weight", "model.conf"),
    "nv_wavenet": Kind(nv_wavenet.convert, "dilate_layers.0.conv.weight", "config.json"),
    "herrmann": Kind(herrmann.convert, "filter_convs.0.weight", None),
    "herrmann_2017_05": Kind(herrmann.convert_scalar, "dilated_convs.0.weight", None),
    "ibab": Kind(ibab.convert, "dilated_stack/layer0/filter", "wavenet_params.json"),
}
FOREIGN = {  # names of weights, or keys of the file, and what they are of
    r"conv_layers\.0\.conv1x1_aux\..*": "is a ParallelWaveGAN generator, which makes noise into "
    "audio in one pass and is no autoregressive model: wavenet.modules.compat has its stack",
    r"(?:.*\.)?in_layers\.0\..*|WN\.0\..*": "is a stack of a flow, as in WaveGlow and VITS, and no "
    "autoregressive model: wavenet.modules.compat has such stacks",
    r"embedding_prev": "is NVIDIA's sample model.pt, tables for its CUDA kernels without "
    "conditioning layers: name a checkpoint of its training, wavenet_NNN",
    r"main\.\d+\..*|main_convs\..*": "is a residual stack without gates and skips, an early form "
    "of vincentherrmann/pytorch-wavenet that is not imported",
    r"(?:encoder|decoder)\..*": "is a model of encoder and decoder, such as Tacotron 2, and no "
    "WaveNet",
    r"rnn\d?\..*|I\.weight|gru.*": "is a recurrent model, such as WaveRNN, and no WaveNet",
    r"stack\.blocks\.0\..*": "is of this package: give its model directory as checkpoint=",
}
STEPS = ("global_step", "iterations", "iteration", "steps", "step")
MAX_CONFIG_BYTES = 1 << 16  # they have some kB
MAX_CONFIG_DEPTH = 20


def load(
    path: Path | str,
    *,
    kind: str | None = None,
    config: Path | str | Mapping[str, Any] | None = None,
    sample_rate: int | None = None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    dtype: torch.dtype = torch.float32,
) -> Imported:
    """Load a model that another project trained; nothing in its files is run.

    Args:
        path: What `torch.save` wrote, or the prefix of a TensorFlow checkpoint. Its project is
            found from the names of its weights.
        kind: The project, one of `KINDS`, in place of the one that is found.
        config: The project's config, a file or its keys; by default the file of the usual name
            beside the checkpoint, if there is one.
        sample_rate: In Hz, where neither file nor config has it.
        mean: Of each mel band, or channel of other frames, a `.npy` file or numbers, where the
            project normalizes them.
        std: Deviation of each.
        dtype: Of the weights; float64 keeps what was folded exact.

    Returns:
        The model in evaluation mode, the meaning of its audio, what the file says about its
        training, and notes on what is not as in the other project.

    Raises:
        CheckpointError: The file is missing, damaged, foreign or incomplete.
        ConfigError: A config or an argument is missing or wrong.
        MachineError: A file cannot be read.
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"kind={printable(kind)} is unknown: the kinds are {', '.join(KINDS)}")
    return convert(
        path,
        read(path),
        kind=kind,
        config=config,
        sample_rate=sample_rate,
        mean=mean,
        std=std,
        dtype=dtype,
    )


class ReadFile(NamedTuple):
    """What a file holds: everything, the weights in it, and the number of updates."""

    contents: dict[str, Any]
    tensors: dict[str, Tensor]
    steps: int


def convert(
    path: Path,
    file: ReadFile,
    *,
    kind: str | None = None,
    config: Path | str | Mapping[str, Any] | None = None,
    sample_rate: int | None = None,
    mean: Statistics | None = None,
    std: Statistics | None = None,
    dtype: torch.dtype = torch.float32,
) -> Imported:
    """Import what was read from `path`, which is emptied; see `load`."""
    contents, tensors, steps = file
    try:
        importer, _, usual = _kind(contents, tensors, kind)
        fields, notes = _read_config(path, config, usual)
        attributes = contents.get("model", contents)
        named = isinstance(attributes, dict) and "_modules" in attributes
        attributes = dict(attributes) if named else {}
        contents.clear()  # an optimizer's state is twice as large as the weights
        source = Source(
            path=path,
            weights=Weights(tensors),
            attributes=attributes,
            config=fields,
            sample_rate=sample_rate,
            mean=_statistics("mean", mean),
            std=_statistics("std", std, positive=True),
            steps=steps,
            dtype=dtype,
        )
        tensors.clear()
        imported = importer(source)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)} {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error
    return imported._replace(notes=(*notes, *imported.notes))


def read(path: Path) -> ReadFile:
    """Return what a file of any project holds."""
    known_endings = re.search(r"\.(?:index|meta|data-\d+-of-\d+)$", path.name)
    is_prefix = path.name and path.with_name(f"{path.name}.index").exists()  # "." has no name
    if known_endings or is_prefix:
        tensors = ibab.select(read_tensorflow(path))
        found = re.search(r"ckpt-(\d{1,18})", path.name)
        return ReadFile({}, tensors, int(found[1]) if found else 0)
    contents = read_torch(path)
    steps = next((contents[key] for key in STEPS if type(contents.get(key)) is int), 0)
    try:
        tensors = state_dict_of(contents)
    except CheckpointError as error:
        foreign = _foreign(contents)
        raise CheckpointError(f"{printable(path)} {foreign or error}") from error
    return ReadFile(contents, dict(tensors), max(steps, 0))


def _kind(contents: Mapping[str, Any], tensors: Mapping[str, Tensor], given: str | None) -> Kind:
    names = {re.sub(r"\.parametrizations\.(\w+)\.original1$|_v$", _plain, name) for name in tensors}
    found = [name for name, kind in KINDS.items() if kind.weight in names]
    if given is not None and given not in found:
        hint = f"they are of kind {found[0]}" if found else "they are of no known kind"
        raise ConfigError(
            f"kind={given} does not fit the weights, which have no {KINDS[given].weight}: {hint}; "
            f"the kinds are {', '.join(KINDS)}"
        )
    if given is not None:
        return KINDS[given]
    foreign = _foreign({key: None for key in tensors if "conv1x1_aux" in key})
    if found and foreign is None:
        return KINDS[found[0]]
    foreign = _foreign(contents) or _foreign(tensors)
    if foreign is not None:
        raise CheckpointError(foreign)
    shown = ", ".join(printable(name) for name in sorted(tensors)[:3])
    raise CheckpointError(
        f"is of no project whose WaveNet is known here; its weights are {shown} and so on"
    )


def _plain(match: "re.Match[str]") -> str:
    return f".{match[1]}" if match[1] else ""


def _foreign(names: Mapping[str, Any]) -> str | None:
    """Return what a file with these names is, if it is a known one that is not imported."""
    for pattern, what in FOREIGN.items():
        if any(re.fullmatch(pattern, str(name)) for name in names):
            return what
    return None


def _read_config(
    path: Path, config: Path | str | Mapping[str, Any] | None, usual: str | None
) -> tuple[Fields, tuple[str, ...]]:
    """Return the config, and a note if it was found and not given."""
    if isinstance(config, Mapping):
        return Fields(config), ()
    if config is not None:
        return Fields(_read_keys(Path(config)), printable(Path(config).name)), ()
    beside = path.with_name(usual) if usual is not None else None
    if beside is None or not beside.is_file():
        return Fields(), ()
    return Fields(_read_keys(beside), usual or ""), (f"config={beside}, beside the checkpoint",)


def _read_keys(path: Path) -> Mapping[str, Any]:
    """Return the keys of a config in JSON, YAML or what `torch.save` wrote of a Namespace."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"config {printable(path)} has over {MAX_CONFIG_BYTES:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        problem = printable(error.strerror or error)
        raise ConfigError(f"config {printable(path)} cannot be read: {problem}") from error
    if data.startswith((b"PK", b"\x80")):
        try:
            return read_torch(path)
        except CheckpointError as error:
            raise ConfigError(f"config {error}") from error
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            keys = _read_yaml(data.decode("utf-8"), printable(path))
        else:
            keys = parse_json(data)
    except (ConfigError, MachineError):
        raise
    except Exception as error:
        raise ConfigError(f"config {printable(path)} is damaged: {printable(error)}") from error
    if not isinstance(keys, dict):
        raise ConfigError(f"config {printable(path)} holds no mapping of keys")
    return keys


def _read_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds; its time and memory are bounded by its length."""
    yaml, depth = require("yaml", "generate"), 0
    for event in yaml.parse(text):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"config {name} has aliases (*name), which nested in each other make values of any "
                "size: write the values out"
            )
        if depth > MAX_CONFIG_DEPTH:  # each token takes time by the depth
            raise ConfigError(f"config {name} is nested more than {MAX_CONFIG_DEPTH} deep")
    return yaml.safe_load(text)


def _statistics(
    name: str, given: Statistics | None, *, positive: bool = False
) -> tuple[float, ...] | None:
    """Return the mean or deviation of mel bands."""
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        try:
            numbers = np.load(given, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError, *HEADER_ERRORS) as error:
            raise ConfigError(
                f"{name}={printable(given)} cannot be read as a .npy array: {printable(error)}; "
                "numpy.save writes one, of the scaler's mean_ or scale_"
            ) from error
    else:
        numbers = np.asarray(given)
    good = isinstance(numbers, np.ndarray) and numbers.dtype.kind in "fiu" and numbers.size
    if not good or not np.isfinite(numbers).all() or (positive and numbers.min() <= 0):
        wanted = "positive numbers" if positive else "numbers"
        raise ConfigError(f"{name} must be {wanted}, one for each mel band or channel")
    return tuple(float(number) for number in numbers.astype(np.float64).flatten())
