"""TensorFlow V2 checkpoints, `PREFIX.index` and `PREFIX.data-*`, read without TensorFlow.

The index is a LevelDB table: blocks of entries whose keys share a prefix with the key before, and
a footer of 48 bytes. A value is a protocol buffer: dtype, shape, and place in a data file.

tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/lib/io/table_format.txt.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from wavenet.interop.contents import MAX_DIMENSIONS, is_shape
from wavenet.interop.crc32c import masked_crc32c
from wavenet.interop.foreign import TENSORFLOW_MAGIC
from wavenet.interop.torch_file import opened, read_numbers
from wavenet.utils.errors import CheckpointError, printable

DTYPES = {  # by their number in types.proto
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    19: torch.float16,
}
STRING = 7  # holds names, not weights
FOOTER_BYTES, TRAILER_BYTES = 48, 5  # after a block: its compression, its checksum
MAX_INDEX_BYTES, MAX_KEY_BYTES, MAX_ENTRIES, MAX_SHARDS = 16 << 20, 1024, 20_000, 1000


def read_tensorflow(prefix: Path | str) -> dict[str, Tensor]:
    """Return the variables of a TensorFlow V2 checkpoint by name; text is left out.

    Args:
        prefix: `model.ckpt-1000` for `model.ckpt-1000.index` and
            `model.ckpt-1000.data-00000-of-00001`; the name of either file will do.

    Raises:
        CheckpointError: A file is missing, damaged or of the V1 format of 2016, or compressed.
        MachineError: A file cannot be read.
    """
    prefix = _prefix(Path(prefix))
    index = prefix.with_name(f"{prefix.name}.index")
    if prefix.is_file() and not index.exists():
        raise CheckpointError(
            f"{printable(prefix)} has no .index file beside it; if it is a V1 checkpoint of 2016, "
            "load it with TensorFlow and save it with tf.train.Saver(write_version=2)"
        )
    try:
        with opened(index) as file:
            size = index.stat().st_size
            if size > MAX_INDEX_BYTES:
                raise CheckpointError(f"has {size:,} bytes, which is no index: name another file")
            shards, entries = _entries(file.read())
    except CheckpointError as error:
        raise CheckpointError(f"{printable(index)} {error}") from error
    return _read_shards(prefix, shards, entries)


def _prefix(path: Path) -> Path:
    stem, _, ending = path.name.rpartition(".")
    is_file_of_it = ending in ("index", "meta") or ending.startswith("data-")
    return path.with_name(stem) if stem and is_file_of_it else path


class Entry(NamedTuple):
    """Where a variable lies: data file and offset in it, and what its bytes mean."""

    dtype: torch.dtype
    shape: list[int]
    shard: int
    offset: int
    size: int
    crc: int


def _read_shards(prefix: Path, shards: int, entries: dict[str, Entry]) -> dict[str, Tensor]:
    variables: dict[str, Tensor] = {}
    for shard in range(shards):
        path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        try:
            with opened(path) as file:
                size = unread = path.stat().st_size
                for name, entry in entries.items():
                    if entry.shard == shard:
                        unread -= entry.size
                        if unread < 0 or entry.offset + entry.size > size:
                            raise CheckpointError(
                                "is truncated, or variables overlap in it: copy it again"
                            )
                        variables[name] = _read_variable(file, name, entry)
        except CheckpointError as error:
            raise CheckpointError(f"{printable(path)} {error}") from error
    return {name: variables[name] for name in entries}


def _read_variable(file: BinaryIO, name: str, entry: Entry) -> Tensor:
    file.seek(entry.offset)
    flat = read_numbers(file, entry.dtype, math.prod(entry.shape))
    if masked_crc32c(flat.view(torch.uint8).numpy()) != entry.crc:
        raise CheckpointError(f"is damaged at {printable(name)}, checksum differs: copy it again")
    return flat.reshape(entry.shape)


def _entries(index: bytes) -> tuple[int, dict[str, Entry]]:
    """Return the number of data files, and the variables by name."""
    if len(index) < FOOTER_BYTES or not index.endswith(TENSORFLOW_MAGIC):
        raise CheckpointError("is no index of a TensorFlow V2 checkpoint, or truncated")
    try:
        return _parse_table(index)
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise CheckpointError(f"is a damaged index ({printable(error)}): copy it again") from error


def _parse_table(index: bytes) -> tuple[int, dict[str, Entry]]:
    footer = index[-FOOTER_BYTES:]
    _, position = _varint(footer, 0)  # handle of the block of metadata: offset and size
    _, position = _varint(footer, position)
    entries: dict[str, Entry] = {}
    shards, count, end = 0, 0, 0
    for _, handle in _block(index, footer[position:]):
        offset, position = _varint(handle, 0)
        if offset < end:
            raise CheckpointError("is damaged: its blocks overlap: copy it again")
        end = offset + _varint(handle, position)[0]
        for key, value in _block(index, handle):
            count += 1
            if count > MAX_ENTRIES:
                raise CheckpointError(f"has more than {MAX_ENTRIES:,} entries: is it a model?")
            if not key:
                shards = _number_of_shards(_fields(value))
                continue
            entry = _entry(_fields(value), key.decode())
            if entry is not None:
                entries[key.decode()] = entry
    if any(entry.shard >= shards for entry in entries.values()):
        raise CheckpointError("is damaged: a variable is in a data file that does not exist")
    if not entries:
        raise CheckpointError("holds no variables: name the checkpoint of a model")
    return shards, entries


def _block(index: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of the block at `handle`: the varints offset and size."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    end = offset + size
    if size < 4 or end + TRAILER_BYTES > len(index) - FOOTER_BYTES:
        raise CheckpointError("is damaged: a block does not fit: copy it again")
    compression, crc = struct.unpack_from("<BI", index, end)
    if compression:
        raise CheckpointError(
            "is a compressed table, which TensorFlow does not write for checkpoints: save it again"
        )
    if masked_crc32c(index[offset : end + 1]) != crc:
        raise CheckpointError("is damaged, checksum of a block differs: copy it again")
    block = index[offset:end]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    key, position = b"", 0
    while position < size - 4 - 4 * restarts:
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or shared + added > MAX_KEY_BYTES:
            raise CheckpointError("is damaged: a key does not fit: copy it again")
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return an integer of 7 bits a byte, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise IndexError("a number does not end")


def _fields(message: bytes) -> dict[int, list[Any]]:
    """Return the values of a protocol buffer by field: integers, or bytes."""
    fields: dict[int, list[Any]] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        value: int | bytes | None = None
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value = int.from_bytes(message[position : position + length], "little")
            position += length
        if value is None or position > len(message):
            raise IndexError("a message is cut")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _integer(fields: dict[int, list[Any]], number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise TypeError("a message has bytes in place of a number")
    return value


def _number_of_shards(header: dict[int, list[Any]]) -> int:
    """Return field 1 of a BundleHeaderProto; field 2 is the byte order."""
    shards = _integer(header, 1)
    if _integer(header, 2) != 0:
        raise CheckpointError("was written on a big-endian machine: save it again on another")
    if not 1 <= shards <= MAX_SHARDS:
        raise CheckpointError(f"is damaged: it has {shards} data files: copy it again")
    return shards


def _entry(fields: dict[int, list[Any]], name: str) -> Entry | None:
    """Return the meaning of a BundleEntryProto, None for text."""
    kind = _integer(fields, 1)
    if kind == STRING:
        return None
    if kind not in DTYPES or 7 in fields:
        found = "in slices" if 7 in fields else f"of dtype {kind}"
        raise CheckpointError(
            f"has {printable(name)} {found}, which is not read: save it as an unpartitioned "
            "variable of float32"
        )
    dimensions = _fields(b"".join(fields.get(2, []))).get(2, [])
    shape = [_integer(_fields(dimension), 1) for dimension in dimensions]
    entry = Entry(DTYPES[kind], shape, *(_integer(fields, number) for number in (3, 4, 5, 6)))
    if not is_shape(shape) or entry.size != math.prod(shape) * entry.dtype.itemsize:
        raise CheckpointError(
            f"is damaged: {printable(name)} has shape {shape[:MAX_DIMENSIONS]} in {entry.size} "
            "bytes: copy it again"
        )
    return entry
