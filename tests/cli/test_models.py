"""Models and mel presets by name, and the keys that follow from them."""

import dataclasses
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.test_compose import plain
from tests.commands import Run
from wavenet.cli.commands import TrainCommand
from wavenet.cli.compose import Composed
from wavenet.cli.main import compose_and_run
from wavenet.cli.sweep import CommandResult
from wavenet.config import AudioConfig, WaveNetConfig, check_conditioning
from wavenet.derive import derive, upsample_factors
from wavenet.model import meta_model
from wavenet.presets import MEL_PRESETS, MODEL_SIZES
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted([*MODEL_SIZES, *(path.stem for path in (CONF / "model").iterdir())])
MINE = """\
# @package _global_
defaults:
  - override /audio/mel: tacotron2
name: mine
data:
  root: mine
audio:
  mel:
    f_max: 7000.0
"""


def chosen(model: str) -> tuple[WaveNetConfig, AudioConfig]:
    """Return a model, and the audio that its file names."""
    path = CONF / "model" / f"{model}.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    audio = re.search(r"^# Goes with (audio\.mel=\w+)", text, re.MULTILINE)
    found = plain("recipe=folder", f"model={model}", *([audio[1]] if audio else []))
    return from_dict(WaveNetConfig, found["model"]), from_dict(AudioConfig, found["audio"])


def composed(monkeypatch: pytest.MonkeyPatch, *arguments: str, conf: Path = CONF) -> dict[str, Any]:
    """Return what a command line of `wavenet-train` composes."""
    found: list[Composed] = []
    monkeypatch.setattr(sys, "argv", ["wavenet-train", *arguments])

    def task(config: Composed) -> CommandResult:
        found.append(config)
        return CommandResult()

    compose_and_run(conf, "train", task)
    return found[0].plain


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_built_and_fits_its_audio(model: str) -> None:
    config, audio = chosen(model)

    check_conditioning(config, audio)

    assert meta_model(config).config == config


@pytest.mark.parametrize(
    ("model", "samples"),
    [
        ("paper_30", 2 + 3 * 1023),  # published without the first convolution's tap: 3070
        ("r9y9_mol", 1 + 2 * 4 * 63),  # 505
        ("r9y9_gaussian", 1 + 2 * 4 * 63),  # 505
        ("r9y9_mulaw256", 1 + 2 * 3 * 1023),  # 6139
        ("tacotron2", 1 + 2 * 4 * 63),  # 505, Table 4
        ("nv_wavenet", 1 + 2 * 255),
        ("fast_wavenet", 1 + 2 * 16383),
        ("kan_bayashi", 3 + 2 * 3 * 1023),  # published without the first convolution's taps: 6139
        ("ibab", 2 + 5 * 1023),  # 5117
    ],
)
def test_published_model_has_the_published_receptive_field(model: str, samples: int) -> None:
    config, _ = chosen(model)

    assert config.receptive_field == samples


# Counted in the publications, not here: the residual output of the last block, which is unused.
LAST = 128 * 128 + 128 + 128  # weight, bias, lengths
LAST_512 = 512 * 512 + 512
FIRST_80 = 80 * 80 + 80  # our convolution over frames


@pytest.mark.parametrize(
    ("model", "published", "ours_more"),
    [
        ("r9y9_mol", 3_720_932, 80 + 80 - LAST),  # bias and lengths over frames
        ("r9y9_gaussian", 3_717_292, 80 + 80 - LAST),
        ("r9y9_mulaw256", 4_699_944, 80 + 80 - LAST - 128),  # no lengths of an embedding
        # its condition has biases, its embedding and head none
        ("nv_wavenet", 6_026_256, FIRST_80 - 16 * 128 + 64 + 512),
        # its condition has biases
        ("kan_bayashi", 62_050_049, FIRST_80 - 30 * 1024 - LAST_512),
        # egs/arctic/sd is conditioned on 28 numbers a frame of 80 samples
        ("paper_30", 44_592_721, -81 - 30 * 1024 * (28 + 1) - LAST_512),
    ],
)
def test_published_model_has_the_published_number_of_weights(
    model: str, published: int, ours_more: int
) -> None:
    config, _ = chosen(model)

    counts = [weight.numel() for weight in meta_model(config).parameters()]

    assert sum(counts) == published + ours_more


