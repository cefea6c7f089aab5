"""Hostile, damaged and foreign torch files are refused with a reason; nothing in them is run."""

import gzip
import io
import json
import pickle  # noqa: TID251 opcodes of files that must be refused
import shutil
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.interop.torch_files import (
    Stored,
    command,
    pickled,
    refused,
    tensor,
    write_legacy,
    write_zip,
)
from wavenet.interop import read_torch
from wavenet.utils.errors import MachineError

GOLDEN = Path(__file__).parent / "golden"
NUMBERS = {"0": bytes(16)}
WRITERS: dict[str, Callable[..., Path]] = {"legacy": write_legacy, "zip": write_zip}

containers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@containers
def test_a_call_of_a_shell_is_refused_and_not_run(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    mark = tmp_path / "was_run"
    path = write(tmp_path / "file", {"x": tensor(), "y": command(f"touch {mark}")}, NUMBERS)

    message = refused(path)

    assert message.startswith("calls posix.system")
    assert "nothing was run" in message
    assert not mark.exists()


def test_such_a_file_does_run_when_python_unpickles_it(tmp_path: Path) -> None:
    mark = tmp_path / "was_run"

    pickle.loads(pickled(command(f"touch {mark}")))  # noqa: S301 shows what the test above proves

    assert mark.exists()


@containers
@pytest.mark.parametrize("name", ["builtins\neval", "builtins\nexec", "subprocess\nPopen"])
@pytest.mark.parametrize(
    "call",
    [b"c%b\n(X\x01\x00\x00\x001tR.", b"(c%b\nX\x01\x00\x00\x001o.", b"c%b\n)R}b."],
    ids=["reduce", "obj", "build"],
)
def test_a_call_of_the_standard_library_is_refused(
    tmp_path: Path, write: Callable[..., Path], name: str, call: bytes
) -> None:
    path = write(tmp_path / "file", b"\x80\x02" + call % name.encode())

    assert refused(path).startswith(f"calls {name.replace(chr(10), '.')}")


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x80\x02\x82\x01.",  # an extension of copyreg
        b"\x80\x02(i__main__\nx\n.",
        b"\x80\x02Pname\n.",
        b"\x80\x01}.",
        b"\x80\x06}.",
        b"}.",
        b"\x80\x02}\x80\x02.",
        b"\x80\x02.",
        b"\x80\x02}}.",
        b"\x80\x02}",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01K\x01a.",
        b"\x80\x02h\x05.",
        b"\x80\x02t.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02ca\nb\nK\x01R.",
        b"\x80\x02)R)R.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02)Q.",
        b"\x80\x02\x8b\x20\x00\x00\x00" + b"\x01" * 32 + b".",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02c" + b"a" * 5000 + b"\nb\n.",
        b"\x80\x02}}b}s.",
    ],
)
def test_opcodes_out_of_place_are_refused(tmp_path: Path, opcodes: bytes) -> None:
    path = write_zip(tmp_path / "file", opcodes)

    assert refused(path).startswith("is no complete pickle")


def test_a_legacy_file_whose_first_number_is_replaced_is_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "file", {})
    path.write_bytes(path.read_bytes().replace(b".", b"0K\x01.", 1))

    assert refused(path).startswith("is damaged in its first numbers")


def test_a_class_that_is_no_name_is_not_printed(tmp_path: Path) -> None:
    nested = b"(" * 90 + b"l" * 90
    made = b"}X\x01\x00\x00\x00ac copyreg\n_reconstructor\n".replace(b" ", b"")
    path = write_zip(tmp_path / "file", b"\x80\x02" + made + nested + b"\x85Rs.")

    assert read_torch(path) == {"a": {"__class__": "copyreg._reconstructor"}}


