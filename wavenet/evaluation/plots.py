"""Plots of a recording, of a training run, of speed, and of a model's receptive field.

Figures are matplotlib objects without pyplot: no global state, no window. The colors are safe for
color-blind readers (Okabe and Ito; magma for levels).
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wavenet.config import WaveNetConfig
from wavenet.utils.errors import require
from wavenet.utils.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.floating[Any]]

BLUE, ORANGE, GREEN, INK, PALE = "#0072b2", "#d55e00", "#009e73", "#333333", "#c9ced6"
RANGE_DB = 80.0  # from the loudest to the lowest level that is shown
_DPI = 110
_COLORS = 256
_MAX_FRAMES = 1200  # of a spectrogram
_MAX_TREE_SAMPLES = 64


def save(figure: "Figure", path: Path) -> None:
    """Write a figure to `path` as PNG, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(png(figure))


def png(figure: "Figure") -> bytes:
    """Return a figure as the bytes of a PNG file; of few colors, which halves its size."""
    agg = require("matplotlib.backends.backend_agg", "train")
    image: Any = require("PIL.Image", "train")  # matplotlib needs it
    canvas, file = agg.FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # once, where `savefig` draws twice
    pixels = image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(_COLORS).save(file, format="png", optimize=True)
    return file.getvalue()


def spectrogram(waveform: Array, sample_rate: int, title: str) -> "Figure":
    """Return a waveform above its spectrogram, in dB relative to the loudest level.

    Args:
        waveform: Samples in [-1, 1], `(T,)`.
        sample_rate: In Hz.
        title: Plain text; empty for none.
    """
    figure = _figure(9.0, 4.0, layout=None)  # to find the margins takes as long as the drawing
    left, width, bottom, top = 0.065, 0.845, 0.12, 0.91 if title else 0.98
    place = {"left": left, "right": left + width, "bottom": bottom, "top": top, "hspace": 0.05}
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 4], gridspec_kw=place)
    seconds = max(len(waveform), 1) / sample_rate
    below.set_xlim(0, seconds)
    _draw_envelope(above, waveform, sample_rate)
    image = below.imshow(
        level_db(waveform, sample_rate),
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, sample_rate / 2000),
        cmap="magma",
        vmin=-RANGE_DB,
        vmax=0,
        interpolation="bilinear",
    )
    below.set_xlabel("time (s)")
    below.set_ylabel("frequency (kHz)")
    beside = figure.add_axes((left + width + 0.012, bottom, 0.012, below.get_position().height))
    bar = figure.colorbar(image, cax=beside, ticks=[0, -20, -40, -60, -80])
    bar.set_label("level (dB)")
    bar.outline.set_visible(False)
    _title(figure, title)
    return figure


def spectrogram_image(waveform: Array, sample_rate: int) -> npt.NDArray[np.uint8]:
    """Return the spectrogram of a waveform `(T,)` as RGB pixels `(H, W, 3)`, 0 Hz at the bottom."""
    colors = require("matplotlib", "train").colormaps["magma"]
    level = level_db(waveform, sample_rate)[::-1] / RANGE_DB + 1
    pixels: npt.NDArray[np.uint8] = colors(level, bytes=True)[..., :3]
    return np.ascontiguousarray(pixels)


def level_db(waveform: Array, sample_rate: int) -> Array:
    """Return the level of each frequency over time, in dB relative to the loudest, `(H, W)`.

    Frames are 32 ms, Hann windowed; their hop is 4 ms, or longer to stay within 1200 frames.

    Args:
        waveform: Samples, `(T,)`.
        sample_rate: In Hz.
    """
    size = max(64, 1 << round(np.log2(0.032 * sample_rate)))
    hop = max(1, size // 8, -(-len(waveform) // _MAX_FRAMES))
    padded = np.pad(np.asarray(waveform, dtype=np.float32), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: max(1, len(waveform)) : hop]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)).T ** 2
    floor = max(float(power.max(initial=0.0)), 1e-20) * 10 ** (-RANGE_DB / 10)
    level: Array = 10 * np.log10(np.maximum(power, floor) / floor) - RANGE_DB
    return level


