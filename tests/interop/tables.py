"""TensorFlow's index tables, written by a second implementation for the tests."""

import itertools
import struct


def crc32c(data: bytes) -> int:
    """Return the CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Return the masked CRC-32C that a table holds."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    """Return `value` in groups of 7 bits, the lowest first."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a value and the position after it."""
    value = shift = 0
    while data[at] > 127:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def table_blocks(index: bytes) -> list[tuple[int, int]]:
    """Return offset and size of the block of the index, and of the first block of entries."""
    at = len(index) - 48
    for _ in range(2):
        _, at = read_varint(index, at)
    offset, at = read_varint(index, at)
    size, _ = read_varint(index, at)
    at = offset
    for _ in range(3):
        length, at = read_varint(index, at)
    handle = index[at + index[offset + 1] :][:length]
    first, at = read_varint(handle, 0)
    return [(offset, size), (first, read_varint(handle, at)[0])]


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """Return a protocol buffer of numbers and bytes."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            encoded += varint(number << 3 | 2) + varint(len(value)) + value
    return encoded


def entry(dtype: int, shape: list[int], data: bytes, *, shard: int = 0, offset: int = 0) -> bytes:
    """Return the BundleEntryProto of a tensor whose bytes are `data`."""
    dimensions = [(2, message((1, size))) for size in shape]
    place = message((1, dtype), (2, message(*dimensions)), (3, shard), (4, offset), (5, len(data)))
    return place + varint(6 << 3 | 5) + struct.pack("<I", masked(data))


def block(pairs: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """Return a block with its trailer; keys share what they can with the key before."""
    content, last = b"", b""
    for key, value in pairs:
        equal = (a == b for a, b in zip(key, last, strict=False))
        shared = len(list(itertools.takewhile(bool, equal)))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value))
        content += key[shared:] + value
        last = key
    content += struct.pack("<II", 0, 1) + bytes([compression])
    return content + struct.pack("<I", masked(content))


def table(pairs: list[tuple[bytes, bytes]], compression: int = 0, repeats: int = 1) -> bytes:
    """Return an index file with one block of entries, which is referred to `repeats` times."""
    entries = block(pairs, compression)
    metadata = block([])
    handle = varint(0) + varint(len(entries) - 5)
    index = block([(b"~", handle)] * repeats)
    footer = varint(len(entries)) + varint(len(metadata) - 5)
    footer += varint(len(entries) + len(metadata)) + varint(len(index) - 5)
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return entries + metadata + index + footer.ljust(40, b"\0") + magic
