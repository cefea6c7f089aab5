import copy
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from wavenet.cli.commands import GROUPS, TrainCommand, group_config
from wavenet.cli.compose import (
    PATHS,
    Composed,
    mel_by_name,
    register_configs,
    split_paths,
    with_overrides,
    without_foreign_license,
)
from wavenet.cli.words import check_words
from wavenet.config import WaveNetConfig
from wavenet.derive import derive
from wavenet.presets import MODEL_SIZES
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "recipe").iterdir())
MODELS = sorted([*MODEL_SIZES, *(path.stem for path in (CONF / "model").iterdir())])

register = functools.cache(register_configs)


def composed(*overrides: str, verb: str = "train") -> dict[str, Any]:
    """A verb's composed config, as Hydra leaves it; a required key is `given`."""
    return copy.deepcopy(_composed(overrides, verb, torch.cuda.is_available()))


@functools.cache
def _composed(overrides: tuple[str, ...], verb: str, _: bool) -> dict[str, Any]:
    """The same, once: composing takes long, and the device is all else that it depends on."""
    register(CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(verb, overrides=[mel_by_name(word) for word in overrides])
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "given")
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def plain(*overrides: str, verb: str = "train") -> dict[str, Any]:
    """A verb's config, with derived keys filled in."""
    return derive(composed(*overrides, verb=verb))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_valid_config(recipe: str) -> None:
    command = from_dict(TrainCommand, plain(f"recipe={recipe}", "data.root=folder"))

    assert command.name == recipe


def test_settings_for_own_recordings_suit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    on_gpu = plain("recipe=folder", "trainer.device=auto")
    on_cpu = plain("recipe=folder", "trainer.device=cpu", "trainer.max_steps=7")

    assert on_cpu["optim"]["lr"] == plain("recipe=demo")["optim"]["lr"] == 4e-3
    assert on_gpu["optim"]["lr"] == 1e-3
    shapes = [
        (one["trainer"]["global_batch_size"], one["trainer"]["segment_length"])
        for one in (on_cpu, on_gpu)
    ]
    assert shapes == [(2, 4096), (8, 8192)]
    assert (on_cpu["trainer"]["max_steps"], on_gpu["trainer"]["max_steps"]) == (7, 100_000)
    assert on_cpu["trainer"]["precision"] == on_gpu["trainer"]["precision"] == "bf16-mixed"


def test_a_resumed_run_keeps_the_settings_of_the_device_it_began_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = from_dict(TrainCommand, plain("recipe=folder", "data.root=x")).run
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    elsewhere = plain("recipe=folder", "data.root=x")

    resumed = with_overrides(run, Composed(elsewhere, ("resume",)))

    assert resumed == run
    assert elsewhere["trainer"]["global_batch_size"] != run.trainer.global_batch_size


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_a_valid_config(model: str) -> None:
    from_dict(WaveNetConfig, plain(f"model={model}")["model"])


@pytest.mark.parametrize("group", GROUPS)
def test_the_composed_config_shows_every_key_with_its_default(group: str) -> None:
    shown = composed("recipe=folder", "model=base")[group]
    recipe: Any = OmegaConf.load(CONF / "recipe" / "folder.yaml")
    from_recipe = {"root", *recipe.get(group, ())}
    defaults = group_config(group)

    assert set(shown) == {field.name for field in dataclasses.fields(GROUPS[group])}
    for name in set(shown) - from_recipe:
        assert shown[name] == defaults[name], name


def test_command_line_overrides_recipe_and_recipe_overrides_groups() -> None:
    recipe, overridden = (
        plain("recipe=demo_unconditional"),
        plain("recipe=demo_unconditional", "model=tiny", "audio.sample_rate=24000"),
    )

    assert recipe["audio"]["sample_rate"] == 8000
    assert overridden["audio"]["sample_rate"] == overridden["data"]["sample_rate"] == 24000
    assert overridden["model"]["residual_channels"] == 8
    assert overridden["trainer"] == recipe["trainer"]


def test_an_entry_of_a_list_can_be_overridden() -> None:
    check_words("train", ["optim.betas.0=0.5"])

    assert plain("optim.betas.0=0.5")["optim"]["betas"] == [0.5, 0.999]


@given(st.sampled_from(PATHS), st.text(min_size=1))
def test_path_is_literal_after_the_first_equals_sign(key: str, path: str) -> None:
    assert split_paths([f"{key}={path}", "seed=1"]) == ({key: path}, ["seed=1"])


def test_resumed_run_accepts_more_steps_and_keeps_its_model() -> None:
    command = from_dict(TrainCommand, plain("recipe=demo"))
    changed = plain("recipe=demo", "trainer.max_steps=7")

    longer = with_overrides(command.run, Composed(changed, ("resume", "trainer.max_steps")))

    assert longer.trainer.max_steps == 7
    assert to_dict(longer) == {**to_dict(command.run), "trainer": to_dict(longer)["trainer"]}
    for key in ("model", "seed", "recipe", "optim.lr", "model.kernel_size", "trainer.freeze"):
        with pytest.raises(ConfigError, match=key):
            with_overrides(command.run, Composed(changed, (key,)))


def test_the_license_of_a_recipes_data_is_not_claimed_for_other_data() -> None:
    demo, corpus = (
        from_dict(TrainCommand, plain(f"recipe={name}")) for name in ("demo", "ljspeech")
    )
    elsewhere, stated = Composed({}, ("data.root",)), Composed({}, ("data.root", "data_license"))

    assert without_foreign_license(demo.run, Composed({}, ())).data_license == "CC-BY-SA-3.0"
    assert without_foreign_license(demo.run, elsewhere).data_license is None
    assert without_foreign_license(demo.run, stated).data_license == "CC-BY-SA-3.0"
    assert without_foreign_license(corpus.run, elsewhere).data_license == "public domain"