def learning_curve(
    train: Sequence[tuple[int, float]],
    val: Sequence[tuple[int, float]],
    baselines: Mapping[str, float],
) -> "Figure":
    """Return bits per sample over training steps, with baselines as horizontal lines.

    Args:
        train: Steps, and the bits per sample of the training loss.
        val: Steps, and the bits per sample of the validations.
        baselines: Bits per sample by name.
    """
    figure = _figure(8.5, 4.6)
    axes = figure.subplots()
    steps, bits = [step for step, _ in train], [value for _, value in train]
    axes.plot(steps, bits, color=BLUE, alpha=0.3, linewidth=0.8)
    axes.plot(steps, _smooth(bits), color=BLUE, linewidth=1.8, label="training, smoothed")
    steps, bits = [step for step, _ in val], [value for _, value in val]
    axes.plot(steps, bits, "o-", color=ORANGE, markersize=4, linewidth=1.8, label="validation")
    last = max([1, *(step for step, _ in (*train, *val))])
    if val:
        best = min(val, key=lambda point: point[1])
        place = "right" if best[0] > 0.9 * max(steps) else "center"
        style = {"color": ORANGE, "weight": "bold", "fontsize": 10}
        _annotate(axes, f"{best[1]:.3f}", best, (0, 7), ha=place, **style)
    for name, value in baselines.items():
        axes.axhline(value, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        text = f"{name.replace('_', ' ')}  {value:.2f}"
        _annotate(axes, text, (last, value), (-4, 3), ha="right")
    axes.set_xlim(0, last * 1.02)
    axes.margins(y=0.1)
    axes.set_xlabel("training step")
    axes.set_ylabel("bits per sample (lower is better)")
    axes.grid(axis="y", color=PALE, linewidth=0.6, alpha=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 1.0))
    return figure


def speed_bars(
    title: str, rates: Mapping[str, float], spreads: Mapping[str, float], mark: tuple[float, str]
) -> "Figure":
    """Return samples per second as bars on a logarithmic scale, with a reference line.

    Args:
        title: Plain text; empty for none.
        rates: Samples per second by name, from top to bottom.
        spreads: Half widths of the error bars.
        mark: Position and name of the reference line; bars that reach it are green.
    """
    line, line_name = mark
    figure = _figure(9.0, 1.4 + 0.3 * len(rates))
    axes = figure.subplots()
    values, errors = list(rates.values()), [spreads[name] for name in rates]
    colors = [GREEN if value >= line else ORANGE for value in values]
    bars = axes.barh(list(rates), values, xerr=errors, color=colors, ecolor=INK, height=0.7)
    axes.bar_label(bars, fmt="{:,.0f}", padding=5, color=INK, fontsize=8.5)
    axes.axvline(line, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
    _annotate(axes, line_name, (line, 1.0), (4, 3), xycoords=("data", "axes fraction"))
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 3)
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:,.0f}")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("samples per second (logarithmic)")
    _title(figure, title)
    return figure


def dilation_tree(config: WaveNetConfig) -> "Figure":
    """Return a plot of the taps that one output depends on, layer by layer (WaveNet, figure 3).

    Thousands of samples cannot be distinguished, so the plot ends within the first stack of growing
    dilations, before it is wider than 64 samples. The title names the part that is shown.
    """
    layers = _shown_layers(config)
    reached = [{0}]  # of each row, output first: samples that reach the output, 0 the newest
    for _, dilation, taps in reversed(layers):
        reached.append({at - tap * dilation for at in reached[-1] for tap in range(taps)})
    reached.reverse()
    width = 1 - min(reached[0])
    figure = _figure(10.0, 1.2 + 0.62 * len(layers))
    axes = figure.subplots()
    dot = min(90.0, max(9.0, (330 / width) ** 2))  # area in square points
    for row, at in enumerate(reached):
        if width <= 2 * _MAX_TREE_SAMPLES:
            axes.scatter(range(1 - width, 1), [row] * width, s=dot, color=PALE, zorder=2)
        color = ORANGE if row == len(layers) else BLUE
        axes.scatter(sorted(at), [row] * len(at), s=dot, color=color, zorder=4)
    _draw_taps(axes, layers, reached, width)
    axes.set_frame_on(False)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_yticks(range(len(layers) + 1), ["samples", *(name for name, *_ in layers)])
    axes.margins(x=0.012, y=0.08)
    _title(figure, _tree_title(config, len(layers) - (config.input_kernel_size > 1), width))
    return figure


