"""Pickles that would fill the memory or never end are refused."""

import resource
import struct
from pathlib import Path

import pytest
import torch

from tests.interop.torch_files import Stored, refused, tensor, write_zip


def deep(levels: int) -> bytes:
    return b"\x80\x02" + b"(" * levels + b"l" * levels + b"."


def bomb(levels: int) -> bytes:
    """Return a list of ten references to a list of ten references, and so on."""
    level = b"q\x000(" + b"h\x00" * 10 + b"l"
    return b"\x80\x02]" + level * levels + b"."


def mapping_bomb() -> bytes:
    """Return many dicts, each made of one long list of pairs whose keys are left out."""
    pairs = b"]q\x00(" + b"]K\x01\x86" * 50_000 + b"e"
    made = b"ccollections\nOrderedDict\nq\x010(" + b"h\x01h\x00\x85R" * 50_000 + b"l\x86."
    return b"\x80\x02" + pairs + made


def repeated(first: bytes, use: bytes, count: int) -> bytes:
    """Return a list of many values that refer to one large value."""
    return b"\x80\x04" + first + b"q\x000(" + use * count + b"l."


BYTES = b"B" + struct.pack("<I", 4 << 20) + bytes(4 << 20)
TEXT = b"X" + struct.pack("<I", 4 << 20) + b"a" * (4 << 20)


@pytest.mark.parametrize(
    ("opcodes", "reason"),
    [
        (repeated(BYTES, b"}h\x00K\x01s", 20_000), "holds a list"),
        (repeated(TEXT, b"}h\x00K\x01s", 20_000), "holds a list"),
        (repeated(TEXT, b"h\x00h\x00\x93", 60_000), "is no complete pickle"),
        (repeated(b"(" + b"N" * 100_000 + b"t", b"h\x00Q", 60_000), "refers to data that is no s"),
        (repeated(b"ca\nb\n", b"h\x00)\x81", 60_000), "holds a list"),
        (repeated(b"ca\nb\n)\x81", b"h\x00", 400_000), "holds more than 500,000 values"),
        (deep(200), "is nested more than 100 deep"),
        (deep(240_000), "is nested more than 100 deep"),
        (bomb(50), "holds more than 500,000 values"),
        (mapping_bomb(), "holds more than 500,000 values"),
        (b"\x80\x02}" + b"]0" * 300_000 + b".", "has a pickle of more than 500,000 opcodes"),
        (b"\x80\x02}" + b"0" * (9 << 20) + b".", "has a pickle or a list of entries over"),
    ],
    ids=[
        *("bytes as keys", "text as keys", "text as names", "identifiers", "objects", "one object"),
        *("deep", "very deep"),
        *("references", "mappings", "opcodes", "bytes"),
    ],
)
def test_a_pickle_past_a_limit_is_refused(tmp_path: Path, opcodes: bytes, reason: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = write_zip(tmp_path / "file", opcodes)

    message = refused(path)

    assert message.startswith(reason)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_many_names_for_one_tensor_are_refused(tmp_path: Path) -> None:
    numbers = bytes(4 * 10_000)
    storage = Stored("storage", torch.FloatStorage, "0", "cpu", 10_000)
    shared = tensor(storage, size=(10_000,))
    path = write_zip(tmp_path / "file", {str(i): shared for i in range(50)}, {"0": numbers})

    assert refused(path).startswith("has tensors of more than 8 times its own size")
