"""Audio from a model: resynthesis of held-out clips, unconditional samples, a continued prompt."""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wavenet.checkpoint import Checkpoint
from wavenet.config import AudioConfig
from wavenet.data.clip_frames import read_clip_frames
from wavenet.data.dataset import read_clip
from wavenet.data.manifest import Clip, frames_of
from wavenet.distributions import SamplingConfig
from wavenet.evaluation.baselines import MEL_CONTROLS, is_invertible, quantized
from wavenet.evaluation.metrics import Original, ResynthesisMetrics, onset_f_measure
from wavenet.evaluation.options import EvaluationOptions
from wavenet.features.filters import build_filter
from wavenet.features.frames import Features
from wavenet.features.mel import LogMel
from wavenet.features.mel_consistency import MelConsistency, can_overlap_add
from wavenet.features.score import read_notes
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, make_sampler
from wavenet.sampling.voicing import check_voicing
from wavenet.utils.data_identity import NULL_SPEAKER
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

Samples = NDArray[np.float32]
RESYNTHESIS = "resynthesis"
PREDICTOR_ALONE = "predictor alone"
ALL = Shard(1, 1)


def passes_text(passes: int) -> str:
    """Return how many passes, such as `3 passes`."""
    return f"{passes} pass{'es' * (passes > 1)}"


def consistent(name: str, passes: int) -> str:
    """Return the name of a waveform after passes of mel consistency, the same for none."""
    return f"{name}, {passes_text(passes)}" if passes else name


@dataclass(frozen=True)
class Recording:
    """A recording on the listening page.

    Attributes:
        name: Its heading and file name.
        waveform: Samples, `(T,)`; values outside [-1, 1] are clipped.
        sample_rate: In Hz.
        note: A sentence below the heading; may be empty.
        clip: The held-out clip that it stands for; empty for other audio.
        label: Its heading where the page opens with the clip; empty for further down.
        metrics: Against the original.
    """

    name: str
    waveform: NDArray[np.floating[Any]]
    sample_rate: int
    note: str = ""
    clip: str = ""
    label: str = ""
    metrics: ResynthesisMetrics | None = None


@dataclass(frozen=True, kw_only=True)
class ResynthesisScores:
    """Scores of a held-out clip that was generated again from its own features.

    Attributes:
        number: Rank among the resynthesized clips, longest first, from 1.
        source: The recording that the clip is from.
        passes: Of mel consistency, after which the waveforms are compared too, under the name of
            `consistent`; 0 for none.
        metrics: Of each waveform of the `Resynthesis` against the original.
        onset_f_measures: Of the original and the resynthesis against the clip's score; empty
            without a score.
    """

    number: int
    source: str
    passes: int
    metrics: dict[str, ResynthesisMetrics]
    onset_f_measures: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Resynthesis(ResynthesisScores):
    """The same with the audio.

    Attributes:
        original: The clip's samples, `(T,)`.
        waveforms: By name, `(T,)` each: the model's, `resynthesis`, and the baselines.
    """

    original: Samples
    waveforms: dict[str, Samples]


@dataclass(frozen=True)
class GenerationTime:
    """Seconds that sampling took on one core, and the generated samples."""

    num_samples: int = 0
    seconds: float = 0.0

    def __add__(self, other: "GenerationTime") -> "GenerationTime":
        return GenerationTime(self.num_samples + other.num_samples, self.seconds + other.seconds)


