import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from wavenet.cli.compose import PATHS, Composed, register_resolvers, split_paths
from wavenet.cli.options import TrainCommand
from wavenet.cli.resume import changed
from wavenet.config import WaveNetConfig
from wavenet.data.options import DataOptions
from wavenet.evaluation.options import EvaluationOptions
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
RECIPES = sorted(path.stem for path in (CONF / "recipe").iterdir())
MODELS = sorted(path.stem for path in (CONF / "model").iterdir())


def plain(*overrides: str, verb: str = "train") -> dict[str, Any]:
    """A verb's composed config; what must be said is `given`."""
    register_resolvers(CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(verb, overrides=list(overrides))
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "given")
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_valid_config(recipe: str) -> None:
    command = from_dict(TrainCommand, plain(f"recipe={recipe}"))

    assert command.name == recipe


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_a_valid_config(model: str) -> None:
    from_dict(WaveNetConfig, plain(f"model={model}")["model"])


@pytest.mark.parametrize(
    ("group", "options"),
    [
        ("data", DataOptions),
        ("optim", OptimOptions),
        ("evaluation", EvaluationOptions),
        ("trainer", TrainerOptions),
        ("model", WaveNetConfig),
    ],
)
def test_the_configs_show_every_key_with_its_default(group: str, options: type) -> None:
    shown = plain("recipe=folder", "model=base")[group]
    fields = {field.name: field.default for field in dataclasses.fields(options)}
    recipes_own = {"root", "sample_rate", "resample", "mono"}

    assert set(shown) == set(fields)
    for name in set(fields) - recipes_own:
        expected = fields[name]
        assert shown[name] == (list(expected) if isinstance(expected, tuple) else expected), name


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_file() -> None:
    recipe, said = plain("recipe=demo"), plain("recipe=demo", "model=tiny", "audio=24khz")

    assert recipe["audio"]["sample_rate"] == 8000
    assert said["audio"]["sample_rate"] == said["data"]["sample_rate"] == 24000
    assert said["model"]["residual_channels"] == 8
    assert said["trainer"] == recipe["trainer"]


@given(st.sampled_from(PATHS), st.text(min_size=1))
def test_a_path_is_taken_as_it_stands_after_the_first_equals_sign(key: str, path: str) -> None:
    assert split_paths([f"{key}={path}", "seed=1"]) == ({key: path}, ["seed=1"])


def test_a_resumed_run_takes_a_later_end_and_keeps_its_model() -> None:
    command = from_dict(TrainCommand, plain("recipe=demo"))
    said = plain("recipe=demo", "trainer.max_steps=7")

    longer = changed(command.run, Composed(said, ("resume", "trainer.max_steps")))

    assert longer.trainer.max_steps == 7
    assert to_dict(longer) == {**to_dict(command.run), "trainer": to_dict(longer)["trainer"]}
    for key in ("model", "seed", "recipe", "optim.lr", "model.kernel_size"):
        with pytest.raises(ConfigError, match=key):
            changed(command.run, Composed(said, (key,)))
