"""The list of clips in a prepared folder: `manifest.jsonl`, one JSON object a line.

The file is the only source of truth. `Manifest` presents it as a sequence of clips that are read
one by one, and as columns (`wavenet.data.manifest_index`), so that opening millions of clips is
cheap.
"""

import dataclasses
import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from wavenet.data.manifest_index import INDEX, Columns, ManifestInfo, read_index, write_index
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import atomic_file
from wavenet.utils.strict_json import parse_json

Column = TypeVar("Column", bound=np.generic)

MANIFEST = "manifest.jsonl"
Split = Literal["train", "valid", "test"]
HEX = re.compile("[0-9a-f]{64}")
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Clip:
    """One prepared file: mono 16-bit WAV.

    Attributes:
        path: Its path, relative to the manifest's folder, with forward slashes.
        frames: Samples in it.
        sample_rate: Samples a second, in Hz.
        speaker: Name of the speaker; empty if unknown.
        split: `train`, `valid` or `test`.
        digest: SHA-256 of the file, in hex.
        source: The recording that it comes from, relative to the root that was prepared.
        start: Its first sample within the source, counted at `sample_rate`.
        notes: Its score, relative to the manifest's folder; empty if there is none.
        frames_file: Its frames of `audio.frames`, likewise.
        frames_digest: SHA-256 of that file, in hex.
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
    frames_file: str = ""
    frames_digest: str = ""

    def __post_init__(self) -> None:
        named = (("path", self.path), ("notes", self.notes), ("frames_file", self.frames_file))
        for name, path in named:
            if not path and name != "path":
                continue
            parts = path.split("/")
            if path.startswith("/") or ".." in parts or set(parts) <= {"", "."}:
                raise ConfigError(f"{name} must lie inside the folder, got {printable(path)!r}")
        for name, least in (("frames", 1), ("sample_rate", 1), ("start", 0)):
            value = getattr(self, name)
            if not least <= value < 2**63:
                bound = f"{least} or more" if value < least else "under 2**63"
                raise ConfigError(f"{name} must be {bound}, got {printable(value, 40)}")
        if not HEX.fullmatch(self.digest):
            raise ConfigError(f"digest must be 64 hex digits, got {printable(self.digest)!r}")


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write `clips` to the file `path` atomically, and an index next to it."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for clip in clips:
            plain = dataclasses.asdict(clip)
            if not clip.frames_file:  # the digest of other folders stays as it was
                del plain["frames_file"], plain["frames_digest"]
            file.write(json.dumps(plain) + "\n")
    _columns(path)


def read_manifest(folder: Path, split: str | None = None) -> "Manifest":
    """Return the clips that `folder/manifest.jsonl` lists, in its order.

    The first call reads every line and writes an index, with which later calls are fast.

    Args:
        folder: A prepared folder.
        split: Return the clips of this split only.

    Raises:
        ConfigError: `split` is none of train, valid and test.
        DataError: There is no manifest, or a line of it is not a clip.
    """
    if split is not None:
        _number(split)  # before the work
    manifest = Manifest(folder, _columns(folder / MANIFEST))
    return manifest if split is None else manifest.of_split(split)


class Manifest(Sequence[Clip]):
    """Clips of a prepared folder, read only: all of them, a split, or a slice of these.

    A clip is parsed from its line at each access and not cached. Properties of all clips are
    columns. Pickling sends the path of the index to another process.

    Args:
        folder: The prepared folder.
        columns: Of its manifest.
        by_split: Count clips in the order of the splits, not of the manifest.
        part: Which of them; absent for all.
    """

    def __init__(
        self, folder: Path, columns: Columns, by_split: bool = False, part: range | None = None
    ) -> None:
        self.folder = folder
        self._columns = columns
        self._by_split = by_split
        self._part = range(len(columns.frames)) if part is None else part
        self._where = printable(folder / MANIFEST)

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, in hex: it changes with any clip of the folder."""
        return self._columns.about.digest

    @property
    def identity(self) -> DataIdentity:
        """What identifies the folder's clips and their splits."""
        train, valid, test = self._columns.about.splits
        return DataIdentity(digest=self.digest, train=train, valid=valid, test=test)

    @property
    def sample_rates(self) -> tuple[int, ...]:
        """Rates of the folder's clips, in Hz."""
        return self._columns.about.sample_rates

    @property
    def frames(self) -> NDArray[np.int64]:
        """Samples of each clip, `(N,)`."""
        return self._of(self._columns.frames)

    @property
    def speakers(self) -> NDArray[np.int32]:
        """Speaker of each clip, `(N,)`: index into the folder's sorted names."""
        return self._of(self._columns.speaker)

    @property
    def digests(self) -> NDArray[np.uint8]:
        """SHA-256 of each clip's file, `(N, 32)`."""
        return self._of(self._columns.digest)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the speakers, sorted, without the empty one."""
        known = self._columns.about.speakers
        return tuple(known[number] for number in np.unique(self.speakers) if known[number])

    def of_split(self, split: str) -> "Manifest":
        """Return the clips of one split of the folder."""
        counts, number = self._columns.about.splits, _number(split)
        first = sum(counts[:number])
        part = range(first, first + counts[number])
        return Manifest(self.folder, self._columns, by_split=True, part=part)

    def __len__(self) -> int:
        return len(self._part)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> "Manifest": ...
    def __getitem__(self, index: int | slice) -> "Clip | Manifest":
        if isinstance(index, slice):
            return Manifest(self.folder, self._columns, self._by_split, self._part[index])
        return next(self._read([self._part[index]]))

    def __iter__(self) -> Iterator[Clip]:
        return self._read(self._part)

    def _of(self, column: NDArray[Column]) -> NDArray[Column]:
        part = self._part
        places: Any = slice(part.start, part.stop) if part.step == 1 else list(part)
        rows = self._columns.by_split[places] if self._by_split else places
        return cast("NDArray[Column]", column[rows])

    def _fits(self, clip: Clip, place: int) -> bool:
        """Whether a clip is of the split that its place implies."""
        if not self._by_split:
            return True
        ends = np.cumsum(self._columns.about.splits)
        return SPLITS[int(np.searchsorted(ends, place, side="right"))] == clip.split

    def _parse(self, line: bytes, row: int) -> Clip:
        """Return the clip of a line, whose types were checked when the index was written."""
        try:
            return Clip(**json.loads(line))
        except (TypeError, ValueError, AttributeError):
            return _clip(line, self._where, row)  # the error says what is wrong

    def _read(self, places: Iterable[int]) -> Iterator[Clip]:
        columns = self._columns
        try:
            with (self.folder / MANIFEST).open("rb") as file:
                for place in places:
                    row = int(columns.by_split[place]) if self._by_split else place
                    start, stop = (int(x) for x in columns.offset[row : row + 2])
                    file.seek(start)
                    clip = self._parse(file.read(stop - start), row)
                    if clip.frames != columns.frames[row] or not self._fits(clip, place):
                        raise DataError(
                            f"{self._where}, line {row + 1}, does not match its index: one of them "
                            f"has changed; remove {INDEX} there, and start again"
                        )
                    yield clip
        except OSError as error:
            raise DataError(f"{self._where} cannot be read: {error.strerror}") from error


def frames_of(clips: Sequence[Clip]) -> NDArray[np.int64]:
    """Return the samples of each of some clips, `(N,)`."""
    if isinstance(clips, Manifest):
        return clips.frames
    return np.array([clip.frames for clip in clips], np.int64)


def speakers_of(clips: Sequence[Clip]) -> NDArray[np.int32]:
    """Return a number for the speaker of each of some clips, `(N,)`, in the order of the names."""
    if isinstance(clips, Manifest):
        return clips.speakers
    numbers = {name: n for n, name in enumerate(sorted({clip.speaker for clip in clips}))}
    return np.array([numbers[clip.speaker] for clip in clips], np.int32)


def digests_of(clips: Sequence[Clip]) -> NDArray[np.uint8]:
    """Return the SHA-256 of each clip's file, `(N, 32)`."""
    if isinstance(clips, Manifest):
        return clips.digests
    found = b"".join(bytes.fromhex(clip.digest) for clip in clips)
    return np.frombuffer(found, np.uint8).reshape(-1, 32)


