"""The steps of an evaluation, on all clips or split into shards.

A shard's results lie next to the listening page until they are merged into one evaluation:

    evaluation-2-of-8.json   negative log-likelihood of its clips, metrics of its resyntheses
    evaluation-2-of-8/       its resyntheses, for the listening page

The file names the model, the clips and the options that it belongs to; only equal ones are merged.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from wavenet.checkpoint import Checkpoint, read_config
from wavenet.config import FilterConfig
from wavenet.data.audio import open_wav, read_samples
from wavenet.data.manifest import Clip, digests_of, frames_of, read_manifest
from wavenet.evaluation.baselines import MEL_CONTROLS, baselines
from wavenet.evaluation.held_out import first_seconds, split_name
from wavenet.evaluation.nll import TotalNll, make_clip_reader, model_input, model_nll
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import (
    HELD_OUT,
    ORIGINAL,
    REAL_TIME_FACTOR,
    THIS_MODEL,
    Evaluation,
    mean_metrics_by_name,
)
from wavenet.evaluation.synthesis import (
    ALL,
    PREDICTOR_ALONE,
    RESYNTHESIS,
    GenerationTime,
    Recording,
    Resynthesis,
    ResynthesisScores,
    Synthesizer,
    consistent,
)
from wavenet.evaluation.verdict import compared_waveforms
from wavenet.model_card import model_facts
from wavenet.utils.dataclass_io import from_dict, narrow, to_dict
from wavenet.utils.errors import ConfigError, DataError, listed, printable
from wavenet.utils.files import write_text
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")


@dataclass
class Evaluator:
    """Evaluates a model on held-out clips.

    The expensive steps, `nll` and `resynthesize`, can be split into shards; `summarize` adds what
    needs all clips.

    Attributes:
        loaded: The model.
        folder: Prepared recordings.
        clips: The held-out clips of the folder.
        options: What to measure and to generate.
        seed: Of the noise.
        device: Where the negative log-likelihood is computed. Recordings are generated one by one
            on the CPU, which is faster at that.
    """

    loaded: Checkpoint
    folder: Path
    clips: Sequence[Clip]
    options: EvaluationOptions
    seed: int = 0
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.scored_clips = first_seconds(self.clips, self.options.eval_seconds)
        self.reader = make_clip_reader(self.loaded.model.config, self.loaded.audio, self.folder)
        self.synthesizer = Synthesizer(self.loaded, self.folder, self.options, self.seed)

    def evaluate(self) -> Evaluation:
        """Return the evaluation on all clips."""
        return self.summarize(self.nll(), self.resynthesize())

    def nll(self, shard: Shard = ALL) -> dict[str, TotalNll]:
        """Return the negative log-likelihood of the clips by name; see `model_nll`."""
        model = self.loaded.model
        if torch.device(self.device).type != "cpu":
            model = copy.deepcopy(model).to(self.device)
        return model_nll(model, self.reader, shard.of(self.scored_clips))

    def resynthesize(self, shard: Shard = ALL) -> list[Resynthesis]:
        """Return the longest clips, generated again from their features, with metrics.

        Empty for a model without local conditioning.
        """
        if not self.options.sample_seconds or not self.loaded.audio.features:
            return []
        return list(self.synthesizer.resynthesize(self.clips, shard))

    def recordings(self, resyntheses: Sequence[Resynthesis]) -> list[Recording]:
        """Return the recordings for the listening page.

        They are the resyntheses with their originals and baselines, or, for a model without local
        conditioning, samples from silence and a continued prompt, which are generated now.
        """
        if not self.options.sample_seconds:
            return []
        features, rate = self.loaded.audio.features, self.loaded.audio.sample_rate
        if not features:
            return [*self.synthesizer.unconditional(), *self.synthesizer.continuation(self.clips)]
        notes = {
            RESYNTHESIS: f"generated from the {' and '.join(features)} of the original",
            "quantized": "the original after the quantization of the model's output",
            **dict.fromkeys(MEL_CONTROLS, "from the mel of the original, without a model"),
            PREDICTOR_ALONE: "noise through the model's linear predictor, without its network",
        }
        passes = self.synthesizer.passes
        notes |= {
            consistent(name, passes): f"{note}, and brought to its mel by mel consistency"
            for name, note in notes.items()
        }
        recordings, labels = [], _compared(resyntheses, passes)
        for one in resyntheses:
            clip = f"{one.number}. {printable(one.source, 60)}"
            name = f"original-{one.number}"
            original = Recording(name, one.original, rate, "held out", clip=clip, label=ORIGINAL)
            recordings.append(original)
            for name, waveform in one.waveforms.items():
                recording = Recording(
                    f"{_file_name(name)}-{one.number}",
                    waveform,
                    rate,
                    notes[name],
                    clip=clip,
                    label=labels.get(name, ""),
                    metrics=one.metrics[name],
                )
                recordings.append(recording)
        return recordings

    def summarize(
        self, nll: Mapping[str, TotalNll], resyntheses: Sequence[Resynthesis]
    ) -> Evaluation:
        """Return the evaluation, with the baselines and the recordings.

        Args:
            nll: Of all clips.
            resyntheses: Of all clips.
        """
        clips, rate = self.scored_clips, self.loaded.audio.sample_rate
        num_samples = int(frames_of(clips).sum())
        recordings, facts = self.recordings(resyntheses), model_facts(*self.loaded)
        if self.loaded.audio.filter != FilterConfig():
            filters = {**to_dict(self.loaded.audio.filter), "predictor": None}
            shown = ", ".join(f"{name} {value:g}" for name, value in filters.items() if value)
            facts["Filter"] = (
                f"{shown}; bits per sample of the filtered signal, metrics of the original"
            )
        bits: dict[str, float] = {}
        if clips:
            waveforms = [model_input(self.reader, clip).numpy() for clip in clips]
            bits = {name: total.bits_per_sample for name, total in nll.items()}
            bits |= baselines(waveforms, self.loaded.model.distribution)
            plural = "s" * (len(clips) > 1)
            which = f"{len(clips)} {split_name(clips)} clip{plural}"
            facts[HELD_OUT] = f"{which}, {num_samples / rate:.0f} s"
            if self.loaded.training.dataset not in (None, read_manifest(self.folder).identity):
                facts[HELD_OUT] += ", foreign data: not those that the model was trained with"
        time, factor = self.synthesizer.time, None
        if time.num_samples:
            factor = time.seconds * rate / time.num_samples
            how = f"one core, {self.synthesizer.sampler.name}, float32"
            facts[REAL_TIME_FACTOR] = f"{factor:.3f} ({how})"
            facts["Temperature"] = self.synthesizer.sampling.temperatures
        return Evaluation(
            num_clips=len(clips),
            num_samples=num_samples,
            sample_rate=rate,
            bits_per_sample=bits,
            resyntheses=resyntheses,
            recordings=recordings,
            facts=facts,
            real_time_factor=factor,
        )


@dataclass(frozen=True, kw_only=True)
class PartialResult:
    """Results of one shard, as in its JSON file.

    Attributes:
        shard: As `i/n`.
        identity: The evaluation that it belongs to; see `ShardedEvaluation.identity`.
        nll: Of the shard's clips, by name.
        resyntheses: The shard's resyntheses.
        time: Time to generate them.
    """

    shard: str
    identity: dict[str, str]
    nll: dict[str, TotalNll]
    resyntheses: tuple[ResynthesisScores, ...]
    time: GenerationTime


@dataclass
class ShardedEvaluation:
    """An evaluation whose shards are evaluated by different processes, and then merged.

    Attributes:
        evaluator: Of the whole evaluation.
        model_dir: The model directory.
        page: The listening page, next to which the results of the shards are.
    """

    evaluator: Evaluator
    model_dir: Path
    page: Path

    @cached_property
    def identity(self) -> dict[str, str]:
        """What must be equal in all shards: digests of model and clips, the seed, the options."""
        sha256 = read_config(self.model_dir).sha256
        assert sha256 is not None
        options = vars(self.evaluator.options)
        return {
            "checkpoint": f"{sha256.weights}-{sha256.config}",
            "clips": hashlib.sha256(digests_of(self.evaluator.clips).tobytes()).hexdigest(),
            "seed": str(self.evaluator.seed),
            **{f"evaluation.{name}": str(value) for name, value in options.items()},
        }

    def evaluate(self, shard: Shard, *, overwrite: bool = False) -> Path:
        """Evaluate a shard of the clips and write the results; return their JSON file.

        The JSON file is written last: if it exists, the results are complete, and they are kept
        unless `overwrite` is set.

        Raises:
            DataError: The existing results are of another evaluation.
        """
        path, identity = self._path(shard), self.identity  # of the model that was loaded
        if path.exists() and not overwrite:
            self._read(path)
            log.info("kept the existing %s: overwrite=true evaluates again", printable(path))
            return path
        path.unlink(missing_ok=True)
        nll, resyntheses = self.evaluator.nll(shard), self.evaluator.resynthesize(shard)
        for one in resyntheses:
            rate = self.evaluator.loaded.audio.sample_rate
            for name in self._own_waveforms(one):
                with open_wav(_wav_path(path, name, one.number), rate) as file:
                    file.write(one.waveforms[name])
        result = PartialResult(
            shard=str(shard),
            identity=identity,
            nll=nll,
            resyntheses=tuple(narrow(ResynthesisScores, one) for one in resyntheses),
            time=self.evaluator.synthesizer.time,
        )
        write_text(path, json.dumps(to_dict(result), indent=2) + "\n")
        return path

    def merge(self, num_shards: int) -> tuple[dict[str, TotalNll], list[Resynthesis]]:
        """Return the negative log-likelihood and the resyntheses of all shards.

        The time that they took is added to that of the evaluator's synthesizer.

        Raises:
            DataError: Results are missing, damaged, or of another evaluation; they are named.
        """
        results, errors = {}, []
        for number in range(1, num_shards + 1):
            path = self._path(Shard(number, num_shards))
            rerun = f"run the same command with shard={number}/{num_shards}"
            if not path.exists():
                errors.append(f"{printable(path)} is missing: {rerun}")
                continue
            try:
                results[path] = self._read(path)
            except DataError as error:
                errors.append(f"{error}: {rerun} overwrite=true")
        if errors:
            raise DataError(f"the shards cannot be merged:{listed(errors)}")
        nll: dict[str, TotalNll] = {}
        resyntheses = []
        for path, result in results.items():
            nll = {name: nll.get(name, TotalNll()) + total for name, total in result.nll.items()}
            resyntheses += [self._with_audio(path, scores) for scores in result.resyntheses]
            self.evaluator.synthesizer.time += result.time
        return nll, sorted(resyntheses, key=lambda one: one.number)

    def _path(self, shard: Shard) -> Path:
        return self.page.with_name(f"{self.page.stem}-{shard.number}-of-{shard.count}.json")

    def _read(self, path: Path) -> PartialResult:
        """Return the result of a shard; raise if it is damaged, or of another evaluation."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            result = from_dict(PartialResult, data, "it")
        except (ConfigError, ValueError, RecursionError) as error:
            raise DataError(
                f"{printable(path)} is not a shard's result: {printable(error)}"
            ) from None
        different = _differences(result.identity, self.identity)
        if different:
            raise DataError(f"{printable(path)} belongs to {', '.join(different)}")
        return result

    def _with_audio(self, path: Path, scores: ResynthesisScores) -> Resynthesis:
        synthesizer = self.evaluator.synthesizer
        clip = synthesizer.longest(self.evaluator.clips)[scores.number - 1]
        own = {
            name: read_samples(_wav_path(path, name, scores.number))[:, 0]
            for name in self._own_waveforms(scores)
        }
        original, waveforms = synthesizer.with_baselines(clip, own)
        return Resynthesis(**vars(scores), original=original, waveforms=waveforms)

    def _own_waveforms(self, scores: ResynthesisScores) -> list[str]:
        """Return the names of the model's waveforms; baselines are computed again."""
        own = RESYNTHESIS, consistent(RESYNTHESIS, scores.passes)
        return [name for name in own if name in scores.metrics]


def _compared(resyntheses: Sequence[Resynthesis], passes: int) -> dict[str, str]:
    """Return the waveforms that the page shows beside the original, with their headings.

    They are those that the verdict compares, so that the scores under them agree with it.
    """
    own, other = compared_waveforms(mean_metrics_by_name(resyntheses), passes)
    return {own: own.replace(RESYNTHESIS, THIS_MODEL, 1), other: other}


def _wav_path(path: Path, name: str, number: int) -> Path:
    return path.with_suffix("") / f"{_file_name(name)}-{number}.wav"


def _file_name(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


def _differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Return in what a shard's identity differs from the expected one."""
    digests = {"checkpoint": "another checkpoint", "clips": "other clips"}
    return [
        digests.get(name, f"{name}={printable(found.get(name))}, not {value}")
        for name, value in expected.items()
        if found.get(name) != value
    ]
