"""Torch files are read as torch reads them, without running what they name."""

import io
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.interop.torch_files import Reduced, Stored, write_legacy, write_zip
from wavenet.interop import read_torch, state_dict_of
from wavenet.utils.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
STATE_DICTS = {
    "r9y9_mol.pth": "state_dict",
    "r9y9_gauss.pth": "state_dict",
    "r9y9_011_mol_speakers.pth": "state_dict",
    "kb_checkpoint-final.pkl": "model",
}
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
]


def assert_same(actual: object, expected: object) -> None:
    """Compare nested values; tuples are read as lists."""
    if isinstance(expected, Tensor):
        assert isinstance(actual, Tensor)
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)
    elif isinstance(expected, dict):
        assert isinstance(actual, dict)
        assert list(actual) == list(expected)
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, list | tuple):
        assert isinstance(actual, list)
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    else:
        assert actual == expected


def save(value: object, path: Path, *, legacy: bool, protocol: int = 2) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("name", STATE_DICTS)
def test_checkpoint_equals_what_torch_loads(name: str) -> None:
    expected = torch.load(GOLDEN / name, weights_only=True)  # noqa: TID251 the reference

    contents = read_torch(GOLDEN / name)

    assert_same(contents, expected)
    assert_same(state_dict_of(contents), dict(expected[STATE_DICTS[name]]))


def test_a_pickled_module_reads_alike_from_both_containers() -> None:
    zipped = read_torch(GOLDEN / "vh_snapshot")

    legacy = read_torch(GOLDEN / "vh_snapshot.legacy")

    assert legacy["__class__"] == "wavenet_model.WaveNetModel"
    assert (legacy["layers"], legacy["blocks"], legacy["kernel_size"]) == (3, 2, 2)
    assert len(state_dict_of(legacy)) == 54
    assert_same(state_dict_of(legacy), state_dict_of(zipped))


def test_a_class_with_our_name_is_not_ours() -> None:
    module = read_torch(GOLDEN / "nv_wavenet_1000.legacy")["model"]

    weights = state_dict_of({"model": module})

    assert module["__class__"] == "wavenet.WaveNet"
    assert type(module) is dict
    assert weights["cond_layers.conv.weight"].shape == (2 * 8 * 6, 5, 1)


def test_a_namespace_is_read_as_its_attributes() -> None:
    namespace = read_torch(GOLDEN / "kb_model.conf")

    assert namespace["n_quantize"] == 256
    assert namespace["feature_type"] == "melspc"
    assert namespace["resume"] is None
    assert namespace["__class__"] == "argparse.Namespace"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_reads_as_torch_reads_it(
    protocol: int, tmp_path: Path, *, legacy: bool
) -> None:
    flat = torch.arange(24.0)
    value = {
        "views": [flat.view(2, 3, 4), flat[5:9], flat.view(4, 6).T, flat[::3]],
        "shapes": (torch.tensor(3.0), torch.zeros(0, 3), torch.ones(2, 0)),
        "dtypes": [torch.arange(3).to(dtype) for dtype in DTYPES],
        "parameter": nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(b=1, a=2),
        "scalars": [None, True, False, 0, -1, 2**40, -(2**70), 0.5, "text", "ü\ud800"],
        "nested": {"set": {1}, 3: ({},)},
    }
    path = save(value, tmp_path / "file.pt", legacy=legacy, protocol=protocol)
    value["nested"] = {"set": [1], 3: [{}]}

    contents = read_torch(path)

    assert_same(contents, value)
    assert not contents["parameter"].requires_grad


@pytest.mark.parametrize("legacy", [False, True])
def test_weights_of_a_module_have_the_names_of_its_state_dict(
    tmp_path: Path, *, legacy: bool
) -> None:
    module = nn.Sequential(
        nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.ModuleList([nn.Linear(3, 1, bias=False)])
    )
    path = save(nn.DataParallel(module), tmp_path / "module.pt", legacy=legacy)

    weights = state_dict_of(read_torch(path))

    assert_same(weights, dict(module.state_dict()))


def test_a_part_of_a_storage_is_read_as_that_part(tmp_path: Path) -> None:
    """Torch before 1.6 gave parts of a storage keys of their own."""
    part = Stored("storage", torch.FloatStorage, "1", "cpu", 6, ("2", 2, 3))
    tensor = Reduced(torch._utils._rebuild_tensor, part, 1, (2,), (1,))
    numbers = torch.arange(6.0)
    path = write_legacy(tmp_path / "file", {"x": tensor}, {"1": numbers.numpy().tobytes()})

    contents = read_torch(path)

    assert_same(contents, {"x": numbers[3:5]})


def test_attributes_and_arguments_of_other_objects_are_kept(tmp_path: Path) -> None:
    reference: list[object] = [1]
    reference.append(reference)
    value = {"object": Path("a/b"), "kind": torch.FloatTensor, "cycle": reference, (1, 2): "left"}
    path = write_zip(tmp_path / "file", value)

    contents = read_torch(path)

    assert contents["object"]["__args__"] == ["a", "b"]
    assert contents["object"]["__class__"].endswith("PosixPath")
    assert contents["kind"] == "torch.FloatTensor"
    assert contents["cycle"] == [1, None]
    assert list(contents) == ["object", "kind", "cycle"]


def test_text_and_numbers_of_python_2_are_read(tmp_path: Path) -> None:
    ordered = b"ccollections\nOrderedDict\n](](U\x01aI4294967296\nee\x85R"
    path = write_legacy(tmp_path / "file", b"\x80\x02}(U\x01x" + ordered + b"C\x01yK\x01u.")

    assert read_torch(path) == {"x": {"a": 2**32}, "y": 1}


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_with_attributes_are_read_without_them(tmp_path: Path, *, legacy: bool) -> None:
    buffer, parameter = torch.arange(3), nn.Parameter(torch.ones(2))
    buffer.note = parameter.note = "an attribute"  # type: ignore[attr-defined]
    path = save({"a": buffer, "b": parameter}, tmp_path / "file", legacy=legacy)

    assert_same(read_torch(path), {"a": torch.arange(3), "b": torch.ones(2)})


def test_shared_weights_are_read_once(tmp_path: Path) -> None:
    weight = torch.ones(3)
    path = save({"a": weight, "b": weight}, tmp_path / "file", legacy=False)

    contents = read_torch(path)

    assert contents["a"].data_ptr() == contents["b"].data_ptr()


def test_contents_without_weights_are_refused_with_their_keys() -> None:
    with pytest.raises(CheckpointError, match=r"no weights by name.*\n  epoch") as caught:
        state_dict_of({"epoch": 3, "optimizer": {"state": {}}})

    assert "state_dict" in str(caught.value)


def test_golden_outputs_are_for_these_files() -> None:
    total = sum(path.stat().st_size for path in GOLDEN.iterdir())

    outputs = [load_file(path)["output"] for path in GOLDEN.glob("*.safetensors")]

    assert len(outputs) == 8
    assert total < 1_500_000


def test_a_buffer_saved_by_torch_needs_no_suffix(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": torch.ones(1)}, buffer)
    (tmp_path / "weights").write_bytes(buffer.getvalue())

    assert_same(read_torch(tmp_path / "weights"), {"x": torch.ones(1)})
