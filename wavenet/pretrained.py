"""Models by name: a folder, a model that ships with this package, or a repository on the hub.

    wavenet.load("runs/demo/model")        a model directory
    wavenet.load("NAME")                   one of wavenet.models()
    wavenet.load("owner/name@revision")    a repository on the Hugging Face hub, see wavenet.hub

In this order: what exists as a path is never looked for elsewhere.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from wavenet import checkpoint
from wavenet.checkpoint import Checkpoint, read_config
from wavenet.hub import download
from wavenet.model_card import HUB_ID, inputs_of
from wavenet.model_directory import find_local, folders_by_name, nearest_model
from wavenet.utils.device import parse_device
from wavenet.utils.errors import CheckpointError, MachineError


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model that can be loaded by its name alone.

    Attributes:
        name: For `wavenet.load` and `checkpoint=`.
        conditioning: What it is conditioned on, such as `("mel", "speaker")`; empty for nothing.
        sample_rate: In Hz.
        bits_per_sample: Of the validation during training that chose the weights; an evaluation of
            test recordings, as in `docs/models.md`, has others. `None` if that was not measured.
        license: License of its weights; `None` if it states none.
    """

    name: str
    conditioning: tuple[str, ...]
    sample_rate: int
    bits_per_sample: float | None
    license: str | None


def load(name: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a model by folder, by name or from the Hugging Face hub.

    Args:
        name: A model directory that `save` wrote, a name of `models()`, or a repository
            `owner/name` or `owner/name@revision` (extra `hub`). An existing path wins; a `Path` is
            a model directory.
        device: Where the weights go.

    Returns:
        The model in evaluation mode, the meaning of its audio, and what it was trained on.

    Raises:
        CheckpointError: There is no such model, or a file is missing, damaged, of another kind, or
            of a newer format.
        ConfigError: There is no such device.
        MachineError: The hub cannot be reached, or the extra `hub` is not installed.

    Example:
        >>> import wavenet
        >>> model, audio, training = wavenet.load("demo_voice")
        >>> audio.sample_rate, training.license
        (8000, 'CC-BY-SA-3.0')
    """
    target = parse_device(device)  # before anything is downloaded
    return checkpoint.load(find_model(name), target)


def models() -> list[ModelInfo]:
    """Return the models that ship with this package, and those in folders of `WAVENET_MODELS`.

    Raises:
        CheckpointError: The config of one is damaged or of a newer format.
    """
    found = []
    for name, folder in folders_by_name().items():
        config = read_config(folder)
        found.append(
            ModelInfo(
                name=name,
                conditioning=inputs_of(config.model, config.audio),
                sample_rate=config.audio.sample_rate,
                bits_per_sample=config.training.bits_per_sample,
                license=config.training.license,
            )
        )
    return found


def find_model(name: Path | str, *, weights: bool = True) -> Path:
    """Return the model directory of a name, see `load`; it is not verified.

    Args:
        name: A folder, a name of `models()`, or `owner/name[@revision]`.
        weights: Also fetch the weights of a model on the hub.

    Raises:
        CheckpointError: There is no such model; the message lists where it was looked for.
        MachineError: The hub cannot be reached, or the extra `hub` is not installed.
    """
    found = find_local(name)
    if found is not None:
        return found
    match = HUB_ID.fullmatch(str(name))
    assert match is not None
    try:
        return download(match["repo"], match["revision"], weights=weights)
    except (CheckpointError, MachineError) as error:
        raise type(error)(
            f"there is no model directory {name} and no model of that name in this package"
            f"{nearest_model(Path(name))}; on the Hugging Face hub: {error}"
        ) from error
