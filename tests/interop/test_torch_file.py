"""Torch files are read as torch reads them, without running what they name."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavenet.interop import read_torch, state_dict_of

GOLDEN = Path(__file__).parent / "golden"
STATE_DICTS = {
    "r9y9_mol.pth": "state_dict",
    "r9y9_gauss.pth": "state_dict",
    "r9y9_011_mol_speakers.pth": "state_dict",
    "kb_checkpoint-final.pkl": "model",
}


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


@pytest.mark.parametrize("name", STATE_DICTS)
def test_checkpoint_equals_what_torch_loads(name: str) -> None:
    expected = torch.load(GOLDEN / name, weights_only=True)  # noqa: TID251 the reference

    contents = read_torch(GOLDEN / name)

    assert_same(contents, expected)
    assert_same(state_dict_of(contents), dict(expected[STATE_DICTS[name]]))
