"""The recordings that the page opens with are those that the verdict compares."""

import dataclasses
from pathlib import Path

import pytest

from tests.architectures import SMALL
from wavenet import AudioConfig, WaveNet
from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.config import LocalConfig, MelConfig
from wavenet.data.manifest import read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.metrics import ResynthesisMetrics
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.report import compared_clips

MEL = MelConfig(sample_rate=8000, n_fft=256, hop_length=80, win_length=256, n_mels=9, f_max=4e3)
MODEL = dataclasses.replace(SMALL, local=LocalConfig(in_channels=9, upsample_scales=(4, 20)))


@pytest.mark.parametrize(
    ("pesq", "stronger", "words"),
    [
        (2.0, "Griffin-Lim, 3 passes", "better than Griffin-Lim with 3 passes, "),
        (0.5, "Griffin-Lim", "better than Griffin-Lim, "),
    ],
)
def test_the_cards_show_the_opponent_of_the_verdict(
    recordings: Path, tmp_path: Path, pesq: float, stronger: str, words: str
) -> None:
    prepare_clips(make_plan(recordings, tmp_path / "data", PrepareOptions(sample_rate=8000)))
    loaded = Checkpoint(WaveNet(MODEL), AudioConfig(sample_rate=8000, mel=MEL), TrainingInfo())
    options = EvaluationOptions(
        sample_seconds=0.02, num_resynthesis=2, resynthesis_seconds=0.1, mel_consistency=3
    )
    evaluator = Evaluator(loaded, tmp_path / "data", read_manifest(tmp_path / "data"), options)
    plain = ResynthesisMetrics(1.5, None, 1.0, None, 0.0, 1.0, 0.9)
    scores = {
        "resynthesis, 3 passes": dataclasses.replace(plain, pesq=3.0),
        "Griffin-Lim, 3 passes": dataclasses.replace(plain, pesq=pesq),
    }
    measured = [
        dataclasses.replace(one, metrics={**dict.fromkeys(one.metrics, plain), **scores})
        for one in evaluator.resynthesize()
    ]

    found = evaluator.summarize({}, measured)

    assert found.verdict is not None
    assert found.verdict.text.startswith(words)
    clips = compared_clips(found.recordings)
    assert len(clips) == 2
    for shown in clips.values():
        assert [one.label for one in shown] == ["original", "this model, 3 passes", stronger]
