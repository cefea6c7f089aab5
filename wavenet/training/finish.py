"""What a finished run leaves to hear and look at: scores, recordings, pictures, one report."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet import checkpoint
from wavenet.data.audio import WavWriter
from wavenet.data.manifest import Clip, read_manifest
from wavenet.distributions import Draw
from wavenet.errors import printable
from wavenet.evaluation import pictures
from wavenet.evaluation.report import Recording, write_report
from wavenet.evaluation.scores import excerpts_of, held_out, read_clip, score_table, scores
from wavenet.evaluation.synthesis import conditions_of_clip
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
        excerpts = excerpts_of(loaded.model.config, loaded.audio, folder)
        bits = scores(loaded.model, excerpts, clips)
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
    """Return what there is to hear: copies of held-out clips, or free speech and a continuation."""
    voice = _Voice(loaded, config, folder)
    if loaded.audio.features:
        return list(voice.copies(clips))
    return [*voice.free(), *voice.continued(clips)]


class _Voice:
    """What a finished run's model says.

    Args:
        loaded: The model.
        config: What the run was.
        folder: Its prepared data.
    """

    def __init__(self, loaded: checkpoint.Checkpoint, config: RunConfig, folder: Path) -> None:
        self.sampler = make_sampler(loaded.model)
        self.audio = loaded.audio
        self.config = config
        self.folder = folder

    def copies(self, clips: Sequence[Clip]) -> Iterator[Recording]:
        """Yield held-out clips, each followed by what is drawn from its features."""
        longest = sorted(clips, key=lambda clip: -clip.frames)[: self.config.report.copies]
        told = _Told(sum(clip.frames for clip in longest))
        for number, clip in enumerate(longest, start=1):
            copy = self._draw(
                clip.frames, told, **conditions_of_clip(self.audio, self.folder, clip)
            )
            note = f"held out: {printable(clip.source, 60)}"
            yield self._recording(f"original-{number}", read_clip(self.folder, clip), note)
            note = f"drawn from the {' and '.join(self.audio.features)} of the original"
            yield self._recording(f"copy-{number}", copy, note)

    def free(self) -> Iterator[Recording]:
        """Yield what is drawn from silence, in each voice that the model knows."""
        length = round(self.config.report.seconds * self.audio.sample_rate)
        voices = self.audio.speakers or ("unconditional",)
        told = _Told(length * self.config.report.count * len(voices))
        for number, name in enumerate(voices):
            speaker = torch.tensor([number]) if self.audio.speakers else None
            for index in range(self.config.report.count):
                signal = self._draw(length, told, seed=index, speaker=speaker)
                yield self._recording(f"{name}-{index + 1}", signal, "generated from silence")

    def continued(self, clips: Sequence[Clip]) -> Iterator[Recording]:
        """Yield a held-out clip whose start the model goes on from, and the clip."""
        report, rate = self.config.report, self.audio.sample_rate
        length, before = (round(s * rate) for s in (report.seconds, report.prompt_seconds))
        long_enough = [clip for clip in clips if clip.frames > before]
        if not long_enough or not before:
            return
        clip = read_clip(self.folder, long_enough[0])[: before + length]
        prompt = torch.from_numpy(clip[:before])
        conditions = conditions_of_clip(self.audio, self.folder, long_enough[0])
        rest = self._draw(length, _Told(length), prompt=prompt, **conditions)
        note = f"the first {report.prompt_seconds:g} s are held-out audio, the rest is drawn"
        yield self._recording("continued", np.concatenate([clip[:before], rest]), note)
        yield self._recording("original", clip, "the held-out recording itself")

    def _draw(self, length: int, told: "_Told", seed: int = 0, **how: Any) -> NDArray[np.float32]:
        signal = self.sampler.generate(
            length,
            seed=self.config.seed + seed,
            draw=Draw(temperature=self.config.report.temperature),
            progress=told,
            **how,
        )
        samples: NDArray[np.float32] = signal[0].cpu().float().numpy()
        return samples

    def _recording(self, name: str, signal: NDArray[np.float32], note: str) -> Recording:
        return Recording(name, signal, self.audio.sample_rate, note)


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
