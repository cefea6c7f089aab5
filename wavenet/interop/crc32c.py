"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, on numpy.

A CRC is linear over bits: long data are cut into rows, all rows advance together byte by byte, and
the CRC of the rows before is carried over a row by tables of what as many zero bytes do.
"""

from functools import lru_cache, reduce
from operator import xor

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78  # bits reversed
MASK_DELTA = 0xA282EAD8
ROW_BYTES = 1024
MIN_BYTES = 1 << 16  # for fewer the plain loop is as fast

Words = NDArray[np.uint32]


def masked_crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """Return the CRC-32C of `data`, masked as TensorFlow and LevelDB store it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """Return the CRC-32C of `data`."""
    raw = np.frombuffer(data, np.uint8)
    crc, done = 0xFFFFFFFF, 0
    if len(raw) >= MIN_BYTES:
        rows = raw[: len(raw) // ROW_BYTES * ROW_BYTES].reshape(-1, ROW_BYTES)
        tables, done = _after_zero_row(), rows.size
        for of_row in _advance(np.zeros(len(rows), np.uint32), rows).tolist():
            crc = of_row ^ reduce(xor, (tables[i][crc >> 8 * i & 255] for i in range(4)))
    for byte in raw[done:].tolist():
        crc = TABLE_LIST[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> Words:
    """Return what one zero byte does to each low byte of a CRC, `(256,)`."""
    table: Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(POLYNOMIAL)
    return table


TABLE = _table()
TABLE_LIST: list[int] = TABLE.tolist()


def _advance(crcs: Words, rows: NDArray[np.uint8]) -> Words:
    for column in rows.T:
        crcs = TABLE[(crcs ^ column) & 255] ^ (crcs >> 8)
    return crcs


@lru_cache(maxsize=1)
def _after_zero_row() -> list[list[int]]:
    """Return what `ROW_BYTES` zero bytes do to byte `i` of a CRC, `(4, 256)`."""
    starts = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32)[:, None])
    zeros = np.broadcast_to(np.uint8(0), (1024, ROW_BYTES))
    after: list[list[int]] = _advance(starts.reshape(-1), zeros).reshape(4, 256).tolist()
    return after
