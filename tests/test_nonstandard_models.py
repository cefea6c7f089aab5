"""A model that is not exactly what its config builds says so, and wrapped models are unwrapped."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.architectures import SMALL, configs, num_examples
from wavenet.config import WaveNetConfig
from wavenet.distributions import Categorical
from wavenet.kernels.cross_entropy import fast_cross_entropy
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.model import WaveNet, unwrap
from wavenet.modules import ResidualBlock


class ReluBlock(ResidualBlock):
    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        return super().activation(y, projected).relu()


class Flat(Categorical):
    def sample(self, params: Tensor, *others: Any) -> Tensor:
        return super().sample(params * 0, *others)


def block(model: WaveNet, index: int = 1) -> ResidualBlock:
    found = model.stack.blocks[index]
    assert isinstance(found, ResidualBlock)
    return found


def skip_conv(model: WaveNet) -> nn.Conv1d:
    found = block(model).skip_conv
    assert found is not None
    return found


def subclass_block(model: WaveNet) -> None:
    model.stack.blocks[1].__class__ = ReluBlock


def add_hook(model: WaveNet) -> None:
    skip_conv(model).register_forward_hook(lambda module, inputs, output: 2 * output)


def add_backward_hook(model: WaveNet) -> None:
    block(model).register_full_backward_hook(lambda module, grads, _: None)


def set_forward(model: WaveNet) -> None:
    vars(block(model).skip_conv)["forward"] = lambda z: z[:, :5]


def set_step(model: WaveNet) -> None:
    vars(block(model))["step"] = block(model, 0).step


def replace_convolution(model: WaveNet) -> None:
    block(model).skip_conv = nn.Conv1d(3, 5, 1, padding_mode="circular")


def replace_head(model: WaveNet) -> None:
    model.head = nn.Sequential()  # type: ignore[assignment]


def change_scale(model: WaveNet) -> None:
    model.stack.skip_scale = 0.5


def change_block_scale(model: WaveNet) -> None:
    block(model).residual_scale = 0.5


def change_dilation(model: WaveNet) -> None:
    model.stack.blocks[1] = ResidualBlock(4, 6, 5, dilation=7)


def remove_bias(model: WaveNet) -> None:
    skip_conv(model).bias = None


def add_block(model: WaveNet) -> None:
    model.stack.blocks.append(ResidualBlock(4, 6, 5))


def remove_block(model: WaveNet) -> None:
    model.stack.blocks = model.stack.blocks[:2]


def add_weight_norm(model: WaveNet) -> None:
    parametrizations.weight_norm(skip_conv(model))


def change_distribution(model: WaveNet) -> None:
    model.distribution = Flat(16)


def change_distribution_size(model: WaveNet) -> None:
    model.distribution = Categorical(15)


CHANGES: list[tuple[Callable[[WaveNet], None], str]] = [
    (subclass_block, "stack.blocks.1 is ReluBlock, not ResidualBlock"),
    (add_hook, "stack.blocks.1.skip_conv has forward hooks"),
    (add_backward_hook, "stack.blocks.1 has backward hooks"),
    (set_forward, "stack.blocks.1.skip_conv has a forward of its own"),
    (set_step, "stack.blocks.1 has a step of its own"),
    (replace_convolution, "stack.blocks.1.skip_conv has padding_mode=circular, not zeros"),
    (replace_head, "head is Sequential, not Head"),
    (change_scale, "stack has skip_scale=0.5, not 1.0"),
    (change_block_scale, "stack.blocks.1 has residual_scale=0.5, not 1.0"),
    (change_dilation, "stack.blocks.1.conv has dilation=(7,), not (2,)"),
    (remove_bias, "stack.blocks.1.skip_conv has tensor bias of shape=None, not (5,)"),
    (add_block, "stack.blocks.3 is an extra module, ResidualBlock"),
    (remove_block, "stack.blocks.2, ResidualBlock, is missing"),
    (add_weight_norm, "stack.blocks.1.skip_conv has a parametrization of weight"),
    (change_distribution, "distribution is Flat, not Categorical"),
    (change_distribution_size, "distribution has num_classes=15, not 16"),
]


@pytest.mark.parametrize(
    ("change", "message"), CHANGES, ids=lambda case: getattr(case, "__name__", "")
)
def test_a_changed_model_names_the_changed_module(
    change: Callable[[WaveNet], None], message: str
) -> None:
    model = WaveNet(SMALL)
    change(model)

    assert message in (model.nonstandard_part() or "nothing")


@settings(max_examples=num_examples(20, 50))
@given(config=configs())
def test_model_built_from_a_config_is_standard_for_any_weights(config: WaveNetConfig) -> None:
    model = WaveNet(config).double().eval().requires_grad_(False)
    model.stack.gated_activation = fast_gated_activation
    model.stack.checkpoint_activations = True
    if model.distribution.cross_entropy is not None:
        model.distribution.cross_entropy = fast_cross_entropy()

    assert model.nonstandard_part() is None


def test_the_check_leaves_the_callers_random_numbers_alone() -> None:
    model = WaveNet(SMALL)
    before = torch.get_rng_state()

    model.nonstandard_part()

    assert torch.equal(torch.get_rng_state(), before)


def test_another_parametrization_than_weight_norm_is_named() -> None:
    model = WaveNet(SMALL)
    parametrizations.spectral_norm(skip_conv(model))
    normalized = WaveNet(WaveNetConfig(**{**vars(SMALL), "weight_norm": True}))
    removed = WaveNet(normalized.config)
    parametrize.remove_parametrizations(skip_conv(removed), "weight")
    parametrizations.spectral_norm(skip_conv(normalized))

    assert "blocks.1.skip_conv has a parametrization of weight" in (model.nonstandard_part() or "")
    assert "blocks.1.skip_conv.parametrizations" in (normalized.nonstandard_part() or "")
    assert "blocks.1.skip_conv has no parametrization" in (removed.nonstandard_part() or "")


def test_a_subclass_of_the_model_is_not_standard() -> None:
    class Louder(WaveNet):
        def forward(self, *arguments: Any, **conditions: Any) -> Tensor:
            return 2 * super().forward(*arguments, **conditions)

    assert Louder(SMALL).nonstandard_part() == "the model is Louder, not WaveNet"


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_distributed_or_compiled_model_is_unwrapped(process_group: None) -> None:
    model = WaveNet(SMALL)
    distributed = nn.parallel.DistributedDataParallel(model)

    assert unwrap(model) is model
    assert unwrap(distributed) is model
    assert unwrap(nn.DataParallel(model)) is model
    assert unwrap(torch.compile(model)) is model  # type: ignore[arg-type]
    assert unwrap(torch.compile(distributed)) is model  # type: ignore[arg-type]


def test_a_stack_kept_from_torch_compile_is_standard_but_not_its_copy() -> None:
    model = WaveNet(SMALL)
    model.stack.forward = torch.compiler.disable(model.stack.forward)  # type: ignore[method-assign]
    copied = copy.deepcopy(model)  # its forward is that of the original's stack

    assert model.nonstandard_part() is None
    assert copied.nonstandard_part() == "stack has a forward of its own, set on the instance"


def test_module_without_a_wavenet_is_not_unwrapped() -> None:
    for other in (nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2))):
        with pytest.raises(TypeError, match=f"expected a WaveNet, .* got {type(other).__name__}"):
            unwrap(other)
