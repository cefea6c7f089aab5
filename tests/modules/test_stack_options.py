"""Options of the residual stack: each of them, in every pass that has a meaning for it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules import ResidualStack

CAUSAL: list[dict[str, Any]] = [
    {"gate": "sigmoid*tanh"},
    {"gate": "tanh"},
    {"gate": "relu", "output": "residual", "skip_channels": 0},
    {"gate": "leaky_relu", "output": "both"},
    {"gate": nn.GLU(dim=1)},
    {"dropout": 0.5, "dropout_at": "gate"},
    {"kernel_size": (2, 1, 4)},
    {"in_channels": 2},
    {"in_channels": 2, "output": "residual", "skip_channels": 0},
    {"conditioning_channels": 3},
    {"conditioning_channels": 3, "shared_conditioning": True},
    {"step_channels": 7},
    {"film_channels": 2},
    {"conditioning_channels": 3, "step_channels": 7, "film_channels": 2, "residual_scale": 0.5},
]


def build(**options: Any) -> ResidualStack:
    given = {"skip_channels": 5, "kernel_size": 3, **options}
    torch.manual_seed(0)
    return ResidualStack((1, 2, 4), 4, 6, **given).double().eval()


def inputs_of(options: dict[str, Any], length: int, batch_size: int = 2) -> dict[str, Tensor]:
    shapes = {
        "conditioning": (options.get("conditioning_channels", 0), length),
        "step_embedding": (options.get("step_channels", 0),),
        "film": (options.get("film_channels", 0), length),
    }
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(batch_size, *shape, dtype=torch.double, generator=generator)
        for name, shape in shapes.items()
        if shape[0]
    }


def at(inputs: dict[str, Tensor], samples: Any) -> dict[str, Tensor]:
    return {name: x[..., samples] if x.dim() == 3 else x for name, x in inputs.items()}


@pytest.mark.parametrize("options", CAUSAL)
def test_step_and_prefill_equal_forward_with_every_option(options: dict[str, Any]) -> None:
    stack, length, start = build(**options), 40, 13
    x = torch.randn(2, options.get("in_channels", 4), length, dtype=torch.double)
    inputs = inputs_of(options, length)
    expected = stack(x, **inputs)

    queues = stack.new_queues(2)
    stepped = [stack.step(x[..., t], queues, t, **at(inputs, t)) for t in range(length)]
    filled = stack.new_queues(2)
    stack.prefill(filled, x[..., :start], start, **at(inputs, slice(0, start)))
    resumed = stack.step(x[..., start], filled, start, **at(inputs, start))

    outputs = expected if isinstance(expected, tuple) else (expected,)
    for number, output in enumerate(outputs):
        parts: list[Any] = [s if isinstance(s, tuple) else (s,) for s in stepped]
        torch.testing.assert_close(torch.stack([s[number] for s in parts], dim=-1), output)
        part: Any = resumed if isinstance(resumed, tuple) else (resumed,)
        torch.testing.assert_close(part[number], output[..., start])


def test_prefill_takes_the_past_of_the_stack_and_refuses_less() -> None:
    stack, x = build(), torch.randn(2, 4, 30, dtype=torch.double)
    past = 2 * (1 + 2 + 4)
    queues = stack.new_queues(2)

    stack.prefill(queues, x[..., 29 - past : 29], 29)

    torch.testing.assert_close(stack.step(x[..., 29], queues, 29), stack(x)[..., 29])
    for first, position in ((29 - past + 1, 29), (5, 10)):
        with pytest.raises(ValueError, match="x must have 1[04] samples or more.*in one call"):
            stack.prefill(stack.new_queues(2), x[..., first:position], position)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
def test_a_non_causal_stack_sees_its_exact_field_on_both_sides(kernel_size: int) -> None:
    stack, middle = build(causal=False, kernel_size=kernel_size), 30
    x = torch.randn(1, 4, 61, dtype=torch.double, requires_grad=True)

    stack(x)[..., middle].sum().backward()

    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero().flatten()
    before, after = 7 * ((kernel_size - 1) // 2), 7 * (kernel_size // 2)
    assert (int(seen[0]), int(seen[-1])) == (middle - before, middle + after)


def test_a_mask_multiplies_residual_outputs_and_the_sum() -> None:
    stack = build(causal=False, output="both")
    x = torch.randn(2, 4, 20, dtype=torch.double)
    mask = (torch.arange(20) < torch.tensor([[[20]], [[12]]])).double()

    residual, skips = stack(x, mask=mask)

    shorter = stack(x[1:, :, :12] * 1.0, mask=torch.ones(1, 1, 12, dtype=torch.double))
    assert not residual[1, :, 12:].any()
    assert not skips[1, :, 12:].any()
    masked = x * mask
    alone = stack(masked[1:, :, :12])
    torch.testing.assert_close(stack(masked, mask=mask)[1][1:, :, :12], alone[1])
    torch.testing.assert_close(shorter[0], alone[0])


def test_one_conditioning_sample_serves_all_samples() -> None:
    for shared in (False, True):
        stack = build(conditioning_channels=3, shared_conditioning=shared)
        x, vector = torch.randn(2, 4, 20).double(), torch.randn(2, 3, 1).double()

        torch.testing.assert_close(stack(x, vector), stack(x, vector.expand(-1, -1, 20)))


def test_shared_conditioning_is_one_projection_cut_into_blocks() -> None:
    shared = build(conditioning_channels=3, shared_conditioning=True)
    own = build(conditioning_channels=3)
    weights = shared.state_dict()
    weight, bias = weights.pop("conditioning_conv.weight"), weights.pop("conditioning_conv.bias")
    for index in range(3):
        rows = slice(6 * index, 6 * (index + 1))
        weights[f"blocks.{index}.conditioning_conv.weight"] = weight[rows]
        weights[f"blocks.{index}.conv.bias"] = weights[f"blocks.{index}.conv.bias"] + bias[rows]
    own.load_state_dict(weights)
    x, c = torch.randn(2, 4, 20).double(), torch.randn(2, 3, 20).double()

    torch.testing.assert_close(own(x, c), shared(x, c))


def test_a_gate_may_be_any_function() -> None:
    stack = build(gate=lambda y: F.softsign(y[:, :2]))

    assert stack(torch.randn(1, 4, 9).double()).shape == (1, 5, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "swish"}, "gate must be tanh"),
        ({"gate": lambda y: y[0]}, r"gate must return \(B, C, T\)"),
        ({"dropout_at": "output"}, "dropout_at must be input, before_gate, gate"),
        ({"output": "all"}, "output must be skip, residual, both"),
        ({"output": "residual"}, "skip_channels=5 does not go with output='residual'"),
        ({"skip_channels": 0}, "skip_channels=0 does not go with output='skip'"),
        ({"shared_conditioning": True}, "needs conditioning_channels="),
        ({"kernel_size": (2, 3)}, "one per block, 3, got 2"),
        ({"kernel_size": 0, "causal": False}, "kernel_size must be 1 or more"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({"conditioning_channels": 3}, {}, "conditioning must be .* got none"),
        ({}, {"conditioning": (2, 3, 20)}, r"conditioning must be left out, got \(2, 3, 20\)"),
        ({"conditioning_channels": 3}, {"conditioning": (2, 4, 20)}, r"\(2, 3, 20\), got"),
        ({"conditioning_channels": 3}, {"conditioning": (2, 3, 7)}, r"\(2, 3, 20\), got"),
        ({}, {"step_embedding": (2, 3)}, "step_embedding must be left out"),
        ({"step_channels": 3}, {"step_embedding": (2, 4)}, r"step_embedding must be \(2, 3\)"),
        ({"film_channels": 3}, {}, "film must be"),
        ({}, {"mask": (2, 4, 20)}, r"mask must be \(2, 1, 20\)"),
    ],
)
def test_missing_unused_and_misshaped_inputs_are_refused(
    options: dict[str, Any], inputs: dict[str, tuple[int, ...]], message: str, fused: bool
) -> None:
    stack = build(**options)
    stack.fused = fused
    given = {name: torch.randn(shape).double() for name, shape in inputs.items()}

    with pytest.raises(ValueError, match=message):
        stack(torch.randn(2, 4, 20).double(), **given)


def test_a_non_causal_stack_has_no_step() -> None:
    with pytest.raises(ValueError, match="non-causal"):
        build(causal=False).new_queues(1)


@pytest.mark.parametrize("dropout_at", ["input", "before_gate", "gate"])
def test_step_drops_nothing_in_training(dropout_at: str) -> None:
    stack = build(dropout=0.5, dropout_at=dropout_at)
    x = torch.randn(2, 4, 9, dtype=torch.double)
    expected = stack(x)
    stack.train()

    queues = stack.new_queues(2)
    stepped = torch.stack([stack.step(x[..., t], queues, t) for t in range(9)], dim=-1)  # type: ignore[misc]

    torch.testing.assert_close(stepped, expected)
    assert not torch.equal(stack(x), expected)