def clip_conditioning(audio: AudioConfig, folder: Path, clip: Clip, length: int) -> dict[str, Any]:
    """Return the conditioning of a clip, batch size 1, as the keywords of `Sampler.init_state`.

    Args:
        audio: Defines the conditioning.
        folder: The prepared folder.
        clip: From its manifest.
        length: Samples from the clip's start to cover.
    """
    conditioning: dict[str, Any] = {}
    if audio.speaker_names:
        ids = {name: number for number, name in enumerate(audio.speaker_names)}
        conditioning["speaker"] = torch.tensor([ids.get(clip.speaker, NULL_SPEAKER)])
    if audio.features:
        notes = read_notes(folder / clip.notes) if clip.notes else None
        waveform, given = read_clip(folder, clip), None
        if audio.frames is not None:
            complete = dataclasses.replace(clip, frames=len(waveform))
            given = torch.from_numpy(read_clip_frames(folder, complete, audio.frames))
        frames = Features(audio).from_recording(waveform, notes, given)
        conditioning["local"] = frames[..., : -(-length // (audio.hop_length or 1))]
    return conditioning


def applied_passes(audio: AudioConfig, options: EvaluationOptions) -> int:
    """Return the passes of mel consistency that are applied, 0 where the audio has no such mel."""
    possible = audio.mel is not None and can_overlap_add(audio.mel)
    return options.mel_consistency if possible else 0


def num_compared(model: WaveNet, audio: AudioConfig, options: EvaluationOptions) -> int:
    """Return how many waveforms of a clip a `Synthesizer` compares with the original."""
    mel, controls = audio.mel, int(model.mel_predictor is not None)
    if mel is not None and is_invertible(mel):
        controls += len(MEL_CONTROLS)
    versions = 2 if applied_passes(audio, options) else 1
    return 1 + versions * (1 + controls)  # the original after quantization is one


@dataclass
class Synthesizer:
    """Generates recordings from a model and measures how long that takes.

    Attributes:
        loaded: The model.
        folder: Prepared recordings.
        options: Lengths, numbers and temperature.
        seed: Of the noise.
        time: Time that all recordings have taken.
    """

    loaded: Checkpoint
    folder: Path
    options: EvaluationOptions
    seed: int = 0
    time: GenerationTime = GenerationTime()

    def __post_init__(self) -> None:
        self.model, self.audio, _ = self.loaded
        self.signal_filter = build_filter(self.audio)
        self.passes = applied_passes(self.audio, self.options)
        self.sampling = SamplingConfig(
            temperature=self.options.temperature,
            voiced_temperature=self.options.voiced_temperature,
        )
        check_voicing(self.model, self.sampling)

    @cached_property
    def sampler(self) -> Sampler:
        """Sampler of the model, made when first used."""
        return make_sampler(self.model)

    @cached_property
    def predictor_sampler(self) -> Sampler | None:
        """Sampler of noise through the linear predictor of the mel; `None` without one.

        The model's network is left out: its parameters are zeros, the residual's own density.
        """
        if self.model.mel_predictor is None:
            return None
        alone = copy.deepcopy(self.model)
        for weight in alone.head.output.parameters():
            nn.init.zeros_(weight)
        return make_sampler(alone)

    def resynthesize(self, clips: Sequence[Clip], shard: Shard = ALL) -> Iterator[Resynthesis]:
        """Yield the resynthesis of the longest clips, with metrics.

        Args:
            clips: To choose from.
            shard: Which of the chosen clips to resynthesize.
        """
        longest, rate = self.longest(clips), self.audio.sample_rate
        mine = shard.of(range(len(longest)))
        if not mine:
            return
        generated = {}
        with self._generating(sum(longest[number].frames for number in mine)) as generate:
            for number in mine:
                clip = longest[number]
                conditioning = clip_conditioning(self.audio, self.folder, clip, clip.frames)
                generated[number] = generate(clip.frames, **conditioning)
        total = len(mine) * num_compared(self.model, self.audio, self.options)
        with progress(total, unit="waveform", description="measuring") as measured:
            for number in mine:
                resynthesis, clip = generated[number], longest[number]
                other = longest[(number + 1) % len(longest)]
                own = self.with_mel_consistency(clip, {RESYNTHESIS: resynthesis})
                original, waveforms = self.with_baselines(clip, own)
                reference = Original(original, rate)
                metrics = {}
                for name, waveform in waveforms.items():
                    metrics[name] = reference.compare(waveform)
                    measured()
                yield Resynthesis(
                    number=number + 1,
                    source=clip.source,
                    passes=self.passes,
                    metrics=metrics,
                    onset_f_measures=self._onset_f_measures(clip, other, original, resynthesis),
                    original=original,
                    waveforms=waveforms,
                )

    def longest(self, clips: Sequence[Clip]) -> list[Clip]:
        """Return the clips to resynthesize, longest first, cut to `resynthesis_seconds`."""
        order = np.argsort(-frames_of(clips), kind="stable")[: self.options.num_resynthesis]
        longest = [clips[int(index)] for index in order]
        if self.options.resynthesis_seconds is None:
            return longest
        limit = max(1, round(self.options.resynthesis_seconds * self.audio.sample_rate))
        return [dataclasses.replace(clip, frames=min(clip.frames, limit)) for clip in longest]

    def with_mel_consistency(
        self, clip: Clip, waveforms: Mapping[str, Samples]
    ) -> dict[str, Samples]:
        """Return waveforms of a clip, `(T,)` by name, each followed by itself with the clip's mel.

        The same waveforms for a model without a mel, and where the options turn it off.
        """
        mel, passes = self.audio.mel, self.passes
        if mel is None or not passes:
            return dict(waveforms)
        wanted = LogMel(mel)(torch.from_numpy(read_clip(self.folder, clip))[None])[0]
        consistency, both = MelConsistency(mel, passes), {}
        for name, waveform in waveforms.items():
            both[name] = waveform
            both[consistent(name, passes)] = consistency(torch.from_numpy(waveform), wanted).numpy()
        return both

    def with_baselines(
        self, clip: Clip, own: Mapping[str, Samples]
    ) -> tuple[Samples, dict[str, Samples]]:
        """Return the original of a resynthesis, and the model's own waveforms with the baselines.

        Args:
            clip: The clip.
            own: From `with_mel_consistency`.
        """
        original = read_clip(self.folder, clip)[: clip.frames]
        mel, controls = self.audio.mel, {}
        if mel is not None and is_invertible(mel):
            controls = {name: control(original, mel) for name, control in MEL_CONTROLS.items()}
        if self.predictor_sampler is not None:
            frames = clip_conditioning(self.audio, self.folder, clip, clip.frames)
            signal = self.predictor_sampler.generate(clip.frames, seed=self.seed, **frames)
            controls[PREDICTOR_ALONE] = signal[0].float().numpy()
        best = quantized(original, self.model.distribution, self.signal_filter)
        return original, {
            **own,
            "quantized": best,
            **self.with_mel_consistency(clip, controls),
        }

    def unconditional(self) -> Iterator[Recording]:
        """Yield samples that start from silence, `num_samples` for each speaker of the model."""
        rate = self.audio.sample_rate
        length = round(self.options.sample_seconds * rate)
        names = self.audio.speaker_names or ("unconditional",)
        with self._generating(length * self.options.num_samples * len(names)) as generate:
            for number, name in enumerate(names):
                speaker = torch.tensor([number]) if self.audio.speaker_names else None
                for index in range(self.options.num_samples):
                    signal = generate(length, seed=index, speaker=speaker)
                    yield Recording(f"{name}-{index + 1}", signal, rate, "generated from silence")

    def continuation(self, clips: Sequence[Clip]) -> Iterator[Recording]:
        """Yield a held-out clip whose start is the prompt, continued by the model, and the clip."""
        options, rate = self.options, self.audio.sample_rate
        length = round(options.sample_seconds * rate)
        prompt_length = round(options.prompt_seconds * rate)
        long_enough = np.flatnonzero(frames_of(clips) > prompt_length)
        if not len(long_enough) or not prompt_length:
            return
        clip = clips[int(long_enough[0])]
        original = read_clip(self.folder, clip)[: prompt_length + length]
        prompt = self.signal_filter.apply(torch.from_numpy(original[:prompt_length]))
        conditioning = clip_conditioning(self.audio, self.folder, clip, clip.frames)
        with self._generating(length) as generate:
            signal = generate(length, prompt=prompt, **conditioning)
        note = f"the first {options.prompt_seconds:g} s are held-out audio, the rest is generated"
        yield Recording("continued", signal, rate, note)
        yield Recording("original", original, rate, "the held-out recording itself")

    def _onset_f_measures(
        self, clip: Clip, other: Clip, original: Samples, resynthesis: Samples
    ) -> dict[str, float | None]:
        """Return the F-measures of onsets; another clip's score shows the chance level."""
        if self.audio.score is None or not clip.notes:
            return {}
        rate, notes = self.audio.sample_rate, read_notes(self.folder / clip.notes)
        onsets = {
            "original": onset_f_measure(original, rate, notes),
            RESYNTHESIS: onset_f_measure(resynthesis, rate, notes),
        }
        if other is not clip and other.notes:
            common = resynthesis[: min(clip.frames, other.frames)]
            other_notes = read_notes(self.folder / other.notes)
            onsets["resynthesis, wrong score"] = onset_f_measure(common, rate, other_notes)
        return onsets

    @contextlib.contextmanager
    def _generating(self, num_samples: int) -> Iterator[Callable[..., Samples]]:
        """Yield a function that generates a waveform; making the sampler is not timed."""
        sampler, sampling = self.sampler, self.sampling

        def generate(
            length: int, seed: int = 0, prompt: torch.Tensor | None = None, **conditioning: Any
        ) -> Samples:
            """Return a waveform, `(T,)`, with its prompt in front if there is one."""
            started = time.perf_counter()
            signal = sampler.generate(
                length,
                seed=self.seed + seed,
                sampling=sampling,
                progress=advance,
                prompt=prompt,
                **conditioning,
            )
            self.time += GenerationTime(length, time.perf_counter() - started)
            generated = signal.cpu().float()
            if prompt is not None:
                generated = torch.cat([prompt[None], generated], dim=1)
            samples: Samples = self.signal_filter.inverse()(generated)[0].numpy()
            return samples

        with progress(num_samples, unit="sample", description="generating") as advance:
            yield generate
