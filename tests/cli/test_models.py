"""The models that can be chosen by name, and the mel conventions that go with them."""

import dataclasses
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.commands import Run
from wavenet import WaveNet
from wavenet.cli.compose import Composed, register_resolvers
from wavenet.cli.hydra_main import compose_with
from wavenet.cli.sweep import Outcome
from wavenet.config import AudioConfig, WaveNetConfig, check_conditioning
from wavenet.mel_presets import MEL_PRESETS
from wavenet.utils.dataclass_io import from_dict
from wavenet.utils.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").iterdir())
MELS = sorted(path.stem for path in (CONF / "audio").glob("mel_*.yaml"))
MINE = """\
# @package _global_
defaults:
  - override /audio: mel_tacotron2
name: mine
data:
  root: mine
audio:
  mel:
    f_max: 7000.0
"""


def chosen(model: str) -> tuple[WaveNetConfig, AudioConfig]:
    """A model and the audio that its file says it goes with."""
    text = (CONF / "model" / f"{model}.yaml").read_text(encoding="utf-8")
    audio = re.search(r"^# Goes with (audio=\w+)", text, re.MULTILINE)
    register_resolvers(CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["recipe=folder", f"model={model}", *([audio[1]] if audio else [])]
        plain: Any = OmegaConf.to_container(compose("train", overrides=overrides))
    resolved: Any = OmegaConf.to_container(OmegaConf.create(plain["audio"]), resolve=True)
    return from_dict(WaveNetConfig, plain["model"]), from_dict(AudioConfig, resolved)


def on_no_device(config: WaveNetConfig) -> WaveNet:
    """A model that has shapes and no numbers."""
    with torch.device("meta"):
        return WaveNet(config)


def composed(monkeypatch: pytest.MonkeyPatch, *arguments: str, conf: Path = CONF) -> dict[str, Any]:
    """What a command line of `wavenet-train` composes."""
    found: list[Composed] = []
    monkeypatch.setattr(sys, "argv", ["wavenet-train", *arguments])

    def task(config: Composed) -> Outcome:
        found.append(config)
        return Outcome()

    compose_with(conf, "train", task)
    return found[0].plain


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_built_and_fits_its_audio(model: str) -> None:
    config, audio = chosen(model)

    check_conditioning(config, audio)

    assert on_no_device(config).config == config


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
def test_a_published_model_sees_as_far_back_as_published(model: str, samples: int) -> None:
    config, _ = chosen(model)

    assert config.receptive_field == samples


# What a published count has and ours has not: the last block's way on, which nothing reads.
LAST = 128 * 128 + 128 + 128  # weight, bias, lengths
LAST_512 = 512 * 512 + 512
FIRST_80 = 80 * 80 + 80  # our convolution over frames


@pytest.mark.parametrize(
    ("model", "published", "ours_more"),
    [
        ("r9y9_mol", 3_720_932, 80 + 80 - LAST),  # bias and lengths over frames
        ("r9y9_gaussian", 3_717_292, 80 + 80 - LAST),
        ("r9y9_mulaw256", 4_699_944, 80 + 80 - LAST - 128),  # no lengths of an embedding
        # its upsampling is twice as long; its condition has biases, its embedding and head none
        ("nv_wavenet", 6_026_256, 2 * 80 * 80 + FIRST_80 - 80 * 80 * 400 - 16 * 128 + 64 + 512),
        # its upsampling learns 256 factors and a bias, and its condition has biases
        ("kan_bayashi", 62_050_049, FIRST_80 - 257 - 30 * 1024 - LAST_512),
        # egs/arctic/sd is conditioned on 28 numbers a frame of 80 samples
        ("paper_30", 44_592_721, -81 - 30 * 1024 * (28 + 1) - LAST_512),
    ],
)
def test_a_published_model_has_as_many_weights_as_published(
    model: str, published: int, ours_more: int
) -> None:
    config, _ = chosen(model)

    counts = [weight.numel() for weight in on_no_device(config).parameters()]

    assert sum(counts) == published + ours_more


@pytest.mark.parametrize("audio", MELS)
def test_an_audio_choice_has_the_convention_of_its_name(
    monkeypatch: pytest.MonkeyPatch, audio: str
) -> None:
    plain = composed(monkeypatch, f"audio={audio}")

    assert from_dict(AudioConfig, plain["audio"]).mel == MEL_PRESETS[audio.removeprefix("mel_")]


def test_a_convention_is_said_by_name_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = composed(
        monkeypatch,
        "recipe=demo",
        "audio.mel=${mel:8khz}",
        "model.skip_channels=${audio.mel.n_mels}",
    )

    assert from_dict(AudioConfig, plain["audio"]).mel == MEL_PRESETS["8khz"]
    assert plain["model"]["skip_channels"] == 64


def test_a_recipe_says_single_keys_of_a_named_convention_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "recipe" / "mine.yaml").write_text(MINE, encoding="utf-8")

    plain = composed(monkeypatch, "recipe=mine", conf=conf)

    expected = dataclasses.replace(MEL_PRESETS["tacotron2"], f_max=7000.0)
    assert from_dict(AudioConfig, plain["audio"]).mel == expected


def test_an_unknown_convention_names_the_nearest(run: Run) -> None:
    done = run("train", "audio.mel=${mel:tacotron}")

    assert done.returncode == 2
    assert done.stderr == ("ConfigError: no mel convention 'tacotron'; did you mean 'tacotron2'?\n")


@pytest.mark.parametrize("name", MEL_PRESETS)
def test_every_convention_can_be_said_by_name(name: str) -> None:
    register_resolvers(CONF)
    config = OmegaConf.create(
        {"sample_rate": MEL_PRESETS[name].sample_rate, "mel": f"${{mel:{name}}}"}
    )

    found = from_dict(AudioConfig, OmegaConf.to_container(config, resolve=True))

    assert found.mel == MEL_PRESETS[name]


def test_a_model_beside_audio_of_another_hop_is_refused() -> None:
    config, _ = chosen("nv_wavenet")
    _, audio = chosen("r9y9_mol")

    with pytest.raises(ConfigError, match="product of model.local.upsample_scales"):
        check_conditioning(config, audio)
