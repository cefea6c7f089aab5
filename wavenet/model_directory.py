"""Where a model is, by its name, and that it is there: known before torch is imported.

    runs/demo/model         a model directory
    NAME                    one of the models that ship, or of the folders in WAVENET_MODELS
    owner/name@revision     a repository on the Hugging Face hub, see wavenet.hub

In this order: what exists as a path is never looked for elsewhere. A name that is more likely a
path with a typing error is not looked for on the hub either, unless it has a revision.
"""

import contextlib
import difflib
import errno
import os
from pathlib import Path

from wavenet.model_card import HUB_ID
from wavenet.utils.dataclass_io import nearest
from wavenet.utils.errors import CheckpointError, printable
from wavenet.utils.files import leftovers

CONFIG = "config.json"  # a model directory has it
SHIPPED = Path(__file__).with_name("shipped")
MAX_SHOWN = 5  # model directories that an error names
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
        TypeError: It is no name at all.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(
            f"the name of a model must be a string or a Path, got {type(name).__name__}"
        )
    if name == "":
        raise CheckpointError(f"the name of a model is empty; expected {', '.join(_names())}")
    path = Path(name)
    try:
        exists = path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise CheckpointError(
            f"there is no model directory {printable(name)}: its name is too long"
        ) from error
    if isinstance(name, Path) or exists or leftovers(path.parent, path.name):
        return path
    by_name = folders_by_name()
    if name in by_name:
        return by_name[name]
    if str(path) in by_name:  # a shell completes the name of a folder with a slash
        raise CheckpointError(
            f"there is no model directory {printable(name)}; did you mean {str(path)!r}, the name "
            "of a model?"
        )
    match = HUB_ID.fullmatch(name)
    if match is not None and (match["revision"] or not _looks_local(path)):
        return None
    if path.name == name:
        known = nearest(name, by_name) if by_name else "; none ships with this version"
        raise CheckpointError(
            f"there is no model directory {printable(name)} and no model of that name{known}; one "
            "on the Hugging Face hub is named owner/name"
        )
    raise CheckpointError(f"{why_no_model(path)}; expected {', '.join(_names())}")


def _looks_local(path: Path) -> bool:
    """Return whether a name `a/b` is a path: `a` is a folder here, or it is the model of a run."""
    return path.name == "model" or path.parent.is_dir()


def _names() -> list[str]:
    """Return what a name may be, in words."""
    shipped = f"the name of a model ({', '.join(folders_by_name()) or 'none ships'})"
    return ["a model directory", shipped, "or owner/name@main on the Hugging Face hub"]


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
        return f"there is no model directory {printable(folder)}{hint or nearest_model(folder)}"
    if folder.is_file():
        return (
            f"{printable(folder)} is a file, not a model directory: give its folder, or convert "
            "another project's checkpoint with wavenet-import"
        )
    if (folder / "model" / CONFIG).is_file():
        return f"{printable(folder)} is a run: its model directory is {printable(folder / 'model')}"
    return f"{printable(folder)} is no model directory: it {how_it_lacks(folder, CONFIG)}"


def how_it_lacks(folder: Path, name: str) -> str:
    """Return the predicate of a folder without a regular file `name`."""
    is_other = (folder / name).exists()
    return f"has a {name} that is no regular file" if is_other else f"has no {name}"


def nearest_model(folder: Path) -> str:
    """Return `; did you mean 'x'?` for the model directory whose path is most like `folder`.

    Without one, return which model directories the nearest folder that exists has, or nothing.
    """
    found = Path(folder.anchor)
    complete = True
    for part in folder.relative_to(folder.anchor).parts:
        close = [part] if (found / part).is_dir() else _similar_folders(found, part)
        if not close:
            complete = False
            break
        found /= close[0]
    if complete:
        for one in (found, found / "model"):
            if (one / CONFIG).is_file():
                return f"; did you mean {printable(one)!r}?"
    with contextlib.suppress(OSError):
        models = [file.parent for way in ("*", "*/model") for file in found.glob(f"{way}/{CONFIG}")]
        if models:
            shown = ", ".join(printable(one) for one in sorted(models)[:MAX_SHOWN])
            place = "this folder" if found == Path() else printable(found)
            return f"; {place} has {shown}{', ...' * (len(models) > MAX_SHOWN)}"
    return ""


def _similar_folders(folder: Path, name: str) -> list[str]:
    """Return the name of the folder in `folder` that is most like `name`, if one is like it."""
    with contextlib.suppress(OSError):
        names = [one.name for one in folder.iterdir() if one.is_dir() and one.name[0] != "."]
        return difflib.get_close_matches(name, sorted(names), n=1)
    return []
