"""TensorFlow checkpoints are read without TensorFlow; damaged and foreign ones are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.interop.tables import crc32c as crc32c_by_bits
from tests.interop.tables import entry, message, table
from wavenet.interop import crc32c, read_tensorflow
from wavenet.utils.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
HEADER = message((1, 1), (2, 0))
ONE = np.ones(6, np.float32).tobytes()

Pairs = list[tuple[bytes, bytes]]


def write(folder: Path, pairs: Pairs, *shards: bytes, compression: int = 0) -> Path:
    """Write a checkpoint with these entries and data files."""
    (folder / "model.index").write_bytes(table(pairs, compression))
    for i, shard in enumerate(shards):
        (folder / f"model.data-{i:05d}-of-{len(shards):05d}").write_bytes(shard)
    return folder / "model"


def refused(prefix: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_tensorflow(prefix)
    message = str(caught.value)
    assert message.startswith(str(prefix.parent))
    assert len(message) < 1000
    return message


def test_a_golden_checkpoint_has_its_variables() -> None:
    variables = read_tensorflow(GOLDEN / "ibab_gc.ckpt-100")

    shapes = {name: tuple(tensor.shape) for name, tensor in variables.items()}
    assert len(variables) == 86
    assert shapes["wavenet/causal_layer/filter"] == (2, 256, 6)
    assert shapes["wavenet/embeddings/gc_embedding"][0] >= 3
    assert all(tensor.dtype == torch.float32 for tensor in variables.values())
    assert all(bool(tensor.isfinite().all()) for tensor in variables.values())


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001", ".meta"])
def test_any_file_of_a_checkpoint_names_it(ending: str) -> None:
    expected = read_tensorflow(GOLDEN / "ibab_gc.ckpt-100")

    variables = read_tensorflow(GOLDEN / f"ibab_gc.ckpt-100{ending}")

    assert list(variables) == list(expected)


def test_variables_of_all_dtypes_are_read_from_two_data_files(tmp_path: Path) -> None:
    expected: dict[str, Tensor] = {}
    shards, pairs = [b"skipped", b""], [(b"", message((1, 2), (2, 0), (3, message((1, 1)))))]
    dtypes = {
        1: torch.float32,
        2: torch.float64,
        3: torch.int32,
        9: torch.int64,
        14: torch.bfloat16,
    }
    for number, dtype in dtypes.items():
        name, shard = f"layer/{number:02d}", number % 2
        tensor = torch.arange(6).to(dtype).reshape(1, 2, 3)
        data = tensor.view(torch.uint8).numpy().tobytes()
        value = entry(number, [1, 2, 3], data, shard=shard, offset=len(shards[shard]))
        pairs.append((name.encode(), value))
        shards[shard] += data
        expected[name] = tensor
    pairs.append((b"names", entry(7, [], b"text")))
    pairs.append((b"scalar", entry(1, [], ONE[:4], offset=len(shards[0]))))

    variables = read_tensorflow(write(tmp_path, pairs, shards[0] + ONE[:4], shards[1]))

    assert variables.pop("scalar").shape == ()
    assert list(variables) == list(expected)
    for name, tensor in expected.items():
        assert variables[name].dtype == tensor.dtype
        assert torch.equal(variables[name], tensor)


@pytest.mark.parametrize("length", [0, 1, 9, 1000, 65_535, 65_536, 70_001])
def test_checksum_equals_that_of_a_loop_over_bits(length: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, length, np.uint8)

    assert crc32c.crc32c(data) == crc32c_by_bits(data.tobytes())


def test_checksum_of_the_standard_text() -> None:
    assert crc32c.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (entry(1, [7], ONE), "has shape [7] in 24 bytes"),
        (entry(2, [6], ONE), "has shape [6] in 24 bytes"),
        (entry(1, [0, 2**63], b""), "has shape"),
        (entry(1, [6], ONE, offset=1), "is truncated"),
        (entry(1, [6], ONE, offset=2**63), "is truncated"),
        (entry(1, [6], ONE, shard=1), "a data file that does not exist"),
        (entry(8, [3], ONE), "of dtype 8"),
        (entry(1, [6], ONE) + message((7, b"")), "in slices"),
        (entry(1, [6], ONE[:-4] + b"abcd"), "checksum differs"),
        (entry(1, [6], ONE)[:-1], "is a damaged index"),
        (message((1, b"1")), "is a damaged index"),
        (b"\xff" * 12, "is a damaged index"),
    ],
)
def test_a_variable_that_does_not_fit_is_refused(tmp_path: Path, value: bytes, reason: str) -> None:
    assert reason in refused(write(tmp_path, [(b"", HEADER), (b"name", value)], ONE))


def test_variables_that_overlap_are_refused(tmp_path: Path) -> None:
    pairs = [(b"", HEADER), *((f"{i:02d}".encode(), entry(1, [6], ONE)) for i in range(99))]

    assert "overlap" in refused(write(tmp_path, pairs, ONE))


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([(b"", message((1, 1), (2, 1)))], "big-endian"),
        ([(b"", message((1, 0)))], "it has 0 data files"),
        ([(b"", message((1, 10_000)))], "it has 10000 data files"),
        ([(b"name", entry(1, [6], ONE))], "a data file that does not exist"),
        ([(b"", HEADER)], "holds no variables"),
        ([(b"", HEADER), (b"n" * 5000, entry(1, [6], ONE))], "a key does not fit"),
        ([(b"", HEADER), (b"\xff", entry(1, [6], ONE))], "is a damaged index"),
        ([(b"", HEADER)] * 20_001, "has more than 20,000 entries"),
    ],
)
def test_an_index_past_a_limit_is_refused(tmp_path: Path, pairs: Pairs, reason: str) -> None:
    assert reason in refused(write(tmp_path, pairs, ONE))


def test_blocks_that_overlap_are_refused(tmp_path: Path) -> None:
    prefix = write(tmp_path, [(b"", HEADER), (b"name", entry(1, [6], ONE))], ONE)
    (tmp_path / "model.index").write_bytes(table([(b"", HEADER)], repeats=2))

    assert "blocks overlap" in refused(prefix)


def test_a_compressed_index_is_refused(tmp_path: Path) -> None:
    assert "compressed" in refused(write(tmp_path, [(b"", HEADER)], ONE, compression=1))


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1], lambda data: data[:100], lambda data: b"", lambda data: data[1:]],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, ending: str, change: Callable[[bytes], bytes]
) -> None:
    for path in GOLDEN.glob("ibab_gc.ckpt-100.*"):
        shutil.copy(path, tmp_path)
    path = tmp_path / f"ibab_gc.ckpt-100{ending}"
    path.write_bytes(change(path.read_bytes()))

    refused(tmp_path / "ibab_gc.ckpt-100")


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "ibab_gc.ckpt-100.index", tmp_path)

    message = refused(tmp_path / "ibab_gc.ckpt-100")

    assert "ibab_gc.ckpt-100.data-00000-of-00001 does not exist" in message


def test_a_single_file_is_refused_as_v1(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt-100").write_bytes(table([(b"", b"")]))

    assert "V1" in refused(tmp_path / "model.ckpt-100")


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "model.index does not exist" in refused(tmp_path / "model")
