"""The estimate of an evaluation counts what the evaluation does."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.architectures import SMALL
from wavenet import AudioConfig, WaveNet
from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.data.manifest import frames_of, read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.distributions import Categorical
from wavenet.evaluation.evaluate import Evaluator
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.workload import (
    REFERENCE_SAMPLES_PER_SECOND,
    SAMPLED_WEIGHTS_PER_SECOND,
    Workload,
    evaluation_workload,
    time_range,
)

PLAIN = AudioConfig(sample_rate=8000)
MEL = MelConfig(sample_rate=8000, n_fft=256, hop_length=80, win_length=256, n_mels=9, f_max=4e3)
SPARSE = dataclasses.replace(MEL, win_length=96)  # its windows overlap by less than half
LOCAL = LocalConfig(in_channels=9, upsample_scales=(4, 20))
VOCODER = dataclasses.replace(SMALL, local=LOCAL)
PREDICTOR = dataclasses.replace(
    VOCODER,
    output_distribution="gaussian_mixture",
    quantization_channels=65536,
    num_mixtures=1,
    predictor=PredictorConfig(order=4, mel=MEL),
)
SHORT = EvaluationOptions(
    sample_seconds=0.02, prompt_seconds=0.02, num_resynthesis=2, resynthesis_seconds=0.1
)


@pytest.fixture(scope="module")
def folder(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "data"
    prepare_clips(make_plan(recordings, path, PrepareOptions(sample_rate=8000)))
    return path


@pytest.mark.parametrize(
    ("config", "audio", "options"),
    [
        (SMALL, PLAIN, {"num_samples": 2}),
        (SMALL, PLAIN, {"prompt_seconds": 0.0}),
        (SMALL, PLAIN, {"prompt_seconds": 9.0}),
        (
            dataclasses.replace(SMALL, num_speakers=2, global_channels=3),
            AudioConfig(sample_rate=8000, speaker_names=("a", "b")),
            {},
        ),
        (VOCODER, AudioConfig(sample_rate=8000, mel=MEL), {}),
        (VOCODER, AudioConfig(sample_rate=8000, mel=MEL), {"mel_consistency": 0}),
        (VOCODER, AudioConfig(sample_rate=8000, mel=SPARSE), {"resynthesis_seconds": None}),
        (PREDICTOR, AudioConfig(sample_rate=8000, mel=MEL), {"num_resynthesis": 1}),
    ],
    ids=[
        *("samples", "no prompt", "long prompt", "speakers"),
        *("vocoder", "no consistency", "sparse windows", "predictor"),
    ],
)
def test_the_workload_is_what_the_evaluation_does(
    folder: Path, config: WaveNetConfig, audio: AudioConfig, options: dict[str, Any]
) -> None:
    model, clips = WaveNet(config), read_manifest(folder)[:3]
    settings = dataclasses.replace(SHORT, **options)
    evaluator = Evaluator(Checkpoint(model, audio, TrainingInfo()), folder, clips, settings)

    workload = evaluation_workload(model, audio, clips, settings)

    done = evaluator.evaluate()
    drawn = evaluator.synthesizer.time.num_samples * (1 + (model.mel_predictor is not None))
    compared = sum(len(one.original) * (1 + len(one.metrics)) for one in done.resyntheses)
    tried = sum(name == "model" or "speaker" in name for name in done.bits_per_sample)
    assert workload.num_scored == done.num_samples * tried
    assert workload.num_generated == drawn
    assert workload.num_pictures == len(done.recordings)
    assert workload.seconds_compared == pytest.approx(compared / 8000)


def test_measuring_shows_progress_with_each_waveform(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("wavenet"), "propagate", True)
    monkeypatch.setattr("wavenet.utils.progress.FIRST_LINE_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "wavenet")
    loaded = Checkpoint(WaveNet(VOCODER), AudioConfig(sample_rate=8000, mel=MEL), TrainingInfo())

    Evaluator(loaded, folder, read_manifest(folder), SHORT).resynthesize()

    lines = [line for line in caplog.messages if line.startswith("measuring: ")]
    assert lines[0].startswith("measuring: 1/10 waveforms")
    assert lines[-1].startswith("measuring: 10/10 waveforms")


def test_no_more_is_scored_than_eval_seconds_ask_for(folder: Path) -> None:
    clips = read_manifest(folder)
    options = dataclasses.replace(SHORT, eval_seconds=0.1)

    workload = evaluation_workload(WaveNet(SMALL), PLAIN, clips, options)

    assert workload.num_scored == frames_of(clips)[0] < frames_of(clips).sum()


def test_without_held_out_clips_only_silence_is_continued(folder: Path) -> None:
    workload = evaluation_workload(WaveNet(SMALL), PLAIN, read_manifest(folder)[:0], SHORT)

    assert (workload.num_scored, workload.num_generated, workload.num_pictures) == (0, 160, 1)


def test_a_model_that_only_the_reference_samples_is_estimated_by_its_rate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clips = WaveNet(SMALL), read_manifest(folder)
    num_weights = sum(weight.numel() for weight in model.parameters())

    fast = evaluation_workload(model, PLAIN, clips, SHORT)
    monkeypatch.setattr(Categorical, "compiled_draw", None)
    slow = evaluation_workload(model, PLAIN, clips, SHORT)

    assert fast.samples_per_second == SAMPLED_WEIGHTS_PER_SECOND / num_weights
    assert slow.samples_per_second == REFERENCE_SAMPLES_PER_SECOND


@pytest.mark.parametrize(
    "field", ["num_scored", "num_generated", "seconds_compared", "num_pictures"]
)
def test_each_part_of_the_workload_takes_time(field: str) -> None:
    nothing = Workload(
        num_scored=0,
        num_generated=0,
        seconds_compared=0,
        num_pictures=0,
        samples_per_second=100,
    )

    times = [
        dataclasses.replace(nothing, **{field: count}).seconds(0.01) for count in (0, 100, 200)
    ]

    assert times[0] < times[1] < times[2]
    assert times[2] - times[1] == pytest.approx(times[1] - times[0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "up to 1 min"),
        (50, "up to 2 min"),
        (107, "1 to 4 min"),
        (600, "5 to 22 min"),
        (3600, "30 min to 2:12 h"),
    ],
)
def test_an_estimate_is_shown_as_a_range(seconds: float, text: str) -> None:
    assert time_range(seconds) == text
