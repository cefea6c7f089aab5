"""The steps of an evaluation, and its results."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wavenet.checkpoint import Checkpoint
from wavenet.config import FilterConfig
from wavenet.data.manifest import Clip, frames_of, read_manifest
from wavenet.evaluation.baselines import baselines
from wavenet.evaluation.held_out import first_seconds
from wavenet.evaluation.metrics import mean_metrics
from wavenet.evaluation.nll import (
    TotalNll,
    make_clip_reader,
    model_input,
    model_nll,
    num_evaluated_samples,
)
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import bits_text, resynthesis_tables
from wavenet.evaluation.synthesis import (
    ALL,
    RESYNTHESIS,
    GenerationTime,
    Recording,
    Resynthesis,
    Synthesizer,
)
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import printable
from wavenet.utils.progress import progress
from wavenet.utils.sharding import Shard

HELD_OUT = "Held-out audio"
REAL_TIME_FACTOR = "Real-time factor"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        clips: Those that `bits_per_sample` is measured on.
        sample_rate: In Hz.
        bits_per_sample: By name: the model, then the baselines; empty without held-out clips.
        resyntheses: Held-out clips, generated again from their features.
        recordings: For the listening page.
        facts: Facts about the model and the evaluation, by name.
        real_time_factor: Seconds of computation per second of audio, on one core.
    """

    clips: Sequence[Clip]
    sample_rate: int
    bits_per_sample: dict[str, float]
    resyntheses: Sequence[Resynthesis]
    recordings: Sequence[Recording]
    facts: dict[str, str]
    real_time_factor: float | None

    def text(self) -> str:
        """Return the results as lines to print."""
        parts = [table.text() for table in resynthesis_tables(self.resyntheses)]
        if self.clips:
            parts.insert(0, f"{self.facts[HELD_OUT]}\n{bits_text(self.bits_per_sample)}")
        if self.real_time_factor is not None:
            parts.append(f"real-time factor {self.facts[REAL_TIME_FACTOR]}")
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the results as plain data for JSON."""
        names = self.resyntheses[0].metrics if self.resyntheses else ()
        means = {name: mean_metrics([r.metrics[name] for r in self.resyntheses]) for name in names}
        return {
            "clips": len(self.clips),
            "samples": int(frames_of(self.clips).sum()),
            "sample_rate": self.sample_rate,
            "bits_per_sample": self.bits_per_sample,
            "mean_metrics": {name: dataclasses.asdict(mean) for name, mean in means.items()},
            "resyntheses": [
                {
                    "number": one.number,
                    "source": one.clip.source,
                    "metrics": {name: dataclasses.asdict(m) for name, m in one.metrics.items()},
                    "onset_f_measures": one.onset_f_measures,
                }
                for one in self.resyntheses
            ],
            "real_time_factor": self.real_time_factor,
            "facts": self.facts,
        }


class Evaluator:
    """Evaluates a model on held-out clips.

    The expensive steps, `nll` and `resynthesize`, can be split into shards; `summarize` adds what
    needs all clips.

    Args:
        loaded: The model.
        folder: Prepared recordings.
        clips: The held-out clips of the folder.
        options: What to measure and to generate.
        seed: Of the noise.
    """

    def __init__(
        self,
        loaded: Checkpoint,
        folder: Path,
        clips: Sequence[Clip],
        options: EvaluationOptions,
        seed: int = 0,
    ) -> None:
        self.loaded = loaded
        self.folder = folder
        self.clips = clips
        self.options = options
        self.seed = seed
        self.scored_clips = first_seconds(clips, options.eval_seconds)
        self.reader = make_clip_reader(loaded.model.config, loaded.audio, folder)

    @cached_property
    def synthesizer(self) -> Synthesizer:
        """Generates the recordings; built when first used."""
        return Synthesizer(self.loaded, self.folder, self.options, self.seed)

    @property
    def generation_time(self) -> GenerationTime:
        """Time that the recordings have taken so far."""
        return self.synthesizer.time if "synthesizer" in vars(self) else GenerationTime()

    def evaluate(self) -> Evaluation:
        """Return the evaluation on all clips."""
        return self.summarize(self.nll(), self.resynthesize())

    def nll(self, shard: Shard = ALL) -> dict[str, TotalNll]:
        """Return the negative log-likelihood of the clips by name; see `model_nll`."""
        model, clips = self.loaded.model, shard.of(self.scored_clips)
        total = num_evaluated_samples(model.config, clips)
        with progress(total, unit="sample", description="evaluating") as advance:
            return model_nll(model, self.reader, clips, advance)

    def resynthesize(self, shard: Shard = ALL) -> list[Resynthesis]:
        """Return the longest clips, generated again from their features, with metrics.

        Empty for a model without local conditioning.
        """
        if not self.options.sample_seconds or not self.loaded.audio.features:
            return []
        return list(self.synthesizer.resynthesize(self.clips, shard))

    def baselines(self) -> dict[str, float]:
        """Return bits per sample of the baselines on the clips that `nll` measures."""
        waveforms = [model_input(self.reader, clip).numpy() for clip in self.scored_clips]
        return baselines(waveforms, self.loaded.model.distribution) if waveforms else {}

    def recordings(self, resyntheses: Sequence[Resynthesis]) -> list[Recording]:
        """Return the recordings for the listening page.

        They are the resyntheses, or, for a model without local conditioning, samples from silence
        and a continued prompt, which are generated now.
        """
        if not self.options.sample_seconds:
            return []
        if self.loaded.audio.features:
            return [recording for one in resyntheses for recording in self._compare(one)]
        synthesizer = self.synthesizer
        return [*synthesizer.unconditional(), *synthesizer.continuation(self.clips)]

    def summarize(
        self,
        nll: Mapping[str, TotalNll],
        resyntheses: Sequence[Resynthesis],
        shard_time: GenerationTime | None = None,
    ) -> Evaluation:
        """Return the evaluation, with the baselines and the recordings.

        Args:
            nll: Of all clips.
            resyntheses: Of all clips.
            shard_time: Time that other processes took for the resyntheses.
        """
        clips, rate = self.scored_clips, self.loaded.audio.sample_rate
        bits = {name: total.bits_per_sample for name, total in nll.items()} if clips else {}
        recordings, facts = self.recordings(resyntheses), model_facts(self.loaded)
        if clips:
            seconds = int(frames_of(clips).sum()) / rate
            facts[HELD_OUT] = f"{len(clips)} clip{'s' * (len(clips) > 1)}, {seconds:.0f} s"
            if self.loaded.training.dataset not in (None, read_manifest(self.folder).identity):
                facts[HELD_OUT] += ", foreign data: not those that the model was trained with"
        time, factor = self.generation_time + (shard_time or GenerationTime()), None
        if time.num_samples:
            factor = time.seconds * rate / time.num_samples
            how = f"one core, {self.synthesizer.sampler.name}, float32"
            facts[REAL_TIME_FACTOR] = f"{factor:.3f}, {1 / factor:.2f} times real time ({how})"
            facts["Temperature"] = f"{self.options.temperature:g}"
        return Evaluation(
            clips=clips,
            sample_rate=rate,
            bits_per_sample={**bits, **self.baselines()},
            resyntheses=resyntheses,
            recordings=recordings,
            facts=facts,
            real_time_factor=factor,
        )

    def _compare(self, one: Resynthesis) -> list[Recording]:
        """Return the original of a resynthesis, the resynthesis and the baselines."""
        features = " and ".join(self.loaded.audio.features)
        notes = {
            RESYNTHESIS: f"generated from the {features} of the original",
            "quantized": "the original after the quantization of the model's output",
            "Griffin-Lim": "from the mel of the original, without a model",
        }
        source = f"held out: {printable(one.clip.source, 60)}"
        recording = self.synthesizer.recording
        return [
            recording(f"original-{one.number}", one.original, source),
            *(
                recording(f"{name.lower()}-{one.number}", waveform, notes[name])
                for name, waveform in one.waveforms.items()
            ),
        ]


def model_facts(loaded: Checkpoint) -> dict[str, str]:
    """Return facts about a model, by name."""
    model, audio, training = loaded.model, loaded.audio, loaded.training
    seconds = model.config.receptive_field_seconds(audio.sample_rate)
    facts = {
        "Data": training.data,
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{audio.sample_rate:,} Hz",
        "Steps": f"{training.steps:,}",
        "Blocks": str(len(model.config.dilations)),
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Receptive field": f"{model.config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
    }
    if audio.features:
        facts["Conditioning"] = " and ".join(audio.features)
    if audio.filter != FilterConfig():
        filters = {**to_dict(audio.filter), "predictor": None}
        facts["Filter"] = ", ".join(f"{name} {value:g}" for name, value in filters.items() if value)
        facts["Filter"] += "; bits per sample of the filtered signal, metrics of the original"
    if audio.speaker_names:
        facts["Speakers"] = ", ".join(map(printable, audio.speaker_names))
    return facts
