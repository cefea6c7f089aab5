"""Results of one shard of an evaluation on disk, to be merged into one evaluation.

    evaluation-2-of-8.json   negative log-likelihood of its clips, metrics of its resyntheses
    evaluation-2-of-8/       its resyntheses, for the listening page

A file names the model, the clips and the options that it belongs to; only equal ones are merged.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path

from wavenet.checkpoint import read_config
from wavenet.data.audio import WavWriter, read_samples
from wavenet.data.manifest import digests_of
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.nll import TotalNll
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.synthesis import RESYNTHESIS, GenerationTime, Resynthesis
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import write_text
from wavenet.utils.sharding import Shard

log = logging.getLogger("wavenet")
MAX_LISTED_ERRORS = 12


@dataclass(frozen=True, kw_only=True)
class EvaluationIdentity:
    """What must be equal in all shards of one evaluation.

    Attributes:
        checkpoint: SHA-256 of the model's weights, and of its config.
        clips: SHA-256 of the digests of the held-out clips, in order.
        evaluation: The options.
        seed: Of the noise.
    """

    checkpoint: str
    clips: str
    evaluation: EvaluationOptions
    seed: int


@dataclass(frozen=True, kw_only=True)
class StoredResynthesis:
    """A resynthesis without its audio; see `Resynthesis`."""

    number: int
    source: str
    metrics: dict[str, ResynthesisMetrics]
    onset_f_measures: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class PartialResult:
    """Results of one shard.

    Attributes:
        shard: As `i/n`.
        identity: The evaluation that it belongs to.
        nll: Of the shard's clips, by name.
        resyntheses: The shard's resyntheses.
        time: Time to generate them.
    """

    shard: str
    identity: EvaluationIdentity
    nll: dict[str, TotalNll]
    resyntheses: tuple[StoredResynthesis, ...]
    time: GenerationTime


def evaluation_identity(evaluator: Evaluator, model_dir: Path) -> EvaluationIdentity:
    """Return what all shards of an evaluation have in common."""
    config = read_config(model_dir)
    assert config.sha256 is not None
    return EvaluationIdentity(
        checkpoint=f"{config.sha256.weights}-{config.sha256.config}",
        clips=hashlib.sha256(digests_of(evaluator.clips).tobytes()).hexdigest(),
        evaluation=evaluator.options,
        seed=evaluator.seed,
    )


def partial_result_path(page: Path, shard: Shard) -> Path:
    """Return the JSON file of a shard, next to the listening page."""
    return page.with_name(f"{page.stem}-{shard.number}-of-{shard.count}.json")


def evaluate_shard(
    evaluator: Evaluator,
    shard: Shard,
    model_dir: Path,
    page: Path,
    *,
    overwrite: bool = False,
) -> Path:
    """Evaluate a shard of the clips and write the results; return their JSON file.

    The JSON file is written last: if it exists, the results are complete, and they are kept.

    Args:
        evaluator: Of the whole evaluation.
        shard: Which clips to evaluate.
        model_dir: The model directory.
        page: The listening page of the evaluation, next to which the results are written.
        overwrite: Replace existing results.

    Raises:
        DataError: The existing results are of another evaluation.
    """
    path, identity = partial_result_path(page, shard), evaluation_identity(evaluator, model_dir)
    if path.exists() and not overwrite:
        read_partial_result(path, identity)
        log.info("kept the existing %s: overwrite=true evaluates again", printable(path))
        return path
    path.unlink(missing_ok=True)
    nll, resyntheses = evaluator.nll(shard), evaluator.resynthesize(shard)
    for one in resyntheses:
        with WavWriter(_wav_path(path, one.number), one.clip.sample_rate) as file:
            file.write(one.waveforms[RESYNTHESIS])
    result = PartialResult(
        shard=str(shard),
        identity=identity,
        nll=nll,
        resyntheses=tuple(
            StoredResynthesis(
                number=one.number,
                source=one.clip.source,
                metrics=one.metrics,
                onset_f_measures=one.onset_f_measures,
            )
            for one in resyntheses
        ),
        time=evaluator.generation_time,
    )
    write_text(path, json.dumps(to_dict(result), indent=2) + "\n")
    return path


def read_partial_result(path: Path, identity: EvaluationIdentity) -> PartialResult:
    """Return the result of a shard.

    Raises:
        DataError: The file is damaged, or belongs to another evaluation; the differences are named.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        result = from_dict(PartialResult, data, "it")
    except (ConfigError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} is not a shard's result: {printable(error)}") from None
    different = _differences(result.identity, identity)
    if different:
        raise DataError(f"{printable(path)} belongs to {', '.join(different)}")
    return result


def merge_partial_results(
    evaluator: Evaluator, num_shards: int, model_dir: Path, page: Path
) -> tuple[dict[str, TotalNll], list[Resynthesis], GenerationTime]:
    """Return the negative log-likelihood, resyntheses and generation time of all shards.

    Args:
        evaluator: Of the same evaluation.
        num_shards: How many shards there are.
        model_dir: The model directory.
        page: The listening page, next to which the shards' results are.

    Raises:
        DataError: Results are missing, damaged, or of another evaluation; they are named.
    """
    identity = evaluation_identity(evaluator, model_dir)
    results, errors = [], []
    for number in range(1, num_shards + 1):
        path = partial_result_path(page, Shard(number, num_shards))
        rerun = f"run the same command with shard={number}/{num_shards}"
        if not path.exists():
            errors.append(f"{printable(path)} is missing: {rerun}")
            continue
        try:
            results.append((path, read_partial_result(path, identity)))
        except DataError as error:
            errors.append(f"{error}: {rerun} overwrite=true")
    if len(errors) > MAX_LISTED_ERRORS:
        errors[MAX_LISTED_ERRORS - 1 :] = [f"and {len(errors) - MAX_LISTED_ERRORS + 1} more"]
    if errors:
        lines = "\n".join(f"  {line}" for line in errors)
        raise DataError(f"the shards cannot be merged:\n{lines}")
    nll: dict[str, TotalNll] = {}
    resyntheses, time = [], GenerationTime()
    for path, result in results:
        nll = {name: nll.get(name, TotalNll()) + total for name, total in result.nll.items()}
        resyntheses += [_with_audio(evaluator, path, stored) for stored in result.resyntheses]
        time += result.time
    return nll, sorted(resyntheses, key=lambda one: one.number), time


def _with_audio(evaluator: Evaluator, path: Path, stored: StoredResynthesis) -> Resynthesis:
    synthesizer = evaluator.synthesizer
    clip = synthesizer.longest(evaluator.clips)[stored.number - 1]
    resynthesis = read_samples(_wav_path(path, stored.number))[:, 0]
    original, waveforms = synthesizer.with_baselines(clip, resynthesis)
    return Resynthesis(
        stored.number, clip, original, waveforms, stored.metrics, stored.onset_f_measures
    )


def _wav_path(path: Path, number: int) -> Path:
    return path.with_suffix("") / f"resynthesis-{number}.wav"


def _differences(found: EvaluationIdentity, expected: EvaluationIdentity) -> list[str]:
    """Return in what a shard's identity differs from the expected one."""
    different = [
        what
        for name, what in (("checkpoint", "another checkpoint"), ("clips", "other clips"))
        if getattr(found, name) != getattr(expected, name)
    ]
    pairs = [("seed", found.seed, expected.seed)] + [
        (
            f"evaluation.{f.name}",
            getattr(found.evaluation, f.name),
            getattr(expected.evaluation, f.name),
        )
        for f in fields(EvaluationOptions)
    ]
    return different + [f"{name}={one}, not {other}" for name, one, other in pairs if one != other]
