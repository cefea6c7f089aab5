import dataclasses
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, save_file
from safetensors.torch import save as serialize
from torch import nn

from tests.architectures import configs, num_examples
from wavenet import checkpoint
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.distributions import Categorical
from wavenet.distributions.companding import CONVENTIONS
from wavenet.model import WaveNet, meta_model
from wavenet.utils.errors import CheckpointError
from wavenet.utils.files import file_digest

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)
AUDIO = AudioConfig(sample_rate=8000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    training = checkpoint.TrainingInfo(data="demo", steps=7, bits_per_sample=4.25)
    checkpoint.save(WaveNet(CONFIG), tmp_path / "model", AUDIO, training)
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    """Change keys of the config, its digest with them, as another program might."""
    plain = json.loads((folder / "config.json").read_text())
    plain.update(changes)
    weights = plain["sha256"]["weights"] if plain["sha256"] else ""
    plain["sha256"] = None
    plain["sha256"] = {"weights": weights, "config": checkpoint._digest(plain)}
    (folder / "config.json").write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("key", "value"),
    [("residual_channels", 5), ("residual_channels", -1), ("dilations", "x"), ("no_such_key", 1)],
)
def test_an_edited_config_is_reported_by_its_digest_before_its_values(
    folder: Path, key: str, value: object
) -> None:
    path = folder / "config.json"
    plain = json.loads(path.read_text())
    stated = plain["sha256"]["config"][:8]
    plain["model"][key] = value
    path.write_text(json.dumps(plain))

    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)

    start = f"{path} was changed: checksum differs, its digest is "
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(f", expected {stated}: copy the model directory again")


def test_a_config_without_digests_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": None}))

    with pytest.raises(CheckpointError, match="config.json holds no checksums, the file was edite"):
        checkpoint.load(folder)


@pytest.mark.parametrize("weight_norm", [False, True])
def test_load_gives_back_the_saved_model(tmp_path: Path, weight_norm: bool) -> None:
    model = WaveNet(
        WaveNetConfig(quantization_channels=8, dilations=(1, 2), weight_norm=weight_norm)
    )
    waveform = torch.rand(1, 20)

    checkpoint.save(model, tmp_path / "model", AUDIO)
    loaded = checkpoint.load(tmp_path / "model")

    assert loaded.audio == AUDIO
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert torch.equal(loaded.model(waveform), model(waveform))


@given(config=configs())
@settings(max_examples=num_examples(20))
def test_the_tensors_of_a_file_are_those_of_the_model(config: WaveNetConfig) -> None:
    tensors = meta_model(config).state_dict()

    shapes = checkpoint.tensor_shapes(config)

    assert shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_companding_is_written_unless_it_is_mu_law(tmp_path: Path, name: Any) -> None:
    model = WaveNet(WaveNetConfig(quantization_channels=8, dilations=(1, 2), companding=name))
    waveform = torch.rand(1, 20) * 2 - 1

    checkpoint.save(model, tmp_path / "model", AUDIO)
    loaded = checkpoint.load(tmp_path / "model").model

    written = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    assert written.get("companding") == (None if name == "mu-law" else name)
    assert loaded.config == model.config
    assert torch.equal(loaded.nll(waveform), model.nll(waveform))
    assert f"8 {name} classes" in (tmp_path / "model" / "README.md").read_text()


def test_companding_that_is_not_the_configs_is_refused(tmp_path: Path) -> None:
    model = WaveNet(CONFIG)
    model.distribution = Categorical(CONFIG.quantization_channels, "linear")

    with pytest.raises(CheckpointError, match="companding=linear, not mu-law"):
        checkpoint.save(model, tmp_path / "model", AUDIO)


def test_an_older_file_names_mu_law_in_audio(folder: Path) -> None:
    plain = json.loads((folder / "config.json").read_text())
    rewrite(folder, audio=plain["audio"] | {"companding": "mu-law"})

    assert checkpoint.load(folder).model.config == CONFIG

    rewrite(folder, audio=plain["audio"] | {"companding": "linear"})
    with pytest.raises(CheckpointError, match="renamed to model.companding"):
        checkpoint.load(folder)


