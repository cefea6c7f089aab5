"""How evaluation draws its recordings."""

from pathlib import Path

import pytest

from tests.architectures import SMALL
from wavenet import AudioConfig, SamplingConfig, WaveNet, load
from wavenet.checkpoint import Checkpoint, TrainingInfo
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.synthesis import Synthesizer
from wavenet.utils.errors import ConfigError

OPTIONS = EvaluationOptions(temperature=0.8, voiced_temperature=0.3)


def test_both_temperatures_are_those_of_the_options(tmp_path: Path) -> None:
    synthesizer = Synthesizer(load("demo_voice"), tmp_path, OPTIONS)

    assert synthesizer.sampling == SamplingConfig(temperature=0.8, voiced_temperature=0.3)


def test_a_model_that_does_not_know_vowels_is_refused_at_once(tmp_path: Path) -> None:
    plain = Checkpoint(WaveNet(SMALL), AudioConfig(sample_rate=8000), TrainingInfo())

    with pytest.raises(ConfigError, match="requires a model with a linear predictor"):
        Synthesizer(plain, tmp_path, OPTIONS)
