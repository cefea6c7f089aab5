import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wavenet.benchmarks.framework import (
    Measurement,
    Result,
    Timing,
    draw_charts,
    json_text,
    measure_interleaved,
)


@dataclass(frozen=True)
class NamedCase:
    """A case that is nothing but its name; the one called `slow` is the baseline."""

    name: str

    def is_baseline_of(self, other: "NamedCase") -> bool:
        return self.name == "slow"


SLOW = Measurement(NamedCase("slow"), [Timing(5.0, 100.0), Timing(30.0, 100.0), Timing(15.0, 50.0)])
FAST = Measurement(NamedCase("fast"), [Timing(10.0), Timing(90.0), Timing(30.0)])


def test_all_cases_are_measured_in_each_repeat() -> None:
    cases = [NamedCase("slow"), NamedCase("fast")]

    def measure_all(repeat: int) -> Iterator[Timing]:
        yield Timing(10.0 + repeat)
        yield Timing(20.0 + repeat)

    slow, fast = measure_interleaved(cases, measure_all, 3, "test")

    assert [slow.case, fast.case] == cases
    assert [timing.rate for timing in slow.timings] == [10, 11, 12]
    assert [timing.rate for timing in fast.timings] == [20, 21, 22]


def test_a_ratio_is_the_median_of_the_ratios_within_repeats() -> None:
    assert FAST.median == 30.0
    assert FAST.times(SLOW) == 2.0


def test_the_share_of_the_limit_is_the_median_of_the_repeats() -> None:
    assert SLOW.share_of_limit == 0.3
    assert FAST.share_of_limit is None


def test_the_memory_is_the_peak_of_all_repeats() -> None:
    assert SLOW.memory_mib is None
    assert Measurement(NamedCase("a"), [Timing(1, None, 3), Timing(1, None, 2)]).memory_mib == 3


def test_a_table_has_the_real_time_factor_and_ratios_to_the_baseline() -> None:
    result = Result(
        name="small", num_parameters=1234, measurements=[SLOW, FAST], sample_rate=10, notes=["note"]
    )

    title, head, slow, fast, note = result.table().splitlines()

    assert title == "small: 1,234 parameters, 10 Hz"
    assert head.split() == [
        "name",
        "samples/s",
        "spread",
        "real-time",
        "factor",
        "baseline",
        "of",
        "limit",
    ]
    assert slow.split() == ["slow", "15", "±83%", "0.667", "x", "1.00", "0.30"]
    assert fast.split() == ["fast", "30", "±133%", "0.333", "x", "2.00"]
    assert note == "note"


def test_json_has_the_same_keys_for_every_benchmark() -> None:
    result = Result(
        name="small", num_parameters=1, measurements=[SLOW, FAST], details={"more": [1]}
    )

    plain = json.loads(json_text([result]))

    assert "PyTorch" in plain["machine"]
    (model,) = plain["models"]
    assert model["more"] == [1]
    fast = model["measurements"][1]
    assert fast["case"] == {"name": "fast"}
    assert fast["rates"] == [10, 90, 30]
    assert (fast["times_baseline"], fast["median"], fast["share_of_limit"]) == (2, 30, None)


def test_charts_of_several_models_have_their_names(tmp_path: Path) -> None:
    results = [
        Result(name=name, num_parameters=1, measurements=[SLOW, FAST])
        for name in ("small", "large")
    ]

    one = draw_charts(results[:1], str(tmp_path / "chart.png"))
    two = draw_charts(results, str(tmp_path / "chart.png"))

    assert [path.name for path in one] == ["chart.png"]
    assert [path.name for path in two] == ["chart-small.png", "chart-large.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (*one, *two))
    assert draw_charts(results, None) == []