def test_a_changed_model_is_refused_and_nothing_is_written(folder: Path) -> None:
    scaled, replaced, without_norm = (
        WaveNet(CONFIG),
        WaveNet(CONFIG),
        WaveNet(dataclasses.replace(CONFIG, weight_norm=True)),
    )
    scaled.stack.skip_scale = 0.5
    replaced.stack.blocks[0] = nn.Identity()
    nn.utils.parametrize.remove_parametrizations(without_norm.head.hidden, "weight")

    for model, difference in (
        (scaled, "stack has skip_scale=0.5, not 1.0"),
        (replaced, "stack.blocks.0 is Identity, not ResidualBlock"),
        (without_norm, "head.hidden has no parametrization of weight"),
    ):
        with pytest.raises(CheckpointError, match=f"would not give this model back.*{difference}"):
            checkpoint.save(model, folder, AUDIO)

    assert checkpoint.load(folder).training.steps == 7


@pytest.mark.parametrize("wrapper", [torch.compile, nn.DataParallel])
def test_a_wrapped_model_is_saved_without_its_wrapper(
    tmp_path: Path, wrapper: Callable[[nn.Module], nn.Module]
) -> None:
    model = WaveNet(CONFIG)

    checkpoint.save(wrapper(model), tmp_path / "model", AUDIO)

    loaded = checkpoint.load(tmp_path / "model").model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_what_is_no_wavenet_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a WaveNet, .* got Linear"):
        checkpoint.save(nn.Linear(2, 2), tmp_path / "model", AUDIO)

    assert not (tmp_path / "model").exists()


def test_tied_weights_are_saved_each_by_its_name(tmp_path: Path) -> None:
    model = WaveNet(dataclasses.replace(CONFIG, dilations=(1, 1, 1)))
    model.stack.blocks[1] = model.stack.blocks[0]
    waveform = torch.rand(1, 20)

    checkpoint.save(model, tmp_path / "model", AUDIO)

    torch.testing.assert_close(checkpoint.load(tmp_path / "model").model(waveform), model(waveform))


def test_loading_does_not_change_the_random_state(folder: Path) -> None:
    before = torch.get_rng_state()

    checkpoint.load(folder)

    assert torch.equal(torch.get_rng_state(), before)


def test_the_weights_file_has_the_bytes_of_the_library(folder: Path) -> None:
    path = folder / "model.safetensors"

    assert serialize(load_file(path)) == path.read_bytes()


def test_bfloat16_weights_load_as_float32_rounded(tmp_path: Path) -> None:
    model = WaveNet(CONFIG)

    checkpoint.save(model, tmp_path / "model", AUDIO, weight_dtype="bfloat16")
    loaded = checkpoint.load(tmp_path / "model").model.state_dict()

    assert {value.dtype for value in loaded.values()} == {torch.float32}
    for name, value in model.state_dict().items():
        assert torch.equal(loaded[name], value.bfloat16().float())
    path = tmp_path / "model" / "model.safetensors"
    assert serialize(load_file(path)) == path.read_bytes()
    with path.open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x00\x01")
    with pytest.raises(CheckpointError, match="checksum differs"):
        checkpoint.load(tmp_path / "model")


def test_rounding_twice_to_bfloat16_changes_nothing(tmp_path: Path) -> None:
    checkpoint.save(WaveNet(CONFIG), tmp_path / "a", AUDIO, weight_dtype="bfloat16")
    once = checkpoint.load(tmp_path / "a").model

    checkpoint.save(once, tmp_path / "b", AUDIO, weight_dtype="bfloat16")

    first, second = (tmp_path / name / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_another_dtype_in_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be float32 or bfloat16, got int8"):
        checkpoint.save(WaveNet(CONFIG), tmp_path / "model", AUDIO, weight_dtype="int8")  # type: ignore[arg-type]

    assert not (tmp_path / "model").exists()


def test_a_loaded_model_is_independent_of_its_file(folder: Path) -> None:
    loaded = checkpoint.load(folder).model
    before = {name: value.clone() for name, value in loaded.state_dict().items()}

    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-400, 2)
        file.write(bytes(400))

    assert all(torch.equal(before[name], value) for name, value in loaded.state_dict().items())


def test_the_card_names_data_rate_steps_and_bits(folder: Path) -> None:
    card = (folder / "README.md").read_text()

    for fact in ("demo", "8,000 Hz", "| 7 |", "4.250"):
        assert fact in card