def _number(split: str) -> int:
    """Return the place of `split` among the splits."""
    names = [str(name) for name in SPLITS]
    if split not in names:
        raise ConfigError(f"split must be one of {', '.join(names)}, got {printable(split)!r}")
    return names.index(split)


def _columns(path: Path) -> Columns:
    """Return the columns of a manifest, from its index or, for the first time, from its lines."""
    try:
        status = path.stat()
        return read_index(path, status.st_size, status.st_mtime_ns) or write_index(
            path, _indexed(path), status.st_mtime_ns
        )
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{printable(path.parent)} holds no {MANIFEST}: prepare it with wavenet-prepare"
        ) from None


def _indexed(path: Path) -> Columns:
    """Return the columns of a manifest from a look at every line."""
    digest, where = hashlib.sha256(), printable(path)
    offset, frames, speaker, split = array("q", [0]), array("q"), array("q"), array("b")
    digests, numbers, rates = bytearray(), dict[str, int](), set[int]()
    with path.open("rb") as file:
        for row, line in enumerate(file):
            clip = _clip(line, where, row)
            digest.update(line)
            offset.append(offset[-1] + len(line))
            frames.append(clip.frames)
            speaker.append(numbers.setdefault(clip.speaker, len(numbers)))
            split.append(SPLITS.index(clip.split))
            digests += bytes.fromhex(clip.digest)
            rates.add(clip.sample_rate)
    names = sorted(numbers)
    order = np.zeros(len(names), np.int32)  # of the names, for the order in which they came
    order[[numbers[name] for name in names]] = np.arange(len(names))
    splits = np.array(split)
    return Columns(
        ManifestInfo(
            size=offset[-1],
            digest=digest.hexdigest(),
            speakers=tuple(names),
            sample_rates=tuple(sorted(rates)),
            splits=tuple(np.bincount(splits, minlength=len(SPLITS)).tolist()),
        ),
        offset=np.array(offset),
        frames=np.array(frames),
        speaker=order[np.array(speaker)],
        digest=np.frombuffer(digests, np.uint8).reshape(-1, 32),
        by_split=np.argsort(splits, kind="stable").astype(np.uint32),
    )


def _clip(line: bytes, where: str, row: int) -> Clip:
    place = f"{where}, line {row + 1}"
    try:
        return from_dict(Clip, parse_json(line), place)
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not text ({error}): prepare the folder again") from None
    except (ConfigError, ValueError) as error:
        reason = str(error) if isinstance(error, ConfigError) else f"{place}: {error}"
        raise DataError(f"{reason}; prepare the folder again") from None
