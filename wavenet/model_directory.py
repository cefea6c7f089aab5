"""Where a model is, by its name, and that it is there: known before torch is imported.

    runs/demo/model         a model directory
    NAME                    one of the models that ship, or of the folders in WAVENET_MODELS
    owner/name@revision     a repository on the Hugging Face hub, see wavenet.hub

In this order: what exists as a path is never looked for elsewhere.
"""

import os
from pathlib import Path

from wavenet.model_card import HUB_ID
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import CheckpointError, printable
from wavenet.utils.files import leftovers

CONFIG = "config.json"  # a model directory has it
SHIPPED = Path(__file__).with_name("shipped")
MORE_MODELS = "WAVENET_MODELS"  # environment variable: more folders like SHIPPED, as in PATH


def check_model(name: Path | str) -> None:
    """Raise a `CheckpointError` if there is no such model here and its name is none on the hub."""
    folder = find_local(name)
    if folder is not None and not (folder / CONFIG).is_file():
        raise CheckpointError(why_no_model(folder))


def find_local(name: Path | str) -> Path | None:
    """Return the folder of a model; `None` if its name is that of a repository on the hub.

    Raises:
        CheckpointError: The name is neither a path nor that of a model.
    """
    path = Path(name)
    if isinstance(name, Path) or path.exists() or leftovers(path.parent, path.name):
        return path
    by_name = folders_by_name()
    if name in by_name:
        return by_name[name]
    if HUB_ID.fullmatch(name) is not None:
        return None
    if path.name == name:
        known = nearest(name, by_name) if by_name else "; none ships with this version"
        raise CheckpointError(
            f"there is no model directory {printable(name)} and no model of that name{known}; one "
            "on the Hugging Face hub is named owner/name"
        )
    return path


def folders_by_name() -> dict[str, Path]:
    """Return the model directories that have a name, sorted by it; those that ship win."""
    folders = [Path(folder) for folder in os.environ.get(MORE_MODELS, "").split(os.pathsep)]
    found = {
        config.parent.name: config.parent
        for folder in [*(folder for folder in reversed(folders) if folder.name), SHIPPED]
        for config in folder.glob(f"*/{CONFIG}")
    }
    return dict(sorted(found.items()))


def why_no_model(folder: Path) -> str:
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
