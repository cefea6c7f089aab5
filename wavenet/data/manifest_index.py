"""Index of a manifest: its columns in a memory-mapped file, so that millions of clips open fast.

The index is derived from the manifest and can be removed at any time. It is a safetensors file with
its CRC-32 behind it, next to the manifest; all processes of a machine share its pages. It has the
manifest's modification time; if the two differ, as after a copy or an edit, the manifest's digest
decides whether it is valid.
"""

import contextlib
import json
import os
import struct
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import DataError, MachineError, printable
from wavenet.utils.files import atomic_file, file_digest

INDEX = "manifest.index"
CRC = "<I"  # of all before it, in the last bytes
FORMAT = 2  # one higher whenever columns change


@dataclass(frozen=True)
class ManifestInfo:
    """Properties of the manifest.

    Attributes:
        size: Bytes of the manifest.
        digest: SHA-256 of the manifest, in hex.
        speakers: Names in their order; a speaker's number is the place in it.
        sample_rates: Rates of clips, in Hz, in their order.
        splits: Clips of each split, in the order of `SPLITS`.
    """

    size: int
    digest: str
    speakers: tuple[str, ...]
    sample_rates: tuple[int, ...]
    splits: tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """Properties of every clip without parsing its line; `N` clips in the manifest's order.

    Attributes:
        about: Properties of the manifest.
        offset: Bytes before each line, and before the end, int64 `(N + 1,)`.
        frames: Samples, int64 `(N,)`.
        speaker: Numbers of the speakers, int32 `(N,)`.
        digest: SHA-256 of each file, uint8 `(N, 32)`.
        by_split: Places of the clips, those of the first split first, uint32 `(N,)`.
        path: Index file that the arrays are mapped from; absent if they are in memory.
    """

    about: ManifestInfo
    offset: NDArray[np.int64]
    frames: NDArray[np.int64]
    speaker: NDArray[np.int32]
    digest: NDArray[np.uint8]
    by_split: NDArray[np.uint32]
    path: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the path of the index, if there is one."""
        if self.path is None:
            return Columns, tuple(getattr(self, field.name) for field in fields(self))
        return _same, (self.path, self.about.digest)


def read_index(manifest: Path, size: int, mtime_ns: int) -> Columns | None:
    """Return the columns of a manifest of this size and time if the index is valid."""
    path = manifest.with_name(INDEX)
    columns = _load(path)
    if columns is None or columns.about.size != size:
        return None
    if path.stat().st_mtime_ns != mtime_ns:
        if file_digest(manifest) != columns.about.digest:
            return None
        with contextlib.suppress(OSError):  # a read-only folder: the digest is computed each time
            os.utime(path, ns=(mtime_ns, mtime_ns))
    return columns


def write_index(manifest: Path, columns: Columns, mtime_ns: int) -> Columns:
    """Write `columns` next to their manifest; return them mapped if the folder is writable."""
    path = manifest.with_name(INDEX)
    about = {"format": FORMAT, **to_dict(columns.about)}
    arrays = {name: getattr(columns, name) for name in _TYPES}
    try:
        with atomic_file(path) as temporary:
            data = save(arrays, {"about": json.dumps(about)})
            temporary.write_bytes(data + struct.pack(CRC, zlib.crc32(data)))
            os.utime(temporary, ns=(mtime_ns, mtime_ns))
    except MachineError:
        return columns
    return _load(path) or columns


def _load(path: Path, *, verified: bool = False) -> Columns | None:
    """Return the columns of an index file; `None` if it is missing or damaged."""
    try:
        data = np.memmap(path, np.uint8, "r")
        end = len(data) - struct.calcsize(CRC)
        if not verified and struct.pack(CRC, zlib.crc32(data[:end].data)) != data[end:].tobytes():
            return None
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        about = json.loads(header["__metadata__"]["about"])
        if about.pop("format") != FORMAT:
            return None
        arrays = {}
        for name, kind in _TYPES.items():
            first, stop = header[name]["data_offsets"]
            array = np.asarray(data)[start + first : start + stop].view(kind)
            arrays[name] = array.reshape(header[name]["shape"])
        return Columns(from_dict(ManifestInfo, about), **arrays, path=path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def _same(path: Path, digest: str) -> Columns:
    """Return the columns at `path`, which must be those of the manifest with this digest."""
    columns = _load(path, verified=True)  # by the process that sent it
    if columns is None or columns.about.digest != digest:
        raise DataError(f"{printable(path)} has changed: start again")
    return columns


_TYPES: dict[str, Any] = {
    "offset": np.int64,
    "frames": np.int64,
    "speaker": np.int32,
    "digest": np.uint8,
    "by_split": np.uint32,
}
