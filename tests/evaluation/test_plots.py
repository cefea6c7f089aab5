"""Plots show their data, and a failed save leaves no file."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from wavenet.config import WaveNetConfig
from wavenet.evaluation.plots import (
    dilation_tree,
    learning_curve,
    level_db,
    png,
    save,
    spectrogram,
    spectrogram_image,
)
from wavenet.utils.errors import MachineError

RATE = 8000
TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.float32)


def texts(figure: Figure) -> str:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    return "\n".join([figure.get_suptitle(), *found])


def test_a_tone_is_loudest_at_its_frequency() -> None:
    level = level_db(TONE, RATE)

    loudest = level.mean(axis=1).argmax() * RATE / 2 / (len(level) - 1)
    assert loudest == pytest.approx(1000, abs=RATE / 256)
    assert level.max() == pytest.approx(0)
    assert level.min() == pytest.approx(-80)


@pytest.mark.parametrize("samples", [0, 1, 63, 300_000])
def test_a_spectrogram_of_any_length_has_at_most_its_frames(samples: int) -> None:
    level = level_db(np.zeros(samples, dtype=np.float32), RATE)

    assert 1 <= level.shape[1] <= 1200
    np.testing.assert_allclose(level, -80, atol=1e-6)


def test_the_image_is_brightest_at_the_tone_with_0_hz_at_the_bottom() -> None:
    image = spectrogram_image(TONE, RATE)

    height, width, _ = image.shape
    assert image.dtype == np.uint8
    brightness = image.sum(axis=2, dtype=int).mean(axis=1)
    assert brightness.argmax() == height - 1 - round(1000 / (RATE / 2) * (height - 1))
    assert width <= 1200


@pytest.mark.parametrize("waveform", [TONE, np.zeros(0, dtype=np.float32), TONE[:1]])
def test_a_spectrogram_is_drawn_for_any_length(waveform: np.ndarray) -> None:
    figure = spectrogram(waveform, RATE, "cost: $5_000$")

    assert figure.get_suptitle() == "cost: $5_000$"
    assert png(figure).startswith(b"\x89PNG")


def test_a_saved_figure_is_a_png_file(tmp_path: Path) -> None:
    save(dilation_tree(WaveNetConfig(dilations=(1, 2))), tmp_path / "tree.picture")

    assert matplotlib.image.imread(tmp_path / "tree.picture", format="png").ndim == 3
    assert [path.name for path in tmp_path.iterdir()] == ["tree.picture"]


def test_a_figure_that_cannot_be_written_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "tree.png").mkdir()

    with pytest.raises(MachineError, match="cannot write"):
        save(dilation_tree(WaveNetConfig(dilations=(1, 2))), tmp_path / "tree.png")

    assert [path.name for path in tmp_path.iterdir()] == ["tree.png"]


def test_the_learning_curve_names_the_baselines_and_the_best_validation() -> None:
    figure = learning_curve(
        [(1, 8.0), (2, 7.0), (3, 6.0)], [(1, 7.9), (3, 6.125)], {"linear_prediction": 6.5}
    )

    assert "linear prediction  6.50" in texts(figure)
    assert "6.125" in texts(figure)
    assert png(figure)


def test_an_empty_learning_curve_is_drawn() -> None:
    assert png(learning_curve([], [], {}))


@pytest.mark.parametrize(
    ("config", "ending"),
    [
        (WaveNetConfig(dilations=(1, 2, 4, 8)), "Receptive field: 16 samples"),
        (WaveNetConfig(), "the first 6 of 30 blocks: 64 of 3,070 samples"),
        (WaveNetConfig(dilations=(512, 512)), "block 1 of 2: 513 of 1,025 samples"),
        (
            WaveNetConfig(dilations=(1, 3), kernel_size=3, input_kernel_size=2),
            "Receptive field: 10 samples",
        ),
        (WaveNetConfig(dilations=(1,), kernel_size=1), "Receptive field: 1 samples"),
    ],
)
def test_the_title_of_the_dilation_tree_names_the_part_it_shows(
    config: WaveNetConfig, ending: str
) -> None:
    figure = dilation_tree(config)

    assert figure.get_suptitle().endswith(ending)
    assert "block 1, dilation" in texts(figure)
    assert png(figure)


def test_the_dilation_tree_has_a_line_per_tap_that_reaches_the_output() -> None:
    (axes,) = dilation_tree(WaveNetConfig(dilations=(1, 2, 4))).axes

    lines = [c for c in axes.collections if c.get_zorder() == 3]
    assert [len(c.get_paths()) for c in lines] == [8, 4, 2]
