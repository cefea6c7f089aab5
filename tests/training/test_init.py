"""What `init=MODEL` makes of a config and of weights; real runs are in tests/cli."""

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.cli.test_compose import composed
from wavenet.checkpoint import TrainingInfo, load, save
from wavenet.cli.commands import TrainCommand
from wavenet.cli.words import known_keys
from wavenet.config import AudioConfig, FilterConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.derive import derive
from wavenet.model import WaveNet
from wavenet.model_card import BaseModel
from wavenet.presets import MEL_PRESETS
from wavenet.training.init_config import base_model, config_from_model
from wavenet.training.init_weights import copy_weights
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

SHAPE = WaveNetConfig(
    dilations=(1, 2, 4), residual_channels=8, gate_channels=8, skip_channels=12, head_channels=16
)
MEL = dataclasses.replace(MEL_PRESETS["8khz"], mean=(-3.0,), std=(2.0,))
LOCAL = LocalConfig(in_channels=64, channels=6, upsample_scales=(8, 10))
ANN_BOB = AudioConfig(sample_rate=8000, speaker_names=("ann", "bob"))


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def save_base(
    audio: AudioConfig | None = None, training: TrainingInfo | None = None, **shape: Any
) -> WaveNet:
    """Save a model with random weights as `base`."""
    model = WaveNet(dataclasses.replace(SHAPE, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5)
    save(model, "base", audio or AudioConfig(sample_rate=8000), training)
    return model.eval()


@functools.cache
def recipe() -> Any:
    return OmegaConf.create(composed("recipe=folder", "data.root=recordings"))


def settled(*words: str) -> RunConfig:
    """The config of `wavenet-train init=base recipe=folder` with other words."""
    merged = OmegaConf.merge(recipe(), OmegaConf.from_dotlist(["init=base", *words]))
    plain: Any = OmegaConf.to_container(merged)
    command = from_dict(TrainCommand, derive(plain))
    return config_from_model(command.run, [word.partition("=")[0] for word in words])


def copied(config: WaveNetConfig, names: tuple[str, ...] = (), *ignore: str) -> WaveNet:
    """A new model with the weights of `base`."""
    model = WaveNet(config)
    copy_weights(model, load("base"), names, ignore)
    return model.eval()


def test_model_and_audio_are_those_of_the_model(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wavenet")
    audio = AudioConfig(sample_rate=8000, mel=MEL, filter=FilterConfig(gain=0.5))
    save_base(audio, local=LOCAL)

    config = settled("optim.lr=0.5")

    assert config.model == load("base").model.config
    assert config.audio == audio
    assert config.data.sample_rate == 8000
    assert not config.data.normalize_mel
    assert config.optim.lr == 0.5
    for words in (
        "not of the recipe: audio.sample_rate=8000 (recipe: 16000), audio.filter, audio.mel",
        "not of the recipe: model.dilations, model.residual_channels=8 (recipe: 32)",
        "mean and std of the mel bands are those of the model",
    ):
        assert words in caplog.text


def test_dropout_weight_norm_and_gain_may_differ(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wavenet")
    base = save_base()

    config = settled("model.dropout=0.1", "model.weight_norm=true", "audio.filter.gain=0.5")

    assert config.audio.filter == FilterConfig(gain=0.5)
    assert "audio.filter.gain is 0.5, 1.0 in the model" in caplog.text
    assert config.model == dataclasses.replace(base.config, dropout=0.1, weight_norm=True)
    assert "model.dropout is 0.1, 0.0 in the model" in caplog.text
    waveform = torch.rand(1, 40) - 0.5
    torch.testing.assert_close(copied(config.model)(waveform), base(waveform))


def test_the_same_mel_convention_with_other_statistics_is_accepted() -> None:
    save_base(AudioConfig(sample_rate=8000, mel=MEL), local=LOCAL)

    config = settled("audio.mel=8khz")

    assert config.audio.mel == MEL


@pytest.mark.parametrize("weight_norm", [False, True])
def test_weights_are_copied_bit_for_bit(weight_norm: bool) -> None:
    audio = dataclasses.replace(ANN_BOB, mel=MEL)
    base = save_base(audio, local=LOCAL, num_speakers=2, weight_norm=weight_norm)

    model = copied(base.config, ANN_BOB.speaker_names)

    expected = base.state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in model.state_dict().items())


def test_speaker_rows_are_copied_by_name_and_new_ones_are_the_mean() -> None:
    base = save_base(ANN_BOB, num_speakers=2)
    config = dataclasses.replace(base.config, num_speakers=3)

    lines = copy_weights(model := WaveNet(config), load("base"), ("bob", "eve", "ann"), ())

    rows, old = (
        one.state_dict()["global_conditioner.speaker_embedding.weight"] for one in (model, base)
    )
    torch.testing.assert_close(rows, torch.stack([old[1], old[:2].mean(0), old[0], old[2]]))
    assert lines == ["speakers: copied bob, ann; new, from the mean of all: eve"]
    lines = copy_weights(WaveNet(base.config), load("base"), ("cid", "bob"), ())
    assert lines == [
        "speakers: copied bob; new, from the mean of all: cid; left out: ann",
    ]


@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_model_that_gets_conditioning_first_computes_what_it_did(weight_norm: bool) -> None:
    base = save_base(weight_norm=weight_norm)
    config = dataclasses.replace(base.config, num_speakers=2, local=LOCAL)

    model = copied(config, ("a", "b"), "global_conditioner", "local_conditioner")

    waveform, frames = torch.rand(1, 160) - 0.5, torch.rand(1, 64, 2)
    found = model(waveform, local=frames, speaker=torch.tensor([1]))
    torch.testing.assert_close(found, base(waveform))
    model.train()
    model.nll(waveform, local=frames, speaker=torch.tensor([1])).mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), name


def test_columns_of_the_conditioner_that_stays_are_copied() -> None:
    base = save_base(dataclasses.replace(ANN_BOB, mel=MEL), local=LOCAL, num_speakers=2)
    wider = dataclasses.replace(LOCAL, channels=9)
    config = dataclasses.replace(base.config, local=wider)

    model = copied(config, ANN_BOB.speaker_names, "local_conditioner")

    name = "stack.blocks.1.conditioning_conv.weight"
    new, old = model.state_dict()[name], base.state_dict()[name]
    assert torch.equal(new[:, 9:], old[:, 6:])
    assert not new[:, :9].any()


def test_ignored_parts_start_from_new_weights_of_any_shape() -> None:
    base = save_base()
    config = dataclasses.replace(base.config, num_mixtures=2, head_channels=3)
    torch.manual_seed(5)
    fresh = WaveNet(config)
    torch.manual_seed(5)

    lines = copy_weights(model := WaveNet(config), load("base"), (), ("head",))

    assert lines == ["new weights: head"]
    for name, weight in model.state_dict().items():
        source = fresh if name.startswith("head.") else base
        assert torch.equal(weight, source.state_dict()[name]), name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.residual_channels=4", r"init=base: input\.weight is \(1, 256, 8\) in it and "),
        ("model.residual_channels=4", r"\(1, 256, 4\) in .* more\): .*init_ignore=\[input,stack\]"),
        ("model.dilations=[1,2,8]", r"model\.dilations is \[1, 2, 4\] in it and \[1, 2, 8\] on"),
        (
            "model.dilations=[1,2,8]",
            r"weights depend on it: leave it out, or init_ignore=\[stack\]",
        ),
        (
            "model.companding=linear",
            r"model\.companding is mu-law in it and linear .*\[input,head\]",
        ),
        ("model.quantization_channels=64", r"tensors more\): .*init_ignore=\[input,head\]"),
        ("audio.sample_rate=16000", r"audio\.sample_rate is 8000 in it and 16000 on the command"),
        ("audio.filter.low_shelf_hz=70", r"low_shelf_hz is 0\.0 in it and 70\.0 on the command"),
        ("audio.mel=8khz", r"audio\.mel is none in it and .*init_ignore=\[local_conditioner\]"),
        ("data.use_speakers=true", r"has no speakers, and this run has: .*use_speakers=false"),
        ("init_ignore=[haed]", r"init_ignore: 'haed' matches no parameter .*did you mean 'head'"),
    ],
)
def test_what_the_weights_depend_on_cannot_change(word: str, message: str) -> None:
    save_base()

    with pytest.raises(ConfigError, match=message):
        settled(word)


