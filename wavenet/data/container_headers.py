"""Checks that a file holds as many bytes of samples as its header promises.

libsndfile reads most truncated files without an error, so their headers are read here too: chunks
(WAV, RF64, W64, AIFF), fixed headers (AU, NIST) and the pages of Ogg. The decoders of FLAC and MP3
notice by themselves.
"""

import re
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from wavenet.utils.errors import DataError, printable

MAX_CHUNKS = 4096  # before the samples; a real file has about ten
SAMPLES = (b"data", b"SSND", b"BODY")
UNKNOWN_SIZE = 0xFFFFFFFF  # of a chunk, in a header that was written to a stream
OGG_PAGE = 65307  # bytes, at most
OGG_END = 4  # flag of a stream's last page


class TruncatedAudio(DataError):
    """A file has fewer samples than its header promises."""


def check_whole(path: Path) -> None:
    """Raise `TruncatedAudio` unless `path` has the samples that its header promises."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(4)
        if start == b"OggS" and not _last_page(file, size).is_complete:
            raise TruncatedAudio(
                f"{printable(path)}: its last page is incomplete: the file is cut short, copy it "
                "again from its origin"
            )
        measured = _sample_bytes(file, size)
    if measured is None:
        return
    promised, found = measured[0], max(0, measured[1])
    if promised == UNKNOWN_SIZE or (promised == 0 and found > 0):
        raise TruncatedAudio(
            f"{printable(path)}: header has no length, a program wrote it as a "
            f"stream and {found} bytes follow: write it again, as in ffmpeg -i OLD NEW.wav"
        )
    if found < promised:
        raise TruncatedAudio(
            f"{printable(path)}: header promises {promised} bytes of samples, found "
            f"{found}: the file is cut short, copy it again from its origin"
        )


def has_open_end(path: Path) -> bool:
    """Return whether an Ogg file ends with a whole page that is not marked as the last.

    Some encoders mark none; a file that was cut between two pages looks the same.
    """
    with open(path, "rb") as file:
        is_ogg, page = file.read(4) == b"OggS", _last_page(file, path.stat().st_size)
    return is_ogg and page.is_complete and not page.is_marked


def _sample_bytes(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Return how many bytes of samples the header promises, and how many of `size` follow it.

    `None` if no header has the number.
    """
    file.seek(0)
    start = file.read(1024)
    if start[:4] in (b"RIFF", b"RF64"):
        return _chunks(file, size, 12, struct.Struct("<4sI"))
    if start[:4] in (b"RIFX", b"FORM"):
        return _chunks(file, size, 12, struct.Struct(">4sI"))
    if start[:4] == b"riff":
        return _chunks(file, size, 40, struct.Struct("<4s12xQ"))
    if start[:4] == b".snd" and len(start) >= 24:
        offset, promised = struct.unpack(">II", start[4:12])
        return promised, size - offset
    return _nist(start, size) if start[:7] == b"NIST_1A" else None


def _chunks(file: BinaryIO, size: int, first: int, header: struct.Struct) -> tuple[int, int] | None:
    """Walk from chunk to chunk, the first of them at byte `first`, until the samples."""
    wide = header.size == 24  # W64: a size counts the header, chunks begin at multiples of 8
    long_size = None
    file.seek(first)
    for _ in range(MAX_CHUNKS):
        entry = file.read(header.size)
        if len(entry) < header.size:
            return None
        start = file.tell()
        name, promised = header.unpack(entry)
        if wide:
            promised = max(0, promised - header.size)
        if name in SAMPLES:
            known = long_size if promised == UNKNOWN_SIZE and long_size is not None else promised
            return known, size - start
        if name == b"ds64":
            (long_size,) = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))
        file.seek(min(size, start + promised + -promised % (8 if wide else 2)))
    return None


def _nist(start: bytes, size: int) -> tuple[int, int] | None:
    """Read the text header of NIST Sphere, such as `sample_count -i 46797`."""
    fields = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d{1,15})\n", start)}
    names = (b"sample_count", b"sample_n_bytes", b"channel_count")
    coded = b"sample_coding" in start and b"sample_coding -s3 pcm\n" not in start
    if coded or any(name not in fields for name in names):
        return None
    count, width, channels = (fields[name] for name in names)
    return count * width * channels, size - int(start[8:15].strip() or b"1024")


class _Page(NamedTuple):
    """The last page of an Ogg file."""

    is_complete: bool
    is_marked: bool  # as the last


def _last_page(file: BinaryIO, size: int) -> _Page:
    file.seek(max(0, size - OGG_PAGE))
    tail = file.read(OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:
        return _Page(is_complete=False, is_marked=False)
    segments = page[27 : 27 + page[26]]
    whole = len(page) >= 27 + page[26] + sum(segments)
    return _Page(is_complete=whole, is_marked=bool(page[5] & OGG_END))
