"""The listening page in a real browser: audio and pictures load, without console messages."""

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.report import Evaluation, write_report
from wavenet.evaluation.synthesis import Recording, Resynthesis

pytestmark = pytest.mark.slow

RATE = 8000
SECONDS = (0.5, 1.25)
DECODE = """async player => {
    const bytes = Uint8Array.from(atob(player.src.split(",")[1]), c => c.charCodeAt(0));
    const sound = await new OfflineAudioContext(1, 1, 8000).decodeAudioData(bytes.buffer);
    return [sound.duration, sound.numberOfChannels, Math.max(...sound.getChannelData(0))];
}"""
READY = """player => new Promise((good, bad) => {
    const tell = () => player.error ? bad(player.error.message) : good(player.duration);
    if (player.readyState >= 1 || player.error) tell();
    player.addEventListener("loadedmetadata", tell);
    player.addEventListener("error", tell);
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    """An opened page, and the messages of the browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("no chromium here: apt install chromium")
    path = tmp_path_factory.mktemp("page") / "report.html"
    sounds = [
        Recording(f"tone-{n}", 0.5 * np.sin(np.arange(round(s * RATE)) / 5), RATE, "<b>bold</b>")
        for n, s in enumerate(SECONDS)
    ]
    resynthesis = Resynthesis(
        number=1,
        source="a.wav",
        passes=0,
        metrics={"resynthesis": ResynthesisMetrics(3.25, None, 1.0, None, 0.5, None, None)},
        onset_f_measures={},
        original=np.zeros(8, np.float32),
        waveforms={},
    )
    evaluation = Evaluation(
        num_clips=1,
        num_samples=8,
        sample_rate=RATE,
        bits_per_sample={"model": 4.0, "uniform": 8.0},
        resyntheses=[resynthesis],
        recordings=sounds,
        facts={"steps": "7"},
        real_time_factor=None,
    )
    write_report(path, evaluation, title="A page")
    messages: list[str] = []
    with sync_api.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        opened.on("requestfailed", lambda request: messages.append(request.url[:80]))
        opened.goto(path.as_uri())
        yield opened, messages
        browser.close()


def test_every_player_is_visible_and_its_audio_decodes(page: tuple[Any, list[str]]) -> None:
    players = page[0].locator("audio").all()

    assert len(players) == len(SECONDS)
    for player, seconds in zip(players, SECONDS, strict=True):
        assert player.is_visible()
        assert player.evaluate(READY) == pytest.approx(seconds, abs=1e-3)
        duration, channels, peak = player.evaluate(DECODE)
        assert duration == pytest.approx(seconds, abs=1e-3)
        assert channels == 1
        assert peak == pytest.approx(0.5, abs=0.01)


def test_every_picture_is_loaded(page: tuple[Any, list[str]]) -> None:
    pictures = page[0].locator("img").all()

    assert len(pictures) == len(SECONDS)
    for picture in pictures:
        assert picture.evaluate("image => image.complete && image.naturalWidth") > 100


def test_tables_and_escaped_text_are_visible(page: tuple[Any, list[str]]) -> None:
    cells = ["3.250", "-", "1.000", "-", "0.500", "-", "-"]
    assert page[0].locator("table.measures tbody td").all_inner_texts() == cells * 2  # and by clip
    assert page[0].get_by_text("<b>bold</b>").count() == len(SECONDS)


def test_a_narrow_window_does_not_scroll_horizontally(page: tuple[Any, list[str]]) -> None:
    page[0].set_viewport_size({"width": 360, "height": 640})

    assert page[0].evaluate("document.documentElement.scrollWidth") <= 360


def test_the_browser_logs_no_message(page: tuple[Any, list[str]]) -> None:
    assert page[1] == []
