"""What one job of several measured, on the disk: enough to add the jobs up to one evaluation.

    evaluation-2-of-8.json   what the shard's clips cost in nats, distances of its copies
    evaluation-2-of-8/       its copies, to be heard on the page

A share says what it is a share of: the model, the clips, the options. Others do not add up with it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from wavenet.checkpoint import read_config
from wavenet.data.audio import WavWriter, read_samples
from wavenet.data.manifest import digests_of
from wavenet.evaluation.evaluate import Part, Subject
from wavenet.evaluation.metrics import CopyScores
from wavenet.evaluation.nll import Nats
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.voice import COPY, Copied
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import write_text
from wavenet.utils.sharding import Shard

TOLD = 12  # shards that are wrong


@dataclass(frozen=True, kw_only=True)
class About:
    """What a share is a share of; all that add up agree on it.

    Attributes:
        checkpoint: SHA-256 of the model's weights, and of its config.
        clips: SHA-256 of the held-out clips' own, in their order.
        report: How much is measured.
        seed: Of the draws.
    """

    checkpoint: str
    clips: str
    report: EvaluationOptions
    seed: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What clips cost a model that is told something.

    Attributes:
        name: What it is told.
        nats: Negative log-likelihood.
        samples: Of so many samples.
    """

    name: str
    nats: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Distances of one kind of copy."""

    name: str
    scores: CopyScores


@dataclass(frozen=True, kw_only=True)
class Onsets:
    """F-measure of onsets of one signal; absent where it could not be measured."""

    name: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A clip that was spoken again.

    Attributes:
        number: Its place among those that are spoken, from 1.
        source: The recording.
        kinds: Distances by kind of copy.
        onsets: F-measures.
    """

    number: int
    source: str
    kinds: tuple[Kind, ...]
    onsets: tuple[Onsets, ...]


@dataclass(frozen=True, kw_only=True)
class Share:
    """A shard's part of an evaluation.

    Attributes:
        shard: Which one, as `i/n`.
        about: What it is a part of.
        costs: What its clips cost.
        copies: Its copies.
        drawn: Samples of them.
        took: Seconds of work for them.
    """

    shard: str
    about: About
    costs: tuple[Cost, ...]
    copies: tuple[Copy, ...]
    drawn: int
    took: float


def about(subject: Subject, checkpoint: Path) -> About:
    """Return what shares of an evaluation agree on."""
    config = read_config(checkpoint)
    assert config.sha256 is not None
    return About(
        checkpoint=f"{config.sha256.weights}-{config.sha256.config}",
        clips=hashlib.sha256(digests_of(subject.clips).tobytes()).hexdigest(),
        report=subject.options,
        seed=subject.seed,
    )


def share_path(output: Path, shard: Shard) -> Path:
    """Return the JSON file of a shard, beside the page."""
    return output.with_name(f"{output.stem}-{shard.number}-of-{shard.count}.json")


def write_share(path: Path, part: Part, shard: Shard, whole: About) -> None:
    """Write a shard's copies, then its JSON file: where that is, all is there."""
    for one in part.copied:
        with WavWriter(_copy_path(path, one.number), one.clip.sample_rate) as file:
            file.write(one.copies[COPY])
    share = Share(
        shard=str(shard),
        about=whole,
        costs=tuple(Cost(name=name, **value._asdict()) for name, value in part.nats.items()),
        copies=tuple(copy_of(one) for one in part.copied),
        drawn=part.drawn,
        took=part.took,
    )
    write_text(path, json.dumps(to_dict(share), indent=2) + "\n")


def copy_of(copied: Copied) -> Copy:
    """Return the measures of a clip that was spoken again."""
    return Copy(
        number=copied.number,
        source=copied.clip.source,
        kinds=tuple(Kind(name=name, scores=scores) for name, scores in copied.scores.items()),
        onsets=tuple(Onsets(name=name, score=score) for name, score in copied.onsets.items()),
    )


def read_share(path: Path, whole: About) -> Share:
    """Return a share.

    Raises:
        DataError: It is damaged, or a share of something else; what differs is named.
    """
    try:
        share = from_dict(Share, json.loads(path.read_text(encoding="utf-8")), "it")
    except (ConfigError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)} is no share of ours: {printable(error)}") from None
    different = _differences(share.about, whole)
    if different:
        raise DataError(f"{printable(path)} is of {', '.join(different)}")
    return share


def gathered(subject: Subject, output: Path, count: int, whole: About) -> list[Part]:
    """Return the parts that the shards of an evaluation wrote.

    Args:
        subject: What is evaluated.
        output: The page, beside which the shares lie.
        count: How many there are.
        whole: What they must be shares of.

    Raises:
        DataError: Shares are missing, damaged, or of something else; they are named.
    """
    shares, wrong = [], []
    for number in range(1, count + 1):
        path = share_path(output, Shard(number, count))
        if not path.exists():
            wrong.append(f"{printable(path)} is missing: run the same with shard={number}/{count}")
            continue
        try:
            shares.append((path, read_share(path, whole)))
        except DataError as error:
            wrong.append(f"{error}: run the same with shard={number}/{count} overwrite=true")
    if len(wrong) > TOLD:
        wrong[TOLD - 1 :] = [f"and {len(wrong) - TOLD + 1} more"]
    if wrong:
        lines = "\n".join(f"  {line}" for line in wrong)
        raise DataError(f"the shards do not add up to an evaluation:\n{lines}")
    return [_part(subject, path, share) for path, share in shares]


def _part(subject: Subject, path: Path, share: Share) -> Part:
    voice = subject.voice() if share.copies else None
    copied = []
    for copy in share.copies:
        assert voice is not None
        clip = voice.longest(subject.clips)[copy.number - 1]
        original, copies = voice.beside(clip, read_samples(_copy_path(path, copy.number))[:, 0])
        scores = {kind.name: kind.scores for kind in copy.kinds}
        onsets = {one.name: one.score for one in copy.onsets}
        copied.append(Copied(copy.number, clip, original, copies, scores, onsets))
    nats = {cost.name: Nats(cost.nats, cost.samples) for cost in share.costs}
    return Part(nats, copied, share.drawn, share.took)


def _copy_path(path: Path, number: int) -> Path:
    return path.with_suffix("") / f"copy-{number}.wav"


def _differences(found: About, wanted: About) -> list[str]:
    """Return what a share is of, as far as it is not this evaluation."""
    different = [
        what
        for name, what in (("checkpoint", "another checkpoint"), ("clips", "other clips"))
        if getattr(found, name) != getattr(wanted, name)
    ]
    pairs: Sequence[tuple[str, object, object]] = [
        ("seed", found.seed, wanted.seed),
        *(
            (f"evaluation.{field.name}", getattr(found.report, field.name), value)
            for field in fields(EvaluationOptions)
            for value in [getattr(wanted.report, field.name)]
        ),
    ]
    return different + [f"{name}={one}, not {other}" for name, one, other in pairs if one != other]