@containers
@pytest.mark.parametrize(
    "description",
    [
        {"offset": 1},
        {"size": (5,)},
        {"size": (2, 2), "stride": (4, 1)},
        {"size": (2,), "stride": (1, 1)},
        {"size": (100,), "stride": (0,)},
        {"size": (2,), "stride": (-1,), "offset": 3},
        {"size": (2**62, 4), "stride": (0, 0)},
        {"size": (0, 2**39, 2**39), "stride": (1, 1, 1)},
        {"size": (2**39,) * 100_000, "stride": (1,) * 100_000},
        {"size": (1,) * 9, "stride": (1,) * 9},
        {"offset": -1},
        {"offset": True},
        {"offset": None},
        {"size": "four"},
        {"storage": 3},
        {"storage": Stored("storage", torch.FloatStorage, "0", "cpu", 5)},
        {"storage": Stored("storage", torch.DoubleStorage, "0", "cpu", 4)},
        {"storage": Stored("storage", torch.FloatStorage, "../data.pkl", "cpu", 4)},
        {"storage": Stored("storage", torch.FloatStorage, 0, "cpu", 4)},
        {"storage": Stored("storage", torch.FloatStorage, "0", "cpu", -4)},
        {"storage": Stored("storage", torch.FloatStorage, "0", "cpu", 4, ("1", 3, 2))},
        {"storage": Stored("storage", torch.FloatStorage, "0", "cpu", 4, 7)},
        {"storage": Stored("storage", torch.QUInt8Storage, "0", "cpu", 4)},
        {"storage": Stored("storage", "torch.FloatStorage", "0", "cpu", 4)},
        {"storage": Stored("numbers")},
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(
    tmp_path: Path, write: Callable[..., Path], description: dict[str, Any]
) -> None:
    path = write(tmp_path / "file", {"x": tensor(**description)}, NUMBERS)

    refused(path)


def test_one_storage_described_in_two_ways_is_refused(tmp_path: Path) -> None:
    other = Stored("storage", torch.IntStorage, "0", "cpu", 4)
    path = write_zip(tmp_path / "file", {"x": tensor(), "y": tensor(other)}, NUMBERS)

    assert refused(path).startswith("describes storage 0 in two ways")


def test_a_kind_of_tensor_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save({"x": torch.eye(2).to_sparse()}, path)

    assert refused(path).startswith("has a tensor made by torch._utils._rebuild_sparse_tensor")


def test_a_shortened_file_is_refused_at_any_length(tmp_path: Path) -> None:
    for name in ("zip", "legacy"):
        path = WRITERS[name](tmp_path / name, {"x": tensor()}, NUMBERS)
        data = path.read_bytes()
        for length in [*range(0, len(data) - 40, 7), *range(len(data) - 40, len(data))]:
            path.write_bytes(data[:length])

            refused(path)


def test_a_changed_number_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save({"x": torch.full((100,), 0.123)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<f", 0.123))] ^= 1
    path.write_bytes(data)

    assert refused(path).startswith("is a damaged zip file (Bad CRC-32 for file 'file/data/0')")


def test_bytes_after_a_legacy_file_are_refused(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "file", {"x": tensor()}, NUMBERS)
    path.write_bytes(path.read_bytes() + b"\0")

    assert refused(path).startswith("does not end where its storages end")


def test_a_file_of_a_big_endian_machine_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "file", {"x": tensor()}, NUMBERS, {"byteorder": b"big"})

    assert refused(path).startswith("was written on a big-endian machine")


def compressed_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled({"x": "x" * 1000}))


def double_zip(path: Path) -> None:
    write_zip(path, {}, others={"data.pk_": b""})
    path.write_bytes(path.read_bytes().replace(b"data.pk_", b"data.pkl"))


def overlapping_zip(path: Path) -> None:
    """Write a hundred entries that all are the same bytes of the file."""
    names = [str(100 + i) for i in range(100)]
    made = [tensor(Stored("storage", torch.FloatStorage, name, "cpu", 4)) for name in names]
    write_zip(path, {"x": made}, {names[0]: bytes(16)})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = data[data.index(b"PK\x01\x02") : start] + b"".join(
        entry.replace(names[0].encode(), name.encode()) for name in names
    )
    footer = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 101, 101, len(entries), end - len(entry), 0)
    path.write_bytes(data[: data.index(b"PK\x01\x02")] + entries + footer)


def torchscript(path: Path) -> None:
    torch.jit.script(nn.Linear(1, 1)).save(path)


def npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(1))


def npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.ones(1))


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())


FOREIGN: dict[str, tuple[Callable[[Path], Any] | bytes, str]] = {
    "empty": (b"", "is empty"),
    "compressed entries": (compressed_zip, "has a compressed or encrypted entry"),
    "two entries": (double_zip, "has two entries archive/data.pkl"),
    "overlapping entries": (overlapping_zip, "is a damaged zip file"),
    "npz": (npz, "is a zip file that torch.save"),
    "torchscript": (torchscript, "is a TorchScript archive"),
    "tar": (tar, "is a tar file, as torch wrote before 0.1.10"),
    "gzip": (gzip.compress(b"x"), "is a compressed file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "safetensors": (lambda path: shutil.copy(GOLDEN / "kb.safetensors", path), "is a safetensors"),
    "npy": (npy, "is an array of numpy"),
    "joblib": (pickle.dumps(Counter())[:3] + b"csklearn.preprocessing\nx\n.", "is a joblib or"),
    "pickle": (pickle.dumps({"x": 1}), "is a pickle that torch.save did not write"),
    "json": (json.dumps({"layers": 3}).encode(), "is a JSON text"),
    "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "index": (lambda path: shutil.copy(GOLDEN / "ibab_gc.ckpt-100.index", path), "is a table of T"),
    "sound": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "is no file that torch.save wrote"),
    "list": (lambda path: torch.save([1], path), "holds a list, expected a dict or a module"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_with_its_kind(tmp_path: Path, kind: str) -> None:
    content, reason = FOREIGN[kind]
    path = tmp_path / "file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)

    message = refused(path)

    assert message.startswith(reason)
    assert ": " in message  # what to do


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith("is a folder")
    assert refused(tmp_path / "missing").startswith("does not exist")


def test_an_unreadable_file_is_an_error_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="File name too long"):
        read_torch(tmp_path / ("x" * 300))
