"""The inputs below a folder: where each one's recording goes, and with which seed it is drawn.

All of it follows from an input's name, so that jobs that share out a folder need not know of each
other, and one that was killed is simply started again.
"""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wavenet.config import AudioConfig
from wavenet.data.preparation.sources import CONTAINERS
from wavenet.generation.options import GenerateCommand
from wavenet.utils.errors import ConfigError, DataError, MachineError, printable

RECORDINGS = tuple(f".{suffix}" for suffix in CONTAINERS)
MELS = (".npy", ".safetensors")
SCORES = (".csv",)


@dataclass(frozen=True)
class Input:
    """A file below the folder.

    Attributes:
        name: Its path relative to the folder, with forward slashes, without suffix.
        path: Where it is.
        output: Where its recording goes.
        size: Bytes.
    """

    name: str
    path: Path
    output: Path
    size: int

    def seed(self, seed: int) -> int:
        """Return the seed of its noise: the first 63 bits of the SHA-256 of `SEED:NAME`.

        A single recording of the same input that is drawn with it is the same.

        Args:
            seed: The command's.
        """
        text = f"{seed}:{self.name}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def input_folder(options: GenerateCommand) -> Path | None:
    """Return the folder whose files are spoken or gone on from; `None` for a single recording.

    Raises:
        ConfigError: Input, prompt, output and shard do not go together.
    """
    said = {"input": options.input, "prompt": options.prompt}
    given = {name: Path(path) for name, path in said.items() if path is not None}
    folders = {name: path for name, path in given.items() if path.is_dir()}
    output = Path(options.output)
    if not folders:
        if options.shard is not None:
            raise ConfigError("shard shares out a folder: say input=FOLDER or prompt=FOLDER")
        if output.is_dir():
            raise ConfigError(
                f"output {printable(output)} is a folder, and there is one input: say "
                "output=NAME.wav, or give a folder of inputs"
            )
        return None
    ((name, folder), *_) = folders.items()
    if len(given) > 1:
        raise ConfigError(f"{name} is a folder: then input and prompt do not go together, say one")
    if not output.is_dir() and (output.exists() or output.suffix.lower() == ".wav"):
        raise ConfigError(
            f"{name} is a folder, so output must be one too, got {printable(output)}: say "
            "output=FOLDER"
        )
    whole = output.resolve()
    if whole == folder.resolve() or folder.resolve() in whole.parents:
        raise ConfigError(
            f"output {printable(output)} lies in {name}, where it would be taken for an input: "
            "choose another folder"
        )
    return folder


def suffixes_taken(options: GenerateCommand, audio: AudioConfig) -> tuple[str, ...]:
    """Return the suffixes of what a model can be given: its features decide."""
    if options.prompt is not None:
        return RECORDINGS
    return (
        *RECORDINGS,
        *(MELS if tuple(audio.features) == ("mel",) else ()),
        *(SCORES if tuple(audio.features) == ("score",) else ()),
    )


def inputs_below(folder: Path, output: Path, suffixes: Collection[str]) -> list[Input]:
    """Return the inputs below a folder, ordered by name.

    Hidden files and folders, and linked folders, are left alone. A score beside a recording of its
    name belongs to that recording.

    Args:
        folder: Where to look.
        output: The folder of recordings to be.
        suffixes: In small letters.

    Raises:
        ConfigError: Two inputs would have one output.
        DataError: There is none.
        EnvironmentFault: A folder cannot be read.
    """
    names = sorted(
        Path(place, name).relative_to(folder).as_posix()
        for place, folders, files in os.walk(folder, onerror=_unreadable)
        for name in _visible(folders, files)
        if PurePosixPath(name).suffix.lower() in suffixes
    )
    if not names:
        raise DataError(
            f"{printable(folder)} holds no input: looked, in all folders below, for names in "
            f"{' '.join(sorted(suffixes))}"
        )
    recordings = {_stem(name) for name in names if not _is_score(name)}
    taken: dict[str, str] = {}
    for name in names:
        stem = _stem(name)
        if _is_score(name) and stem in recordings:
            continue
        if stem in taken:
            both = f"{printable(taken[stem])} and {printable(name)}"
            raise ConfigError(
                f"{both} would both be spoken to {printable(stem)}.wav: rename one of them"
            )
        taken[stem] = name
    return [
        Input(stem, folder / name, output / f"{stem}.wav", _size(folder / name))
        for stem, name in taken.items()
    ]


def _visible(folders: list[str], files: list[str]) -> list[str]:
    """Return the files that are not hidden; hidden folders are not entered."""
    folders[:] = [name for name in folders if not name.startswith(".")]
    return [name for name in files if not name.startswith(".")]


def _stem(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _is_score(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SCORES


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing: reading it says so
        return 0


def _unreadable(error: OSError) -> None:
    raise MachineError(f"cannot list {printable(error.filename)}: {error.strerror}")
