from pathlib import Path

import pytest

from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.sources import Source, assign_splits
from wavenet.utils.errors import DataError


def sources(count: int) -> list[Source]:
    return [Source(f"{i}.wav", Path(f"{i}.wav"), 1, 1) for i in range(count)]


def test_the_shares_are_rounded_and_the_rest_trains() -> None:
    splits = assign_splits(sources(50), PrepareOptions(sample_rate=1, test_fraction=0.1))

    counts = {name: list(splits.values()).count(name) for name in ("train", "valid", "test")}
    assert counts == {"train": 43, "valid": 2, "test": 5}


def test_the_split_depends_on_names_alone() -> None:
    options = PrepareOptions(sample_rate=16000)
    changed = [Source(s.name, s.path, 99, 99) for s in reversed(sources(30))]

    assert assign_splits(sources(30), options) == assign_splits(changed, options)


def test_a_fraction_takes_at_least_one_and_zero_takes_none() -> None:
    three = assign_splits(sources(3), PrepareOptions(sample_rate=1))
    one = assign_splits(
        sources(1), PrepareOptions(sample_rate=1, test_fraction=0, valid_fraction=0)
    )

    assert sorted(three.values()) == ["test", "train", "valid"]
    assert list(one.values()) == ["train"]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_recordings_are_refused_with_advice(count: int) -> None:
    with pytest.raises(DataError, match=r"cut one into several.*data.test_fraction=0"):
        assign_splits(sources(count), PrepareOptions(sample_rate=16000))
