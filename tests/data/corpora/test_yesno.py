import itertools

import pytest

from wavenet.data.corpora.yesno import find
from wavenet.utils.errors import DataError

from .conftest import Plant

NAMES = ["_".join(word) + ".wav" for word in itertools.product("01", repeat=8)]


@pytest.mark.parametrize("count", [59, 61])
def test_the_recordings_must_be_60(count: int, plant: Plant) -> None:
    root = plant(*(f"waves_yesno/{name}" for name in NAMES[:count]))

    with pytest.raises(DataError, match=f"waves_yesno .* found {count} recordings, wanted 60"):
        find(root)
