"""The listening page is self-contained, shows what it is given, and escapes all text."""

import base64
import dataclasses
import io
import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavenet.config import WaveNetConfig
from wavenet.data.audio import wav_bytes
from wavenet.evaluation.metrics import Original, ResynthesisMetrics, onset_f_measure
from wavenet.evaluation.plots import dilation_tree, png
from wavenet.evaluation.report import Evaluation, write_report
from wavenet.evaluation.synthesis import Recording, Resynthesis
from wavenet.features.score import Note
from wavenet.utils.errors import DataError

RNG = np.random.default_rng(0)
NASTY = "<script>alert('\"')</script> & {title}"
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements and text of a page; every element must be closed where it was opened."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def recording(name: str, samples: int = 400) -> Recording:
    return Recording(name, RNG.uniform(-1, 1, samples).astype(np.float32), 8000, "a note")


def evaluation(
    recordings: list[Recording],
    facts: dict[str, str] | None = None,
    bits_per_sample: dict[str, float] | None = None,
) -> Evaluation:
    return Evaluation(
        num_clips=0,
        num_samples=0,
        sample_rate=8000,
        bits_per_sample=bits_per_sample or {},
        resyntheses=(),
        recordings=recordings,
        facts=facts or {},
        real_time_factor=None,
    )


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    loudest = Recording("loudest", np.array([-1, 0, 1] * 50, dtype=np.float32), 16000)
    return [recording("first"), recording(NASTY), loudest]


@pytest.fixture(scope="module")
def source(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path,
        evaluation(
            recordings,
            facts={"steps": "1,000", NASTY: NASTY},
            bits_per_sample={"this model": 4.25, "uniform": 8.0, NASTY: 6.0},
        ),
        title=NASTY,
        curve_png=png(dilation_tree(WaveNetConfig(dilations=(1, 2)))),
    )
    return path.read_text(encoding="utf-8")


def resynthesized() -> Resynthesis:
    original = RNG.uniform(-1, 1, 8000).astype(np.float32)
    copy = original + RNG.normal(0, 0.1, 8000).astype(np.float32)
    return Resynthesis(
        number=1,
        source="a.wav",
        passes=0,
        metrics={"resynthesis": Original(original, 8000).compare(copy)},
        onset_f_measures={"original": onset_f_measure(original, 8000, [Note(0.1, 0.2, 60)])},
        original=original,
        waveforms={"resynthesis": copy},
    )