def test_files_follow_the_umask(folder: Path) -> None:
    other = folder.parent / "other"
    other.touch()

    assert {path.stat().st_mode for path in folder.iterdir()} == {other.stat().st_mode}
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }


def test_saving_replaces_an_older_model_directory(folder: Path) -> None:
    checkpoint.save(WaveNet(CONFIG), folder, AUDIO, checkpoint.TrainingInfo(steps=8))

    assert checkpoint.load(folder).training.steps == 8
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_saving_does_not_replace_other_files(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")

    for name in ("precious", "file"):
        with pytest.raises(CheckpointError, match="choose a new folder"):
            checkpoint.save(WaveNet(CONFIG), tmp_path / name, AUDIO)

    assert (tmp_path / "precious" / "thesis.txt").read_text() == "x"
    assert (tmp_path / "file").read_text() == "x"


def test_a_model_with_nan_is_not_saved(folder: Path) -> None:
    bad = WaveNet(CONFIG)
    with torch.no_grad():
        bad.head.output.weight[0, 0] = torch.nan

    with pytest.raises(CheckpointError, match="head.output.weight holds NaN"):
        checkpoint.save(bad, folder, AUDIO)

    assert checkpoint.load(folder).training.steps == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused_or_loads_unchanged(folder: Path, name: str) -> None:
    expected = checkpoint.load(folder).model.state_dict()
    original = (folder / name).read_bytes()
    generator = random.Random(0)

    for _ in range(500):
        damaged = bytearray(original)
        kind = generator.randrange(4)
        at = generator.randrange(len(original))
        if kind == 0:
            damaged[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del damaged[at:]
        elif kind == 2:
            damaged[at:at] = generator.randbytes(8)
        else:
            damaged[at : at + 64] = bytes(64)
        (folder / name).write_bytes(damaged)
        try:
            found = checkpoint.load(folder).model.state_dict()
        except CheckpointError:
            continue
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_what_is_no_model_directory_is_named(folder: Path) -> None:
    run = folder.parent
    (run / "empty").mkdir()

    with pytest.raises(CheckpointError, match="there is no model directory"):
        checkpoint.load(run / "nothing")
    with pytest.raises(CheckpointError, match="is a run: its model directory is"):
        checkpoint.load(run)
    with pytest.raises(CheckpointError, match="has no config.json"):
        checkpoint.load(run / "empty")
    with pytest.raises(CheckpointError, match="is a file, .* wavenet-import"):
        checkpoint.load(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model.safetensors"):
        checkpoint.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_not_read(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    (folder / name).unlink()
    make(folder / name)

    with pytest.raises(CheckpointError, match=f"has a {name} that is no regular file"):
        checkpoint.load(folder)


def test_a_newer_format_asks_to_upgrade(folder: Path) -> None:
    rewrite(folder, format=2)

    with pytest.raises(CheckpointError, match="has format 2, this wavenet reads up to 1"):
        checkpoint.load(folder)


def test_unknown_keys_and_class_paths_are_refused(folder: Path) -> None:
    rewrite(folder, _target_="os.system")

    with pytest.raises(CheckpointError, match="unknown key '_target_'"):
        checkpoint.load(folder)


def test_a_duplicate_key_is_refused(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("{", '{"format": 1,', 1))

    with pytest.raises(CheckpointError, match="appears twice"):
        checkpoint.load(folder)


@pytest.mark.parametrize("change", ["missing", "extra", "misshapen", "half", "mixed"])
def test_tensors_that_do_not_match_the_config_are_refused(folder: Path, change: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    if change == "missing":
        del tensors["head.output.bias"]
    elif change == "extra":
        tensors["head.other"] = torch.zeros(3)
    elif change == "half":
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    elif change == "mixed":
        tensors["head.output.bias"] = tensors["head.output.bias"].bfloat16()
    else:
        tensors["head.output.bias"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")
    plain = json.loads((folder / "config.json").read_text())
    plain["sha256"]["weights"] = file_digest(folder / "model.safetensors")
    plain["sha256"]["config"] = ""
    (folder / "config.json").write_text(json.dumps(plain))
    rewrite(folder)

    message = "head.o|holds F16, not F32 or BF16 throughout|holds BF16 and F32"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{" * 100_000, '{"format": 1}', '"\\ud800"', " " * (1 << 21)]
)
def test_an_invalid_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match="config.json"):
        checkpoint.load(folder)