def test_another_output_distribution_needs_a_new_head() -> None:
    save_base(
        input_type="scalar", quantization_channels=65536, output_distribution="gaussian_mixture"
    )
    other = ("model.output_distribution=logistic_mixture", "model.quantization_channels=65536")

    with pytest.raises(ConfigError, match=r"output_distribution is gaussian.*init_ignore=\[head\]"):
        settled(*other)

    config = settled(*other, "init_ignore=[head]")
    assert config.model.output_distribution == "logistic_mixture"
    assert copy_weights(WaveNet(config.model), load("base"), (), ("head",)) == ["new weights: head"]


def test_another_mel_convention_is_refused_with_both() -> None:
    save_base(AudioConfig(sample_rate=8000, mel=MEL), local=LOCAL)

    with pytest.raises(ConfigError, match=r"audio\.mel is another mel convention .* n_mels: 80 "):
        settled("audio.mel=16khz")
    with pytest.raises(ConfigError, match=r"local_conditioner\.conv_in\.weight is \(6, 64, 1\) in"):
        settled("audio.mel=8khz", "model.local.channels=7")


def test_a_new_local_conditioner_may_have_another_convention() -> None:
    mel = MelConfig(
        sample_rate=8000, n_fft=512, hop_length=64, win_length=400, n_mels=20, f_max=4e3
    )
    save_base(
        AudioConfig(sample_rate=8000, mel=mel),
        local=dataclasses.replace(LOCAL, in_channels=20, upsample_scales=(8, 8)),
    )

    config = settled("audio.mel=8khz", "init_ignore=[local_conditioner]")

    assert config.audio.mel == MEL_PRESETS["8khz"]
    assert config.data.normalize_mel
    assert config.model.local is not None
    assert (config.model.local.in_channels, config.model.local.hop_length) == (64, 80)
    assert config.model.local.channels == LOCAL.channels


