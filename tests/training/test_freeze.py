import dataclasses
from pathlib import Path

import pytest
import torch

from tests.training.small import CONFIG, build_loop, single_process
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.checkpointing import find_checkpoints, read_run_checkpoint
from wavenet.training.freeze import freeze, plain_name, select_parameters
from wavenet.training.options import OptimOptions
from wavenet.training.state import TrainingState
from wavenet.utils.errors import ConfigError

PATTERNS = ("input", "stack.blocks.0.conv", "*.skip_conv.weight")
NORMALIZED = dataclasses.replace(CONFIG, weight_norm=True)


def frozen_state(config: WaveNetConfig = CONFIG) -> TrainingState:
    torch.manual_seed(0)
    model = WaveNet(config)
    freeze(model, PATTERNS)
    return TrainingState(model, OptimOptions(warmup_steps=0))


@pytest.mark.parametrize("config", [CONFIG, NORMALIZED])
def test_frozen_parameters_keep_every_bit_and_others_train(
    config: WaveNetConfig, tmp_path: Path
) -> None:
    state = frozen_state(config)
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    averages = {name: weight.clone() for name, weight in state.eval_model.state_dict().items()}
    frozen = select_parameters(PATTERNS, before, "trainer.freeze")

    build_loop(tmp_path, state, max_steps=5).run()

    assert 0 < len(frozen) < len(before)
    for name, weight in state.model.state_dict().items():
        assert torch.equal(weight, before[name]) == (name in frozen), name
        assert torch.equal(state.eval_model.state_dict()[name], averages[name]) == (name in frozen)
    for name, parameter in state.model.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name
    assert len(state.optimizer.param_groups[0]["params"]) == len(before) - len(frozen)


def test_a_resumed_frozen_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    uninterrupted = frozen_state(NORMALIZED)
    build_loop(tmp_path / "uninterrupted", uninterrupted, max_steps=6).run()
    loop = build_loop(
        tmp_path / "parts", frozen_state(NORMALIZED), max_steps=6, save_every_n_steps=3
    )
    segments = iter(loop.loader)
    for _ in range(3):
        loop.update(segments)
        loop.read_results(late=False)
    loop.checkpoints.save_if_due(loop.state, stop=False)

    resumed = frozen_state(NORMALIZED)
    (path,) = find_checkpoints(tmp_path / "parts")
    resumed.load_state_dict(read_run_checkpoint(path, resumed), single_process())
    build_loop(tmp_path / "parts", resumed, max_steps=6).run()

    pairs = zip(resumed.parameters(), uninterrupted.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("head.output.bias", {"head.output.bias"}),
        ("head.output", {"head.output.bias", "head.output.weight"}),
        ("head.*.bias", {"head.output.bias", "head.hidden.bias"}),
        ("*.1.conv.weight", {"stack.blocks.1.conv.weight"}),
    ],
)
@pytest.mark.parametrize("config", [CONFIG, NORMALIZED])
def test_a_pattern_is_a_name_of_a_parameter_or_module_or_a_glob(
    config: WaveNetConfig, pattern: str, expected: set[str]
) -> None:
    names = [name for name, _ in WaveNet(config).named_parameters()]

    selected = select_parameters([pattern], names, "trainer.freeze")

    assert {plain_name(name) for name in selected} == expected


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("head", "hed"), r"'hed' matches no parameter and no module; did you mean 'head'"),
        (("stack.blocks.0.covn.*",), r"did you mean 'stack\.blocks\.0\.conv'"),
        (("encoder",), r"the model has input, stack, head"),
        (("*",), r"freezes every parameter: leave out those to train"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(patterns: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.freeze.*" + words):
        freeze(WaveNet(CONFIG), patterns)
