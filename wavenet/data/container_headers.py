"""Checks that a file holds the samples that its headers promise, and that all of them are read.

libsndfile reads most truncated files without an error, so their headers are read here too: chunks
(WAV, RF64, W64, AIFF), fixed headers (AU, NIST) and the pages of Ogg (RFC 3533), each with its
checksum. The decoders of FLAC and MP3 notice by themselves.
"""

import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wavenet.utils.errors import DataError, printable

MAX_CHUNKS = 4096  # before the samples; a real file has about ten
SAMPLES = (b"data", b"SSND", b"BODY")
UNKNOWN_SIZE = 0xFFFFFFFF  # of a chunk, in a header that was written to a stream
OGG_PAGE = b"OggS"
OGG_PAGE_HEADER = 27  # bytes, before the sizes of its segments
OGG_FIRST, OGG_LAST = 2, 4  # flags of a stream's first and last page
OPEN_END = "its end is not marked: whole, or cut between two Ogg pages"
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class TruncatedAudio(DataError):
    """Fewer samples of a file can be read than it promises."""


def check_whole(path: Path) -> None:
    """Raise `TruncatedAudio` unless all samples that `path` promises can be read."""
    size = path.stat().st_size
    recordings, was_first = 1, True
    with open(path, "rb") as file:
        for flags in _ogg_pages(file, path):
            is_first = bool(flags & OGG_FIRST)  # streams side by side have all their first pages
            recordings += is_first and not was_first  # before any other
            was_first = is_first
        measured = _sample_bytes(file, size)
    if recordings > 1:
        raise TruncatedAudio(
            f"{printable(path)}: {recordings} recordings one after the other in one Ogg file, of "
            "which the first alone is read: split it into a file for each"
        )
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
    try:
        with open(path, "rb") as file:
            last = deque(_ogg_pages(file, path), maxlen=1)
    except TruncatedAudio:
        return False
    return bool(last) and not last[0] & OGG_LAST


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


def _ogg_pages(file: BinaryIO, path: Path) -> Iterator[int]:
    """Yield the flags of each page of an Ogg file, none of another file; keep one page in memory.

    Raises:
        TruncatedAudio: A page is damaged, incomplete or missing.
    """
    file.seek(0)
    start, flags = 0, 0
    numbers: dict[bytes, int] = {}  # of the last page of each stream
    while header := file.read(OGG_PAGE_HEADER):
        if header[:4] != OGG_PAGE[: len(header)]:
            if start == 0 or (flags & OGG_LAST and not _has_page(file, header)):
                return  # no Ogg, or something else after the audio, such as an ID3 tag
            raise _damaged_page(path, start)
        sizes = file.read(header[26]) if len(header) == OGG_PAGE_HEADER else b""
        body = file.read(sum(sizes))
        is_whole = len(header + sizes) == OGG_PAGE_HEADER + header[-1] and len(body) == sum(sizes)
        if not is_whole and OGG_PAGE not in body:
            raise TruncatedAudio(
                f"{printable(path)}: its last page is incomplete: the file is cut short, copy it "
                "again from its origin"
            )
        zeroed = header[:22] + bytes(4) + header[26:] + sizes + body
        if not is_whole or _ogg_checksum(zeroed) != int.from_bytes(header[22:26], "little"):
            raise _damaged_page(path, start)
        flags, stream = header[5], header[14:18]
        number = int.from_bytes(header[18:22], "little")
        if not flags & OGG_FIRST and number != numbers.get(stream, number - 1) + 1:
            raise TruncatedAudio(
                f"{printable(path)}: before byte {start} an Ogg page is missing: copy the file "
                "again from its origin"
            )
        numbers[stream] = number
        yield flags
        start += len(zeroed)


def _damaged_page(path: Path, start: int) -> TruncatedAudio:
    return TruncatedAudio(
        f"{printable(path)}: its Ogg page at byte {start} is damaged, and what follows may be "
        "lost: copy the file again from its origin"
    )


def _has_page(file: BinaryIO, block: bytes) -> bool:
    """Return whether a page begins in `block` or in what follows in `file`."""
    while OGG_PAGE not in block:
        more = file.read(2**16)
        if not more:
            return False
        block = block[-3:] + more
    return True


def _ogg_checksum(page: bytes) -> int:
    """Return the CRC of a page whose own CRC is set to 0.

    Its polynomial is that of `zlib.crc32`, which takes the bits of each byte in reverse order, and
    inverts its first and its last value.
    """
    reflected = zlib.crc32(page.translate(REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(REVERSED_BITS), "big")
