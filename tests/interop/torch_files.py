"""Torch files made by hand, for the tests: any pickle in either container."""

import io
import os
import pickle  # noqa: TID251 writes what the reader must not run
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet.interop import read_torch
from wavenet.utils.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}}


class Stored:
    """A storage, pickled as its persistent identifier."""

    def __init__(self, *identifier: Any) -> None:
        self.identifier = identifier


class Reduced:
    """A call of any function when it is unpickled, with an optional state."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, Stored) else None


def pickled(value: Any, protocol: int = 2) -> bytes:
    """Return the pickle of `value`."""
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def write_legacy(
    path: Path, value: Any, storages: dict[str, bytes] | None = None, *, itemsize: int = 4
) -> Path:
    """Write a legacy file whose contents are `value`, pickled, or its bytes."""
    storages = storages or {}
    content = value if isinstance(value, bytes) else pickled(value)
    parts = [pickled(MAGIC), pickled(1001), pickled(SYSTEM), content, pickled(list(storages))]
    for numbers in storages.values():
        parts += [struct.pack("<q", len(numbers) // itemsize), numbers]
    path.write_bytes(b"".join(parts))
    return path


def write_zip(
    path: Path,
    value: Any,
    storages: dict[str, bytes] | None = None,
    others: dict[str, bytes] | None = None,
) -> Path:
    """Write a zip file whose contents are `value`, pickled, or its bytes."""
    content = value if isinstance(value, bytes) else pickled(value)
    entries = {"data.pkl": content, **(others or {})}
    entries |= {f"data/{key}": numbers for key, numbers in (storages or {}).items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return path


def command(text: str) -> Reduced:
    """Return what runs `text` in a shell when Python unpickles it."""
    return Reduced(os.system, text)


FLOATS = Stored("storage", torch.FloatStorage, "0", "cpu", 4)


def tensor(storage: Any = FLOATS, offset: Any = 0, size: Any = (4,), stride: Any = (1,)) -> Reduced:
    """Return what is pickled as a tensor."""
    return Reduced(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def refused(path: Path) -> str:
    """Return why `read_torch` refuses a file, without its name."""
    with pytest.raises(CheckpointError) as caught:
        read_torch(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message) < 1000
    return message.removeprefix(f"{path} ")