@pytest.mark.parametrize("name", MEL_PRESETS)
def test_a_mel_preset_by_name_is_enough_for_a_vocoder(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = composed(
        monkeypatch, "recipe=folder", "data.root=x", "model=small", f"audio.mel={name}"
    )

    run = from_dict(TrainCommand, found).run
    mel = MEL_PRESETS[name]
    assert run.audio.mel == mel
    assert run.audio.sample_rate == run.data.sample_rate == mel.sample_rate
    assert run.model.local is not None
    assert run.model.local.in_channels == mel.n_mels
    assert run.model.local.hop_length == mel.hop_length


def test_other_keys_can_follow_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    found = composed(
        monkeypatch,
        "recipe=demo_unconditional",
        "audio.mel=8khz",
        "model.skip_channels=${audio.mel.n_mels}",
    )

    assert from_dict(AudioConfig, found["audio"]).mel == MEL_PRESETS["8khz"]
    assert found["model"]["skip_channels"] == 64


def test_a_recipe_overrides_single_keys_of_a_preset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "recipe" / "mine.yaml").write_text(MINE, encoding="utf-8")

    plain = composed(monkeypatch, "recipe=mine", conf=conf)

    expected = dataclasses.replace(MEL_PRESETS["tacotron2"], f_max=7000.0)
    assert from_dict(AudioConfig, plain["audio"]).mel == expected


def test_a_command_line_overrides_single_keys_of_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    found = composed(
        monkeypatch, "recipe=demo_unconditional", "audio.mel=8khz", "audio.mel.f_max=3500"
    )

    expected = dataclasses.replace(MEL_PRESETS["8khz"], f_max=3500.0)
    assert from_dict(AudioConfig, found["audio"]).mel == expected


def test_an_unknown_preset_names_the_nearest(run: Run) -> None:
    done = run("train", "audio.mel=tacotron")

    assert done.returncode == 2
    assert done.stderr == "ConfigError: no mel preset 'tacotron'; did you mean 'tacotron2'?\n"


@pytest.mark.parametrize("name", MEL_PRESETS)
def test_a_preset_is_a_choice_in_yaml(name: str) -> None:
    found = derive({"audio": {"mel": name}})

    assert from_dict(AudioConfig, found["audio"]).mel == MEL_PRESETS[name]


def test_audio_of_another_hop_length_than_the_model_is_refused() -> None:
    config, _ = chosen("nv_wavenet")
    _, audio = chosen("r9y9_mol")

    with pytest.raises(ConfigError, match="product of model.local.upsample_scales"):
        check_conditioning(config, audio)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "audio.sample_rate=16000",
            "got 22050: choose audio.mel=16khz or audio.mel=nv_wavenet",
        ),
        ("audio.sample_rate=12345", "mel.sample_rate must be 12345"),
        ("model.local.in_channels=5", "model.local.in_channels must be 80"),
        ("model.local.upsample_scales=[2,2]", "upsample_scales must be 256"),
        ("model.local=null", "model.local must be a mapping"),
        ("model.num_speakers=2", "model.num_speakers must be 0"),
    ],
)
def test_keys_that_disagree_with_audio_are_refused(run: Run, argument: str, message: str) -> None:
    done = run("train", "recipe=folder", "data.root=x", "audio.mel=tacotron2", argument)

    assert done.returncode == 2
    assert message in done.stderr


def test_speakers_and_other_features_fill_in_the_model() -> None:
    config = {
        "audio": {"f0": {}, "score": {"hop_length": 100}, "speaker_names": ["a", "b"]},
        "model": {"num_speakers": 0, "local": {"channels": 8}},
    }

    found = derive(config)

    audio = from_dict(AudioConfig, found["audio"])
    model = from_dict(WaveNetConfig, found["model"])
    check_conditioning(model, audio)
    assert (audio.sample_rate, audio.hop_length, model.num_speakers) == (16000, 100, 2)
    assert model.local is not None
    assert model.local.channels == 8


def is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


@given(st.integers(1, 65536))
def test_upsampling_factors_are_small_and_have_the_hop_as_product(hop_length: int) -> None:
    factors = upsample_factors(hop_length)

    assert math.prod(factors) == hop_length
    primes = (n for n in range(17, hop_length + 1) if hop_length % n == 0 and is_prime(n))
    assert max(factors) <= max(primes, default=16)


def test_the_sizes_of_the_benchmark_are_the_models_of_training() -> None:
    for name, config in MODEL_SIZES.items():
        assert chosen(name)[0] == config