def test_speakers_of_the_model_need_speakers_in_the_data() -> None:
    save_base(ANN_BOB, num_speakers=2)

    with pytest.raises(ConfigError, match=r"has 2 speakers, and this run has none: add data\.use"):
        settled()

    assert settled("data.use_speakers=true").model.num_speakers == 2
    without = settled("init_ignore=[global_conditioner]")
    assert without.model.num_speakers == 0
    assert without.audio.speaker_names == ()
    (line,) = copy_weights(WaveNet(without.model), load("base"), (), ("global_conditioner",))
    assert line.startswith("not used: stack.blocks.0.conditioning_conv, stack.blocks.1.conditio")
    assert line.endswith(", global_conditioner")


def test_init_ignore_needs_init_and_init_excludes_resume() -> None:
    plain = derive(OmegaConf.to_container(recipe()))  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match="init must be given with init_ignore"):
        from_dict(TrainCommand, {**plain, "init_ignore": ["head"]})
    with pytest.raises(ConfigError, match="init starts a new run and resume continues one"):
        from_dict(TrainCommand, {**plain, "init": "base", "resume": "runs/demo"})


def test_a_model_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVENET_MODELS", str(Path("shelf").resolve()))
    Path("shelf").mkdir()
    base = save_base()
    Path("base").rename("shelf/small-voice")

    config = settled("init=small-voice")

    assert config.model == base.config
    assert config.init == base_model(config) == "small-voice"


def test_a_folder_on_the_card_is_no_name_of_a_hub() -> None:
    save_base()
    config = settled()

    assert config.init == str(Path("base").resolve())
    assert base_model(config) == f"the model directory {Path(*Path(config.init).parts[-3:])}"
    assert base_model(dataclasses.replace(config, init="owner/name@main")) == "owner/name@main"
    assert base_model(dataclasses.replace(config, init=None)) is None


@pytest.mark.parametrize(
    ("words", "expected", "warned"),
    [((), "CC-BY-NC-4.0", False), (("license=MIT",), "MIT", True)],
    ids=["none", "another"],
)
def test_the_licenses_of_an_imported_model_are_carried(
    words: tuple[str, ...], expected: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wavenet")
    info = TrainingInfo(base_model="a.pth", license="CC-BY-NC-4.0", data_license="CC0-1.0")
    save_base(training=info)

    config = settled(*words, "data_license=CC-BY-4.0")

    assert (config.license, config.data_license) == (expected, "CC-BY-4.0")
    assert config.lineage == (
        BaseModel(name=base_model(config) or "", license="CC-BY-NC-4.0", data_license="CC0-1.0"),
        BaseModel(name="a.pth"),
    )
    assert from_dict(RunConfig, to_dict(config)) == config  # as run.json holds it
    assert "license of the model: CC-BY-NC-4.0, of its data: CC0-1.0" in caplog.text
    assert ("license=MIT: the model's own, CC-BY-NC-4.0, still applies" in caplog.text) == warned


def test_the_lineage_is_no_key_of_a_config() -> None:
    assert "lineage" not in composed("recipe=folder", "data.root=recordings")
    assert "lineage" not in known_keys("train")
