"""Which files below a folder are recordings, by their suffix."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wavenet.config import FramesConfig
from wavenet.data.manifest import Split
from wavenet.utils.errors import DataError, MachineError, printable

CONTAINERS = {  # suffix: libsndfile's names of what such a file holds
    **dict.fromkeys(("wav", "wave", "bwf", "rf64"), ("WAV", "WAVEX", "RF64")),
    **dict.fromkeys(("ogg", "oga", "opus"), ("OGG",)),
    **dict.fromkeys(("mp1", "mp2", "mp3"), ("MP3",)),
    **dict.fromkeys(("aif", "aiff", "aifc"), ("AIFF",)),
    **dict.fromkeys(("au", "snd"), ("AU",)),
    **dict.fromkeys(("svx", "8svx", "16svx"), ("SVX",)),
    **dict.fromkeys(("nist", "sph"), ("NIST", "WAV")),
    **dict.fromkeys(("sf", "ircam"), ("IRCAM",)),
    **{name: (name.upper(),) for name in ("flac", "caf", "w64", "voc", "avr", "paf", "pvf")},
}


@dataclass(frozen=True)
class Source:
    """An audio file below the root.

    Attributes:
        name: Path relative to the root, with forward slashes.
        path: Where it is.
        size: Bytes.
        mtime_ns: When it was last written, in nanoseconds.
        speaker: Name of the speaker; empty if unknown.
        notes: Its score, a CSV file with a line `onset,offset,pitch` (seconds, seconds, MIDI
            number) a note; absent if there is none.
        frames: Shape of its frames; absent if the model has none of `audio.frames`.
        frames_place: The file of its frames is beside this, a recording or not.
        frames_file: That file; absent if there is none, or not one.
        split: Where a folder or a list puts it; absent if the splits are drawn.
    """

    name: str
    path: Path
    size: int
    mtime_ns: int
    speaker: str = ""
    notes: Path | None = None
    frames: FramesConfig | None = None
    frames_place: Path | None = None
    frames_file: Path | None = None
    split: Split | None = None

    @property
    def suffix(self) -> str:
        """Suffix in small letters, without the dot."""
        return PurePosixPath(self.name).suffix[1:].lower()

    def folder_speaker(self, below_split: bool) -> str:
        """Return the first folder of the name, or the second below that of a split, or nothing."""
        folders = PurePosixPath(self.name).parts[below_split:-1]
        return folders[0] if folders else ""

    @property
    def digest(self) -> str:
        """SHA-256 of the name: an order that neither the disk nor the alphabet decides."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class SourceListing:
    """What lies below a root.

    Attributes:
        sources: Audio files, ordered by name.
        others: Count of the other files by suffix (`no suffix` for none), the most first.
        hidden: Files and folders left alone because their names start with a dot.
        linked_folders: Symbolic links to folders, which are not followed.
    """

    sources: tuple[Source, ...]
    others: tuple[tuple[str, int], ...]
    hidden: int
    linked_folders: int

    def with_speakers(self, speaker_of: Callable[[Source], str | None]) -> "SourceListing":
        """Return the same with speakers; audio without one counts as an other file."""
        taken, others = [], Counter(dict(self.others))
        for source in self.sources:
            speaker = speaker_of(source)
            if speaker is None:
                others[source.suffix] += 1
            else:
                taken.append(dataclasses.replace(source, speaker=speaker))
        return dataclasses.replace(self, sources=tuple(taken), others=most_first(others))


def find_sources(root: Path) -> SourceListing:
    """List the audio files below `root`.

    Raises:
        DataError: `root` is not a folder, or holds no audio.
        MachineError: A folder below `root` cannot be read.
    """
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{printable(root)} {problem}: data.root must be a folder of audio files")
    found = list_files(root, root)
    if not found.sources:
        raise DataError(_nothing(root, found))
    return found


def list_files(
    root: Path, *tops: Path, suffixes: Collection[str] = CONTAINERS.keys()
) -> SourceListing:
    """List what lies below those of `tops` that are folders, with names relative to `root`.

    Args:
        root: What names are relative to.
        *tops: Folders at or below the root.
        suffixes: Of the sources, in small letters, without the dot.

    Raises:
        MachineError: A folder cannot be read.
    """
    sources, others, hidden, linked = [], Counter[str](), 0, 0
    walks = (os.walk(top, onerror=_unreadable) for top in tops if top.is_dir())
    for folder, folders, names in itertools.chain.from_iterable(walks):
        visible = sorted(name for name in folders if not name.startswith("."))
        hidden += len(folders) - len(visible)
        folders[:] = [name for name in visible if not Path(folder, name).is_symlink()]
        linked += len(visible) - len(folders)
        for name in names:
            suffix = PurePosixPath(name).suffix[1:].lower()
            if name.startswith("."):
                hidden += 1
            elif suffix in suffixes:
                sources.append(_source(root, Path(folder, name)))
            else:
                others[suffix or "no suffix"] += 1
    ordered = tuple(sorted(sources, key=lambda source: source.name))
    return SourceListing(ordered, most_first(others), hidden, linked)


def most_first(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    """Return counts by name, the highest first."""
    return tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _source(root: Path, path: Path) -> Source:
    size = mtime_ns = 0
    with contextlib.suppress(OSError):  # a broken link: reading it raises
        status = path.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
    return Source(path.relative_to(root).as_posix(), path, size, mtime_ns)


def _nothing(root: Path, found: SourceListing) -> str:
    others = ", ".join(f"{count} {printable(suffix, 20)}" for suffix, count in found.others[:8])
    hidden = f"{found.hidden} hidden" if found.hidden else ""
    linked = f"{found.linked_folders} linked folders" if found.linked_folders else ""
    seen = ", ".join(text for text in (others, hidden, linked) if text) or "nothing"
    return (
        f"{printable(root)} holds no audio: found {seen}; looked, in all folders below, for names "
        f"in .{' .'.join(sorted(CONTAINERS))}; convert other formats, as in ffmpeg -i OLD NEW.wav"
    )


def _unreadable(error: OSError) -> None:
    raise MachineError(
        f"cannot list {printable(error.filename)}: {error.strerror}; "
        "give yourself the right to read it"
    )
