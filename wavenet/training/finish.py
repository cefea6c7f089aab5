"""What a finished run leaves to hear and look at: scores, recordings, pictures, one report."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet import checkpoint
from wavenet.data.audio import WavWriter
from wavenet.data.manifest import Clip, read_manifest
from wavenet.distributions import Draw
from wavenet.evaluation import pictures
from wavenet.evaluation.report import Recording, write_report
from wavenet.evaluation.scores import held_out, read_clip, score_table, scores
from wavenet.sampling import make_sampler
from wavenet.training.history import History
from wavenet.training.options import RunConfig
from wavenet.training.progress import SECONDS

log = logging.getLogger("wavenet")


def finish(run: Path, config: RunConfig, history: History) -> None:
    """Evaluate, generate and report from `run/model`, the best model of a run.

    Args:
        run: The run's folder.
        config: What the run was.
        history: Loss curve and validations.
    """
    loaded = checkpoint.load(run / "model")
    folder = config.data.folder
    clips = held_out(read_manifest(folder), config.report.evaluate_seconds)
    bits: dict[str, float] = {}
    if clips:
        seconds = sum(clip.frames for clip in clips) / config.audio.sample_rate
        log.info("evaluating on %.0f s of held-out audio", seconds)
        bits = scores(loaded.model, folder, clips)
        log.info("%s", score_table(bits))
    recordings = _recordings(loaded, config, folder, clips)
    for recording in recordings:
        _write(run / "samples", recording)
    curve = pictures.learning_curve(
        [step for step, _ in history.train],
        [value for _, value in history.train],
        [step for step, _ in history.valid],
        [value for _, value in history.valid],
        {name: value for name, value in bits.items() if name != "model"},
    )
    pictures.save(curve, run / "learning_curve.png")
    write_report(
        run / "report.html",
        title=f"WaveNet: {config.name}",
        facts=_facts(loaded, config),
        scores=bits,
        recordings=recordings,
        curve_png=(run / "learning_curve.png").read_bytes(),
    )
    log.info("open %s to listen and look", run / "report.html")


def _recordings(
    loaded: checkpoint.Checkpoint, config: RunConfig, folder: Path, clips: Sequence[Clip]
) -> list[Recording]:
    rate = loaded.audio.sample_rate
    sampler = make_sampler(loaded.model)
    draw = Draw(temperature=config.report.temperature)
    length = round(config.report.seconds * rate)
    told = _Told(length * (config.report.count + 1))
    generated = torch.cat(
        [
            sampler.generate(length, seed=config.seed + index, draw=draw, progress=told)
            for index in range(config.report.count)
        ]
        or [torch.empty(0, length)]
    )
    recordings = [
        Recording(f"unconditional-{index}", _plain(signal), rate, "generated from silence")
        for index, signal in enumerate(generated, start=1)
    ]
    prompt_length = round(config.report.prompt_seconds * rate)
    long_enough = [clip for clip in clips if clip.frames > prompt_length]
    if long_enough and prompt_length:
        clip = read_clip(folder, long_enough[0])[: prompt_length + length]
        prompt = torch.from_numpy(clip[:prompt_length])
        rest = sampler.generate(length, prompt=prompt, seed=config.seed, draw=draw, progress=told)[
            0
        ]
        continued = np.concatenate([prompt.numpy(), _plain(rest)])
        note = f"the first {config.report.prompt_seconds:g} s are held-out audio, the rest is drawn"
        recordings.append(Recording("continued", continued, rate, note))
        recordings.append(Recording("original", clip, rate, "the held-out recording itself"))
    return recordings


class _Told:
    """Tells now and then how much of the audio is generated, and how long the rest takes.

    Args:
        total: Samples in all.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.started = self.told = time.monotonic()
        log.info("generating %s samples of audio", f"{total:,}")

    def __call__(self, samples: int) -> None:
        self.done += samples
        now = time.monotonic()
        if now - self.told > SECONDS and self.done < self.total:
            self.told = now
            left = (now - self.started) * (self.total - self.done) / self.done
            log.info("generated %s, about %.0f s left", f"{self.done:,}", left)


def _plain(signal: torch.Tensor) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = signal.cpu().float().numpy()
    return samples


def _write(folder: Path, recording: Recording) -> None:
    folder.mkdir(exist_ok=True)
    with WavWriter(folder / f"{recording.name}.wav", recording.sample_rate) as file:
        file.write(recording.waveform)
    figure = pictures.spectrogram(recording.waveform, recording.sample_rate, recording.name)
    pictures.save(figure, folder / f"{recording.name}.png")


def _facts(loaded: checkpoint.Checkpoint, config: RunConfig) -> dict[str, str]:
    model, training = loaded.model, loaded.training
    seconds = model.config.receptive_field_seconds(loaded.audio.sample_rate)
    return {
        "Data": training.data,
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{loaded.audio.sample_rate:,} Hz",
        "Steps": f"{training.steps:,}",
        "Blocks": str(len(model.config.dilations)),
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Receptive field": f"{model.config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
        "Seed": str(config.seed),
    }
