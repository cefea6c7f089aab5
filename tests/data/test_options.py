from typing import Any

import pytest

from wavenet.data.options import PrepareOptions
from wavenet.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", 768001),
        ("trim_top_db", 0.0),
        ("split_top_db", -30.0),
        ("min_seconds", -0.1),
        ("valid_fraction", 1.0),
        ("test_fraction", -0.1),
        ("num_workers", 0),
    ],
)
def test_a_value_out_of_range_is_named(key: str, value: Any) -> None:
    options: dict[str, Any] = {"sample_rate": 16000, key: value}

    with pytest.raises(ConfigError, match=rf"{key} must be .*, got {value}"):
        PrepareOptions(**options)


def test_the_held_out_fractions_leave_something_to_train_on() -> None:
    with pytest.raises(ConfigError, match=r"under 1, got 1\.0"):
        PrepareOptions(sample_rate=16000, valid_fraction=0.5, test_fraction=0.5)