def _shown_layers(config: WaveNetConfig) -> list[tuple[str, int, int]]:
    """Return name, dilation and taps of the layers to draw, lowest first."""
    width = config.input_kernel_size
    layers = [("input convolution", 1, width)] if width > 1 else []
    previous = 0
    for number, dilation in enumerate(config.dilations, start=1):
        width += (config.kernel_size - 1) * dilation
        if dilation <= previous or (number > 1 and width > _MAX_TREE_SAMPLES):
            break
        layers.append((f"block {number}, dilation {dilation:,}", dilation, config.kernel_size))
        previous = dilation
    return layers


def _tree_title(config: WaveNetConfig, blocks: int, width: int) -> str:
    total = len(config.dilations)
    if blocks == total:
        return f"Receptive field: {width:,} samples"
    part = f"the first {blocks} of {total} blocks" if blocks > 1 else f"block 1 of {total}"
    return f"Receptive field of {part}: {width:,} of {config.receptive_field:,} samples"


def _draw_taps(
    axes: "Axes", layers: list[tuple[str, int, int]], reached: list[set[int]], width: int
) -> None:
    """Draw a line per tap: pale for all taps if there is space, dark for those in the tree."""
    collections = require("matplotlib.collections", "train")
    for row, (_, dilation, taps) in enumerate(layers):
        every = range(1 - width, 1) if width <= _MAX_TREE_SAMPLES // 2 else ()
        for outputs, color, line_width, order in (
            (every, PALE, 0.6, 1),
            (reached[row + 1], BLUE, 1.4 if width <= _MAX_TREE_SAMPLES else 0.8, 3),
        ):
            lines = [
                ((at - tap * dilation, row), (at, row + 1))
                for at in outputs
                for tap in range(taps)
                if at - tap * dilation > -width
            ]
            axes.add_collection(
                collections.LineCollection(lines, colors=color, linewidths=line_width, zorder=order)
            )


def _figure(width: float, height: float, layout: str | None = "constrained") -> "Figure":
    module = require("matplotlib.figure", "train")
    figure: Figure = module.Figure(figsize=(width, height), dpi=_DPI, layout=layout)
    return figure


def _title(figure: "Figure", title: str) -> None:
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold", parse_math=False)


def _annotate(
    axes: "Axes", text: str, point: tuple[float, float], offset: tuple[int, int], **style: Any
) -> None:
    """Write plain text at an offset, in typographic points, from a point of the data."""
    style = {"color": INK, "fontsize": 8.5, "parse_math": False, **style}
    axes.annotate(text, point, xytext=offset, textcoords="offset points", **style)


def _draw_envelope(axes: "Axes", waveform: Array, sample_rate: int) -> None:
    """Draw the minimum and maximum of each of at most 2000 intervals."""
    width = max(1, -(-len(waveform) // 2000))
    starts = np.arange(0, len(waveform), width)
    if len(starts):
        low, high = np.minimum.reduceat(waveform, starts), np.maximum.reduceat(waveform, starts)
        seconds = (starts + (width - 1) / 2) / sample_rate
        axes.fill_between(seconds, low, high, color=BLUE, linewidth=0.4)
    limit = max(float(np.abs(waveform).max(initial=0.0)), 1e-3) * 1.05
    axes.set_ylim(-limit, limit)
    axes.set_axis_off()


def _smooth(values: Sequence[float]) -> Array:
    """Return the centered moving average over a twenty-fifth of the values."""
    reach = len(values) // 50
    sums = np.cumsum([0.0, *values])
    index = np.arange(len(values))
    first, last = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    smooth: Array = (sums[last] - sums[first]) / (last - first)
    return smooth
