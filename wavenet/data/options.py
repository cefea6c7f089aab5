"""What `prepare` may do to a recording; by default nothing but cutting the data set in three."""

import math
from dataclasses import dataclass

from wavenet.data.audio import MOST_HZ
from wavenet.plain import check


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How recordings become clips.

    Attributes:
        sample_rate: Rate of every clip, in Hz.
        resample: Convert recordings of another rate (soxr, high quality).
        mixdown: Replace several channels by their mean.
        clip: Limit samples past 1.0 to 1.0.
        zero_nan: Replace NaN and infinite samples by 0.
        keep_truncated: Take what there is of a file that ends before its header says.
        keep_silent: Accept recordings whose standard deviation is under 1e-4.
        skip_bad: Leave out files that no other option repairs, instead of stopping.
        trim_db: Cut silence at both ends, this far under the loudest part; `None` leaves it.
        split_db: Cut recordings into pieces at silence, this far under the loudest part.
        min_seconds: Shortest recording, and shortest piece, that is taken.
        valid_fraction: Share of the recordings that validates.
        test_fraction: Share of the recordings that tests.
        speaker_folders: Take the first folder below the root as the speaker's name.
        jobs: Recordings at a time; `None` for one a core. It does not change the result.
    """

    sample_rate: int
    resample: bool = False
    mixdown: bool = False
    clip: bool = False
    zero_nan: bool = False
    keep_truncated: bool = False
    keep_silent: bool = False
    skip_bad: bool = False
    trim_db: float | None = None
    split_db: float | None = None
    min_seconds: float = 0.1
    valid_fraction: float = 0.05
    test_fraction: float = 0.05
    speaker_folders: bool = False
    jobs: int | None = None

    def __post_init__(self) -> None:
        check(1 <= self.sample_rate <= MOST_HZ, "sample_rate", f"1 to {MOST_HZ}", self.sample_rate)
        for name in ("trim_db", "split_db"):
            value = getattr(self, name)
            check(value is None or 0 < value < math.inf, name, "positive or nothing", value)
        check(0 <= self.min_seconds < math.inf, "min_seconds", "0 or more", self.min_seconds)
        for name in ("valid_fraction", "test_fraction"):
            check(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        held = self.valid_fraction + self.test_fraction
        check(held < 1, "valid_fraction + test_fraction", "under 1", held)
        check(self.jobs is None or self.jobs >= 1, "jobs", "1 or more, or nothing", self.jobs)
