"""The list of clips in a prepared folder: `manifest.jsonl`, one JSON object a line."""

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from wavenet.errors import ConfigError, DataError, printable
from wavenet.files import write_text
from wavenet.plain import from_dict

MANIFEST = "manifest.jsonl"
Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Clip:
    """One prepared file: mono 16-bit WAV.

    Attributes:
        path: Where it is, relative to the manifest's folder, with forward slashes.
        frames: Samples in it.
        sample_rate: Samples a second, in Hz.
        speaker: Who is heard; empty where that is not said.
        split: What it is for.
        digest: SHA-256 of the file, in hex.
        source: The recording that it comes from, relative to the root that was prepared.
        start: Its first sample within the source, counted at `sample_rate`.
        notes: Its score, relative to the manifest's folder; empty where there is none.
    """

    path: str
    frames: int
    sample_rate: int
    speaker: str
    split: Split
    digest: str
    source: str
    start: int
    notes: str = ""

    def __post_init__(self) -> None:
        for name, path in (("path", self.path), ("notes", self.notes or "none")):
            parts = PurePosixPath(path).parts
            if not parts or path.startswith("/") or ".." in parts:
                raise ConfigError(f"{name} must lie inside the folder, got {printable(path)!r}")
        for name, least in (("frames", 1), ("sample_rate", 1), ("start", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not re.fullmatch("[0-9a-f]{64}", self.digest):
            raise ConfigError(f"digest must be 64 hex digits, got {printable(self.digest)!r}")


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write `clips` to the file `path`, atomically."""
    lines = [json.dumps(dataclasses.asdict(clip)) + "\n" for clip in clips]
    write_text(path, "".join(lines))


def read_manifest(folder: Path, split: str | None = None) -> list[Clip]:
    """Return the clips that `folder/manifest.jsonl` lists, in its order.

    Args:
        folder: A prepared folder.
        split: Return the clips of this split only.

    Raises:
        ConfigError: `split` is none of train, valid and test.
        DataError: There is no manifest, or a line of it is not a clip.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {printable(split)!r}")
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{printable(folder)} holds no {MANIFEST}: prepare it with wavenet-prepare"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{printable(path)}: not text ({error}): prepare it anew") from None
    lines = text.removesuffix("\n").split("\n") if text else []
    clips = [_clip(line, f"{printable(path)}, line {n}") for n, line in enumerate(lines, 1)]
    return [clip for clip in clips if split in (None, clip.split)]


def _clip(line: str, where: str) -> Clip:
    try:
        return from_dict(Clip, json.loads(line), where)
    except (ConfigError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"{where}: {error}"
        raise DataError(f"{reason}; prepare the folder anew") from None
