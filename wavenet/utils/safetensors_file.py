"""Files in the layout of safetensors, whose claims are checked before anything is read.

    8 bytes     length of the header, little endian
    header      JSON: dtype, shape and place of each tensor by name; `__metadata__`, text by name
    numbers     of all tensors, without gaps

The library accepts a key that appears twice and has no limit that suits us: a header of 28 MB takes
it 11 s and 1.1 GiB.
"""

import json
import math
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavenet.utils.errors import printable
from wavenet.utils.strict_json import parse_json

MAX_HEADER_BYTES = 8 << 20  # 20,000 tensors; a model has some hundred
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
TYPES = {"F32": torch.float32, "BF16": torch.bfloat16}  # that we write, and read ourselves


class StoredTensor(NamedTuple):
    """Where a tensor is in a file."""

    dtype: str  # of `ITEM_BYTES`
    shape: tuple[int, ...]
    start: int  # of its bytes, counted in the file
    stop: int


def read_header(file: BinaryIO) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name, in the order of their numbers.

    Takes time and memory by `MAX_HEADER_BYTES` at most, whatever the file claims.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged or cut: the message says what is wrong, without the file's name.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= size - 8:
        raise ValueError(f"its header claims {length:,} bytes, the file has {size:,}")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes, expected {MAX_HEADER_BYTES:,} at most")
    plain = parse_json(file.read(length))
    if not isinstance(plain, dict):
        raise ValueError("its header is no mapping of names")
    metadata = plain.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())
    ):
        raise ValueError("its metadata is no mapping of text")
    found = {name: _stored(name, entry, 8 + length) for name, entry in plain.items()}
    tensors = dict(sorted(found.items(), key=lambda item: item[1][2:]))
    end = 8 + length
    for name, tensor in tensors.items():
        if tensor.start != end:
            raise ValueError(f"tensor {printable(name)} does not begin where the one before ends")
        end = tensor.stop
    if end != size:
        raise ValueError(f"its header promises {end:,} bytes, found {size:,}")
    return tensors


def check_safetensors(path: Path) -> None:
    """Raise as `read_header` does for a file that the library reads next."""
    with open(path, "rb") as file:
        read_header(file)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], dtype: str) -> None:
    """Write tensors, converted to `dtype`, one of `TYPES`, one at a time.

    The library's `save` returns a copy of everything; its `save_file` writes through a mapping,
    where a full disk ends the process, and ignores the umask.
    """
    header: dict[str, Any] = {}
    own, end = TYPES[dtype], 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + own.itemsize * tensor.numel()
        header[name] = {"dtype": dtype, "shape": [*tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in header:
            numbers = tensors[name].detach().to("cpu", own).contiguous()
            integers = numbers.view(torch.int16 if own.itemsize == 2 else torch.int32).numpy()
            file.write(integers.astype(f"<i{own.itemsize}", copy=False).data)


def read_tensor(file: BinaryIO, stored: StoredTensor) -> Tensor:
    """Return a tensor of `TYPES` as float32, in memory of its own.

    Raises:
        ValueError: The file is shorter than it was.
    """
    tensor = torch.empty(stored.shape, dtype=TYPES[stored.dtype])
    width = ITEM_BYTES[stored.dtype]
    integers = tensor.view(-1).view(torch.int16 if width == 2 else torch.int32).numpy()
    file.seek(stored.start)
    if integers.size and file.readinto(integers.view(np.uint8).data) != integers.nbytes:  # type: ignore[attr-defined]
        raise ValueError("it was cut while it was read")
    if sys.byteorder == "big":
        integers.byteswap(inplace=True)
    return tensor.float()


def _stored(name: str, entry: object, offset: int) -> StoredTensor:
    """Return an entry of the header, checked by itself."""
    where = f"tensor {printable(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} has other keys than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{where} has an unknown dtype, {printable(dtype, 40)}")
    if not (_are_counts(shape) and _are_counts(offsets)) or len(shape) > 64 or len(offsets) != 2:
        raise ValueError(f"{where} has no valid shape or place")
    wanted, found = math.prod(shape) * ITEM_BYTES[dtype], offsets[1] - offsets[0]
    if wanted != found:
        raise ValueError(f"{where} has {found:,} bytes, its shape takes {wanted:,}")
    return StoredTensor(dtype, tuple(shape), offset + offsets[0], offset + offsets[1])


def _are_counts(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
