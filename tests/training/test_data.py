import dataclasses
from pathlib import Path

import pytest

from tests.training.small import run_config
from wavenet.data.options import DataOptions, PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.training import data as training_data
from wavenet.training.data import load_training_data


@pytest.mark.parametrize("little", [1.0, 60.0])
def test_less_than_a_minute_of_training_audio_is_warned_of(
    little: float,
    recordings: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare_clips(make_plan(recordings, tmp_path / "data", PrepareOptions(sample_rate=8000)))
    config = run_config(global_batch_size=2, segment_length=100)
    config = dataclasses.replace(
        config,
        audio=dataclasses.replace(config.audio, sample_rate=8000),
        data=DataOptions(sample_rate=8000, processed_dir=str(tmp_path / "data")),
    )
    monkeypatch.setattr(training_data, "LITTLE_SECONDS", little)

    seconds = load_training_data(config).info.seconds_of_audio

    assert seconds is not None
    assert ("s of training audio" in caplog.text) is (seconds < little)
    assert 1 < seconds < 60
