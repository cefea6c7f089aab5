"""What a model says: held-out clips again from their features, free speech, and continuations."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.checkpoint import Checkpoint
from wavenet.data.clip_reader import read_clip
from wavenet.data.manifest import Clip, frames_of
from wavenet.distributions import SamplingConfig
from wavenet.evaluation.copies import griffin_lim, invertible, round_trip
from wavenet.evaluation.metrics import CopyScores, copy_scores
from wavenet.evaluation.onsets import onset_score
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import Recording
from wavenet.evaluation.synthesis import conditions_of_clip
from wavenet.features.filters import shaping_of
from wavenet.features.score import read_notes
from wavenet.sampling import make_sampler
from wavenet.utils.sharding import Shard

Samples = NDArray[np.float32]
log = logging.getLogger("wavenet")
COPY = "copy"
ALL = Shard(1, 1)
SECONDS = 10.0  # between two words on how far it is


@dataclass(frozen=True)
class Copied:
    """A held-out clip that a model has spoken again.

    Attributes:
        number: Its place among the clips that are spoken, from 1.
        clip: The clip.
        original: Its samples, `(T,)`.
        copies: By name, `(T,)` each: the model's, called `copy`, and those that anyone can make.
        scores: The distance of each copy from the original.
        onsets: F-measure of onsets against the clip's score, of the original and of the copy;
            empty where there is no score.
    """

    number: int
    clip: Clip
    original: Samples
    copies: dict[str, Samples]
    scores: dict[str, CopyScores]
    onsets: dict[str, float | None]


class Voice:
    """Draws from a model, and counts how long that takes.

    Args:
        loaded: The model.
        folder: Prepared recordings.
        options: How much to say, and how freely.
        seed: Of the draws.

    Attributes:
        drawn: Samples drawn so far.
        took: Seconds of work for them, on one core.
    """

    def __init__(
        self, loaded: Checkpoint, folder: Path, options: EvaluationOptions, seed: int = 0
    ) -> None:
        self.model = loaded.model
        self.audio = loaded.audio
        self.sampler = make_sampler(loaded.model)
        self.shaping = shaping_of(loaded.audio)
        self.folder = folder
        self.options = options
        self.seed = seed
        self.drawn, self.took = 0, 0.0

    def copies(self, clips: Sequence[Clip], shard: Shard = ALL) -> Iterator[Copied]:
        """Yield the longest clips spoken again, with their distances from the original.

        Args:
            clips: Those to choose from.
            shard: Which of the chosen ones to speak.
        """
        longest = self.longest(clips)
        mine = [number for number in range(len(longest)) if shard.takes(number)]
        if not mine:
            return
        told = _Told(sum(longest[number].frames for number in mine))
        drawn = [self._copy(longest[number], told) for number in mine]
        rate = self.audio.sample_rate
        for number, copy in zip(mine, drawn, strict=True):
            clip, other = longest[number], longest[(number + 1) % len(longest)]
            original, copies = self.beside(clip, copy)
            scores = {name: copy_scores(original, c, rate) for name, c in copies.items()}
            onsets = self._onsets(clip, other, original, copy)
            yield Copied(number + 1, clip, original, copies, scores, onsets)

    def longest(self, clips: Sequence[Clip]) -> list[Clip]:
        """Return the clips that are spoken again, the longest first, cut as copies are."""
        order = np.argsort(-frames_of(clips), kind="stable")[: self.options.num_resynthesis]
        return [self._cut(clips[int(place)]) for place in order]

    def beside(self, clip: Clip, copy: Samples) -> tuple[Samples, dict[str, Samples]]:
        """Return the original of a copy, and the copy beside those that anyone can make."""
        original = read_clip(self.folder, clip)[: clip.frames]
        copies = {
            COPY: copy,
            "round trip": round_trip(original, self.model.distribution, self.shaping),
        }
        if self.audio.mel is not None and invertible(self.audio.mel):
            copies["Griffin-Lim"] = griffin_lim(original, self.audio.mel)
        return original, copies

    def free(self) -> Iterator[Recording]:
        """Yield what is drawn from silence, in each voice that the model knows."""
        length = round(self.options.sample_seconds * self.audio.sample_rate)
        voices = self.audio.speaker_names or ("unconditional",)
        told = _Told(length * self.options.num_samples * len(voices))
        for number, name in enumerate(voices):
            speaker = torch.tensor([number]) if self.audio.speaker_names else None
            for index in range(self.options.num_samples):
                signal = self._draw(length, told, seed=index, speaker=speaker)
                yield self.recording(f"{name}-{index + 1}", signal, "generated from silence")

    def continued(self, clips: Sequence[Clip]) -> Iterator[Recording]:
        """Yield a held-out clip whose start the model goes on from, and the clip."""
        options, rate = self.options, self.audio.sample_rate
        length, before = (round(s * rate) for s in (options.sample_seconds, options.prompt_seconds))
        long_enough = np.flatnonzero(frames_of(clips) > before)
        if not len(long_enough) or not before:
            return
        longer = clips[int(long_enough[0])]
        clip = read_clip(self.folder, longer)[: before + length]
        prompt = self.shaping.apply(torch.from_numpy(clip[:before]))
        conditions = conditions_of_clip(self.audio, self.folder, longer)
        sound = self._draw(length, _Told(length), prompt=prompt, **conditions)
        note = f"the first {options.prompt_seconds:g} s are held-out audio, the rest is drawn"
        yield self.recording("continued", sound, note)
        yield self.recording("original", clip, "the held-out recording itself")

    def recording(self, name: str, signal: Samples, note: str) -> Recording:
        """Return a sound of the model's rate for the page."""
        return Recording(name, signal, self.audio.sample_rate, note)

    def _cut(self, clip: Clip) -> Clip:
        """Return the start of a clip, as long as copies may be."""
        seconds = self.options.resynthesis_seconds
        most = clip.frames if seconds is None else max(1, round(seconds * clip.sample_rate))
        return dataclasses.replace(clip, frames=min(clip.frames, most))

    def _copy(self, clip: Clip, told: "_Told") -> Samples:
        conditions = conditions_of_clip(self.audio, self.folder, clip, clip.frames)
        return self._draw(clip.frames, told, **conditions)

    def _onsets(
        self, clip: Clip, other: Clip, original: Samples, copy: Samples
    ) -> dict[str, float | None]:
        """Return the F-measures of onsets; another clip's score shows what chance gives."""
        if self.audio.score is None or not clip.notes:
            return {}
        rate, notes = self.audio.sample_rate, read_notes(self.folder / clip.notes)
        onsets = {
            "original": onset_score(original, rate, notes),
            COPY: onset_score(copy, rate, notes),
        }
        if other is not clip and other.notes:
            both = copy[: min(clip.frames, other.frames)]
            foreign = read_notes(self.folder / other.notes)
            onsets["copy, another's score"] = onset_score(both, rate, foreign)
        return onsets

    def _draw(
        self,
        length: int,
        told: "_Told",
        seed: int = 0,
        prompt: torch.Tensor | None = None,
        **how: Any,
    ) -> Samples:
        """Return the recording that is drawn, `(T,)`, after its prompt, a signal, if there is."""
        started = time.perf_counter()
        signal = self.sampler.generate(
            length,
            seed=self.seed + seed,
            sampling=SamplingConfig(temperature=self.options.temperature),
            progress=told,
            prompt=prompt,
            **how,
        )
        self.took += time.perf_counter() - started
        self.drawn += length
        drawn = signal.cpu().float()
        if prompt is not None:
            drawn = torch.cat([prompt[None], drawn], dim=1)
        samples: Samples = self.shaping.undone()(drawn)[0].numpy()
        return samples


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
