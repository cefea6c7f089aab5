"""What `torch.save` wrote, read without torch's or Python's loader, so that nothing in it runs.

Two containers hold a pickle and the numbers of its tensors:

    zip     since torch 1.6: NAME/data.pkl, and NAME/data/KEY for each storage
    legacy  since torch 0.1.10: five pickles in a row, then count and numbers of each storage

`wavenet.interop.opcodes` reads the pickles, `Contents` turns their records into plain values.
"""

import contextlib
import io
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.interop.contents import Contents, storage_of
from wavenet.interop.foreign import describe_foreign
from wavenet.interop.opcodes import MAX_PICKLE_BYTES, Persistent, PickleReader, read_pickle
from wavenet.utils.errors import CheckpointError, MachineError, printable

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LEGACY_START = re.compile(  # protocol, since 4 the length of a frame, the number
    rb"(?s)\x80[\x02-\x05](?:\x95.{8})?\x8a\x0a" + re.escape(LEGACY_MAGIC.to_bytes(10, "little"))
)
MAX_STORAGES = 20_000
CHUNK_BYTES = 1 << 20


def read_torch(path: Path | str) -> dict[str, Any]:
    """Return what `torch.save` wrote to `path`, as plain values. Nothing in it is run.

    Each tensor is on the CPU, without gradient, with the dtype that it was saved with. Tuples and
    sets become lists. An object, a pickled module among them, becomes a dict of its attributes with
    the name of its class under `__class__`, and arguments under `__args__`; a name becomes text. A
    reference from inside a container to itself becomes None.

    Args:
        path: A file of torch 0.1.10 or newer: a state dict, a training checkpoint, a module.

    Raises:
        CheckpointError: There is no such file, it is damaged or foreign, holds no dict or module,
            or calls what no model needs.
        MachineError: The file cannot be read.
    """
    path = Path(path)
    try:
        with opened(path) as file:
            return _read(file)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path)} {error}") from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; errors of `CheckpointError` do not name it yet.

    Raises:
        CheckpointError: There is no such file.
        MachineError: It cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            found = "is a folder" if path.is_dir() else "is no regular file"
            raise CheckpointError(f"{found}: name the checkpoint file")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError("does not exist: name the checkpoint file") from error
    except OSError as error:
        problem = printable(error.strerror or error)
        raise MachineError(f"cannot read {printable(path)}: {problem}") from error


def _read(file: BinaryIO) -> dict[str, Any]:
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    tail = file.read()
    file.seek(0)
    head = file.read(4096)
    file.seek(0)
    if LEGACY_START.match(head):
        return _read_legacy(file, size)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(file, size)
    raise CheckpointError(describe_foreign(head, tail))


