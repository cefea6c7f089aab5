import dataclasses

import pytest

from wavenet.data.preparation.summary import PreparationSummary, SplitTotal
from wavenet.utils.dataclass_io import from_dict, to_dict

SUMMARY = PreparationSummary(
    sample_rate=16000,
    files=20,
    seconds=600.0,
    splits=(SplitTotal("train", 4, 8, 540.0), SplitTotal("valid", 1, 2, 60.0)),
    left_out={f"{n}\n.wav": "silent" for n in range(15)},
    repairs={"clip": 2},
    notes={"a.wav": "is MP3, not what its suffix says"},
    others={"txt": 3},
    hidden=1,
    linked_folders=0,
    peak=1.0,
    rms=0.1,
    clipped=7,
    overshoot=3,
    too_short=0,
    removed_seconds=0.0,
    silent=0,
    speakers=2,
)


def test_table_shows_input_and_output() -> None:
    lines = SUMMARY.table().splitlines()

    assert lines[1].split() == ["found", "20"]
    assert lines[3].split() == ["train", "4", "8", "9.00"]
    assert lines[5].split() == ["out", "5", "10", "10.00"]
    assert "peak 0.0 dBFS, RMS -20.0 dBFS" in SUMMARY.table()
    assert "recordings repaired: clip 2" in lines
    assert "samples put past 1.0 by resampling, clipped: 3" in lines
    assert "other files, not looked at: 3 txt" in lines


def test_a_long_list_of_names_is_cut_and_every_line_is_printable() -> None:
    lines = SUMMARY.table().splitlines()

    assert "left out: 15" in lines
    assert "  and 5 more" in lines
    assert all(line.isprintable() for line in lines)


def test_a_note_on_many_recordings_is_given_once() -> None:
    offset = {f"{n}.wav": "mean is +0.100, not 0 (DC offset)" for n in range(15)}

    lines = dataclasses.replace(SUMMARY, notes=SUMMARY.notes | offset).table().splitlines()

    assert lines[-3:] == [
        "to note: 16",
        "  a.wav: is MP3, not what its suffix says",
        "  15 recordings, the first is 0.wav: mean is +0.100, not 0 (DC offset)",
    ]


@pytest.mark.parametrize(
    ("rates", "words", "advice"),
    [
        (
            {"0.wav": 8000},
            "1 of 5 recordings are upsampled to 16000 Hz from 8000 Hz, the first is",
            "leave them out",
        ),
        (
            {"0.wav": 11025, "1.wav": 8000, "2.wav": 8000},
            "half of their rate, 4000 to 5512.5 Hz, they are empty",
            "leave them out, or train at audio.sample_rate=8000",
        ),
    ],
)
def test_upsampled_recordings_are_warned_of_also_later(
    rates: dict[str, int], words: str, advice: str
) -> None:
    summary = dataclasses.replace(SUMMARY, upsampled=rates)

    for text in (summary.table(), summary.line()):
        last = text.splitlines()[-1]
        assert last.startswith("warning: ")
        assert words in last
        assert last.endswith(advice)
    assert "warning" not in SUMMARY.table() + SUMMARY.line()


def test_table_omits_what_did_not_happen() -> None:
    table = SUMMARY.table()

    assert "linked" not in table
    assert "silent recordings" not in table
    assert "already" not in table
    assert "already prepared" in dataclasses.replace(SUMMARY, already_prepared=True).table()


def test_a_summary_survives_json() -> None:
    assert from_dict(PreparationSummary, to_dict(SUMMARY)) == SUMMARY