@pytest.mark.parametrize(
    ("packages", "sentence"),
    [
        ((), ""),
        (("pesq",), "Not measured, for want of pesq: PESQ; pip install 'torch-wavenet[evaluate]'"),
        (
            ("pesq", "pystoi", "mir_eval", "mir_eval.onset"),
            "Not measured, for want of pesq, pystoi, mir_eval: PESQ, STOI, onsets; pip install",
        ),
    ],
    ids=["none", "one", "all"],
)
def test_a_package_that_is_missing_is_named_once_with_its_extra(
    packages: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    found = dataclasses.replace(evaluation([]), resyntheses=[resynthesized()])

    write_report(tmp_path / "a.html", found, title="a")

    for text in (found.text(), Page((tmp_path / "a.html").read_text("utf-8")).text):
        assert sentence in text
        assert text.count("torch-wavenet[evaluate]") == bool(packages)


def test_the_verdict_follows_from_the_passes_not_from_the_names() -> None:
    plain = resynthesized()
    own = dataclasses.replace(plain.metrics["resynthesis"], pesq=3.0, stoi=0.9)
    metrics = {
        "resynthesis": dataclasses.replace(own, pesq=2.0),
        "resynthesis, 3 passes": own,
        "resynthesis of another model": dataclasses.replace(own, pesq=1.0),
        "Griffin-Lim": dataclasses.replace(own, pesq=2.2),
        "Griffin-Lim, 3 passes": dataclasses.replace(own, pesq=2.5),
    }
    one = dataclasses.replace(plain, passes=3, metrics=metrics)

    verdict = dataclasses.replace(evaluation([]), resyntheses=[one]).verdict

    assert verdict is not None
    assert verdict.is_better
    assert verdict.text.startswith("better than Griffin-Lim with 3 passes, ")
    assert "PESQ 3.00 against 2.50" in verdict.text


def test_each_clip_is_in_the_page_and_the_means_are_in_the_terminal_too(tmp_path: Path) -> None:
    found = dataclasses.replace(evaluation([]), resyntheses=[resynthesized()])

    write_report(tmp_path / "a.html", found, title="a")

    assert "clip 1: resynthesis" in Page((tmp_path / "a.html").read_text("utf-8")).text
    assert "resynthesis" in found.text()
    assert "clip 1" not in found.text()


def decoded(uri: str | None, kind: str) -> bytes:
    start = f"data:{kind};base64,"
    assert uri is not None
    assert uri.startswith(start)
    return base64.b64decode(uri.removeprefix(start), validate=True)


def test_every_recording_is_embedded_unchanged(source: str, recordings: list[Recording]) -> None:
    players = Page(source).all("audio")

    assert len(players) == len(recordings)
    for player, expected in zip(players, recordings, strict=True):
        samples, rate = soundfile.read(io.BytesIO(decoded(player["src"], "audio/wav")))
        assert rate == expected.sample_rate
        np.testing.assert_allclose(samples, expected.waveform, atol=1 / 32768, rtol=0)
        assert "controls" in player
        assert player["aria-label"] == expected.name


def test_every_picture_is_a_png_with_alternative_text(source: str) -> None:
    pictures = Page(source).all("img")

    assert len(pictures) == 4
    for picture in pictures:
        assert decoded(picture["src"], "image/png").startswith(b"\x89PNG")
        assert picture["alt"]


def test_recordings_and_pictures_of_the_page_are_written_into_a_folder_too(
    recordings: list[Recording], tmp_path: Path
) -> None:
    shown = evaluation([recordings[0], recordings[2]])

    write_report(tmp_path / "a.html", shown, title="a", samples=tmp_path / "samples")

    page = Page((tmp_path / "a.html").read_text("utf-8"))
    for one, player, picture in zip(
        shown.recordings, page.all("audio"), page.all("img"), strict=True
    ):
        path = tmp_path / "samples" / one.name
        assert path.with_suffix(".png").read_bytes() == decoded(picture["src"], "image/png")
        written, rate = soundfile.read(path.with_suffix(".wav"))
        heard, _ = soundfile.read(io.BytesIO(decoded(player["src"], "audio/wav")))
        assert rate == one.sample_rate
        np.testing.assert_array_equal(written, heard)


def test_drawing_the_pictures_shows_progress(
    recordings: list[Recording],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("wavenet"), "propagate", True)
    monkeypatch.setattr("wavenet.utils.progress.FIRST_LINE_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "wavenet")

    write_report(tmp_path / "a.html", evaluation(recordings), title="a")

    assert caplog.messages[0].startswith("drawing: 1/3 pictures")
    assert caplog.messages[-1].startswith("drawing: 3/3 pictures, ")


def test_the_page_loads_nothing_and_runs_no_script(source: str) -> None:
    assert not re.search(r"https?://|@import|url\(", source)
    assert not Page(source).all("script")
    assert not Page(source).all("link")
    assert "default-src 'none'" in source


def test_text_from_outside_is_escaped(source: str) -> None:
    page = Page(source)

    assert "<script" not in source
    shown_in = ("title", "h1", "score", "recording", "fact", "value")
    assert page.text.count(NASTY) == len(shown_in)


def test_the_page_has_a_language_headings_and_all_numbers(source: str) -> None:
    page = Page(source)

    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 4
    labels = [section["aria-labelledby"] for section in page.all("section")]
    assert labels == [heading["id"] for heading in page.all("h2")]
    for text in ("4.250", "8.000", "steps", "1,000", "a note"):
        assert text in page.text


def test_bars_are_proportional_to_bits_per_sample(source: str) -> None:
    widths = [span["style"] for span in Page(source).all("span") if "style" in span]

    assert widths == ["width:53.12%", "width:100.00%", "width:75.00%"]


def test_the_page_opens_with_held_out_clips_and_their_scores(tmp_path: Path) -> None:
    """Original, model and Griffin-Lim of a clip stand before all numbers; the rest follows them."""
    metrics = ResynthesisMetrics(1.5, None, 1.0, None, 0.0, 3.26, 0.951)
    compared = [
        dataclasses.replace(recording(name), clip="1. a.flac", label=label, metrics=scores)
        for name, label, scores in (
            ("original-1", "original", None),
            ("resynthesis-1", "this model", metrics),
            ("griffin-lim-1", "Griffin-Lim", dataclasses.replace(metrics, pesq=2.94, stoi=None)),
        )
    ]
    shown = evaluation([recording("quantized-1"), *compared], bits_per_sample={"model": 4.25})

    write_report(tmp_path / "a.html", shown, title="vocoder")

    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    players = [player["aria-label"] for player in page.all("audio")]
    assert players == ["original-1", "resynthesis-1", "griffin-lim-1", "quantized-1"]
    order = ("1. a.flac", "PESQ 3.26, STOI 0.951, mel dB 1.50", "PESQ 2.94, mel dB 1.50", "4.250")
    places = [page.text.index(text) for text in order]
    assert places == sorted(places)


def test_the_page_opens_with_the_verdict_and_the_advice(tmp_path: Path) -> None:
    bits = {"model": 4.25, "adaptive_linear_prediction": 4.0}
    shown = evaluation([recording("first")], bits_per_sample=bits)

    write_report(tmp_path / "a.html", shown, title="voice", advice="Train ten times longer.")

    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    start = (
        "0.25 bits worse than an adaptive linear predictor (4.250 against 4.000 bits per sample)"
    )
    assert f"voice\n{start}: noise. Train ten times longer." in page.text
    assert f"verdict: {start}" in shown.text()


@pytest.mark.parametrize("bits", [{}, {"model": 4.25, "adaptive_linear_prediction": 4.0}])
def test_below_the_verdict_are_the_run_folder_and_the_next_command(
    tmp_path: Path, bits: dict[str, float]
) -> None:
    run = Path("runs/<b>&\udcff")  # no page can hold the byte that is not UTF-8
    command = "wavenet-train resume='runs/<b>&' trainer.max_steps=10"

    shown = evaluation([recording("first")], bits_per_sample=bits)
    write_report(tmp_path / "a.html", shown, title="voice", run=run, command=command)

    source = (tmp_path / "a.html").read_text(encoding="utf-8")
    page = Page(source)
    lines = f"Run folder: runs/<b>&\\udcff\nNext: {command}\n"
    assert lines in page.text
    opening = page.text[: page.text.index(lines)]
    assert opening.rstrip().endswith("noise." if bits else "voice")
    assert "<b>" not in source
    assert len(page.all("code")) == 2


def test_absent_content_has_no_section(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", evaluation([]), title="empty")

    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert not page.all("section")
    assert not page.all("p")
    assert page.all("h1")


def test_a_recording_with_nan_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    broken = Recording("broken", np.array([0.0, np.nan]), 8000)

    with pytest.raises(DataError, match="'broken'"):
        write_report(tmp_path / "a.html", evaluation([broken]), title="")

    assert not list(tmp_path.iterdir())


def test_samples_outside_the_range_are_clipped() -> None:
    samples, _ = soundfile.read(io.BytesIO(wav_bytes(np.array([-3.0, 3.0]), 8000)))

    np.testing.assert_allclose(samples, [-1, 1], atol=1 / 32768)