def read_numbers(file: "Readable", dtype: torch.dtype, numel: int) -> Tensor:
    """Return the next `numel` little-endian numbers of `file`, `(numel,)`, in memory once."""
    raw = torch.empty(numel * dtype.itemsize, dtype=torch.uint8)
    view: NDArray[np.uint8] = raw.numpy()
    done = 0
    while done < len(view):
        chunk = file.read(min(CHUNK_BYTES, len(view) - done))
        if not chunk:
            raise CheckpointError("is truncated: copy it again")
        view[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    return raw.view(dtype)


class Readable(Protocol):
    """A file, or an entry of a zip file."""

    def read(self, size: int, /) -> bytes: ...


# Legacy files


def _read_legacy(file: BinaryIO, size: int) -> dict[str, Any]:
    pickles = PickleReader(file.read(MAX_PICKLE_BYTES))
    magic, protocol, system = (read_pickle(pickles)[0] for _ in range(3))
    if [magic, protocol] != [LEGACY_MAGIC, LEGACY_PROTOCOL]:
        raise CheckpointError("is damaged in its first numbers: copy it again")
    if _little_endian(system) is not True:
        raise CheckpointError("was written on a big-endian machine: save it again on another")
    value, persistent = read_pickle(pickles)
    keys, _ = read_pickle(pickles)
    positions = _legacy_positions(file, pickles.tell(), size, keys, persistent)

    def read_storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        file.seek(positions[key])
        return read_numbers(file, dtype, numel)

    return Contents(read_storage, size).to_dict(value)


def _little_endian(system: Any) -> Any:
    pairs = getattr(system, "pairs", [])
    return next(
        (pairs[i + 1] for i in range(0, len(pairs), 2) if pairs[i] == "little_endian"), None
    )


def _legacy_positions(
    file: BinaryIO, position: int, size: int, keys: Any, persistent: list[Persistent]
) -> dict[str, int]:
    """Return where each storage's numbers start; they must fill the file to its end."""
    known = {storage.key: storage for storage in map(storage_of, persistent)}
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
        raise CheckpointError(f"has no list of at most {MAX_STORAGES:,} storages: copy it again")
    positions: dict[str, int] = {}
    for key in keys:
        storage = known.get(key) if isinstance(key, str) else None
        file.seek(position)
        count = file.read(8)
        if storage is None or key in positions or len(count) < 8:
            raise CheckpointError("is damaged in its list of storages: copy it again")
        (numel,) = struct.unpack("<q", count)
        positions[key] = position + 8
        position += 8 + numel * storage.dtype.itemsize
        if numel != storage.numel or position > size:
            raise CheckpointError(
                f"is truncated or damaged: storage {printable(key)} has {numel} numbers, expected "
                f"{storage.numel} in {size:,} bytes: copy it again"
            )
    if position != size or len(positions) != len(known):
        raise CheckpointError("does not end where its storages end, it is damaged: copy it again")
    return positions


# Zip files


class _LimitedFile(io.RawIOBase):
    """A file whose reads are limited: `zipfile` reads the list of all entries at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if offset < 0 and whence == io.SEEK_SET:
            raise zipfile.BadZipFile("an entry starts before the file")
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1, /) -> bytes:
        limit = MAX_PICKLE_BYTES + 1
        data = self.file.read(limit if size < 0 else min(size, limit))
        if len(data) == limit:
            raise CheckpointError(f"has a pickle or a list of entries over {limit - 1:,} bytes")
        return data


def _read_zip(file: BinaryIO, size: int) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(_LimitedFile(file)) as archive:
            entries = _zip_entries(archive)
            folder = _zip_folder(entries)
            pickle = entries[f"{folder}/data.pkl"]
            order = entries.get(f"{folder}/byteorder")
            if order is not None and archive.read(order) != b"little":
                raise CheckpointError("was written on a big-endian machine: save it again")
            value, _ = read_pickle(PickleReader(archive.read(pickle)))

            def read_storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
                entry = entries.get(f"{folder}/data/{key}")
                if entry is None or entry.file_size != numel * dtype.itemsize:
                    found = "no numbers" if entry is None else f"{entry.file_size} bytes"
                    raise CheckpointError(
                        f"has {found} for storage {printable(key)}, expected "
                        f"{numel * dtype.itemsize} bytes: copy it again"
                    )
                with archive.open(entry) as numbers:
                    return read_numbers(numbers, dtype, numel)  # compares the checksum

            return Contents(read_storage, size).to_dict(value)
    except (
        *(zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, RuntimeError),
        *(ValueError, struct.error),
    ) as error:
        raise CheckpointError(
            f"is a damaged zip file ({printable(error)}): copy it again; one saved with "
            "set_crc32_options(False) has no checksums, save it again with them"
        ) from error


def _zip_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name, all of them plain bytes of the file."""
    if any(re.fullmatch(r"[^/]+/(?:constants\.pkl|code/.*)", name) for name in archive.namelist()):
        raise CheckpointError(
            "is a TorchScript archive, which is a program: load it with torch.jit.load where you "
            "trust it and save its state_dict() with torch.save"
        )
    if len(archive.infolist()) > MAX_STORAGES:
        raise CheckpointError(f"has more than {MAX_STORAGES:,} entries: save its state dict alone")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not plain or entry.file_size != entry.compress_size:
            raise CheckpointError(
                f"has a compressed or encrypted entry {printable(entry.filename)}, torch.save "
                "writes none: unpack an archive, or save the model again"
            )
        if entry.filename in entries:
            raise CheckpointError(f"has two entries {printable(entry.filename)}: copy it again")
        entries[entry.filename] = entry
    return entries


def _zip_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    """Return the folder of the entries of `torch.save`."""
    folders = [name[: -len("/data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(folders) != 1 or "/" in folders[0]:
        raise CheckpointError(
            "is a zip file that torch.save did not write: unpack it and name the checkpoint in it"
        )
    return folders[0]
