"""The fused stack with the options of other projects' stacks: the numbers of the loop."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.architectures import num_examples
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.modules import ResidualStack

VITS: dict[str, Any] = {
    "dilations": (1, 1, 1),
    "kernel_size": 5,
    "causal": False,
    "conditioning_channels": 3,
    "shared_conditioning": True,
}
DIFFWAVE: dict[str, Any] = {
    "dilations": (1, 2, 4),
    "kernel_size": 3,
    "causal": False,
    "gate": "sigmoid*tanh",
    "conditioning_channels": 3,
    "step_channels": 7,
    "residual_scale": 0.5**0.5,
    "skip_scale": 3**-0.5,
}
FORMS = {"vits": VITS, "diffwave": DIFFWAVE}


def build(**options: Any) -> ResidualStack:
    widths = {"residual_channels": 4, "gate_channels": 6, "skip_channels": 5}
    return ResidualStack(**{**widths, **options}).double()


def random_inputs(stack: ResidualStack, shape: tuple[int, int], vector: bool) -> dict[str, Tensor]:
    """Every input that the stack takes, of `shape` items and samples, with gradients."""
    block, shared = stack.blocks[0], stack.conditioning_conv
    projection: Any = shared or block.conditioning_conv
    linear: Any = block.step_projection
    sizes: dict[str, tuple[int, ...]] = {"x": (shape[0], 4, shape[1])}
    if projection is not None:
        sizes["conditioning"] = shape[0], projection.in_channels, 1 if vector else shape[1]
    if linear is not None:
        sizes["step_embedding"] = shape[0], linear.in_features
    return {
        name: torch.randn(size, dtype=torch.double).requires_grad_() for name, size in sizes.items()
    }


def random_mask(batch_size: int, length: int) -> Tensor:
    lengths = torch.randint(0, length + 1, (batch_size, 1, 1))
    return (torch.arange(length) < lengths).double()


def gradients(
    y: Tensor, inputs: dict[str, Tensor], stack: ResidualStack, **options: Any
) -> list[Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    wanted = [*inputs.values(), *stack.parameters()]
    found: tuple[Tensor, ...] = torch.autograd.grad((y * weights).sum(), wanted, **options)
    return list(found)


def runs_fused(stack: ResidualStack, inputs: dict[str, Tensor]) -> bool:
    y = stack(**inputs)
    names, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in names:
            names.add(node)
            todo += [following for following, _ in node.next_functions]
    return any("FusedStackFunction" in node.name() for node in names)


@st.composite
def stacks(draw: st.DrawFn) -> ResidualStack:
    conditioning = draw(st.sampled_from([0, 3]))
    dropout_at = draw(st.sampled_from(["input", "before_gate", "gate"]))
    stack = build(
        dilations=draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)),
        kernel_size=draw(st.integers(1, 5)),
        causal=draw(st.booleans()),
        bias=draw(st.booleans()),
        gate=draw(st.sampled_from(["tanh*sigmoid", "sigmoid*tanh"])),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        dropout_at=dropout_at,
        residual_scale=draw(st.sampled_from([1.0, 0.7])),
        skip_scale=draw(st.sampled_from([1.0, 0.3])),
        conditioning_channels=conditioning,
        shared_conditioning=bool(conditioning) and draw(st.booleans()),
        step_channels=draw(st.sampled_from([0, 7])),
    ).eval()
    stack.checkpoint_activations = draw(st.booleans())
    return stack


@settings(max_examples=num_examples(30))
@given(
    stack=stacks(),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20)),
    vector=st.booleans(),
    masked=st.booleans(),
)
def test_options_give_the_values_and_gradients_of_the_loop(
    stack: ResidualStack, shape: tuple[int, int], vector: bool, masked: bool
) -> None:
    inputs = random_inputs(stack, shape, vector)
    extras = {"mask": random_mask(*shape)} if masked else {}
    assert runs_fused(stack, {**inputs, **extras})

    fused = stack(**inputs, **extras)
    found = gradients(fused, inputs, stack)

    stack.fused = False
    expected_y = stack(**inputs, **extras)
    torch.testing.assert_close(fused, expected_y, rtol=1e-12, atol=1e-12)
    for one, other in zip(found, gradients(expected_y, inputs, stack), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_known_forms_pass_gradcheck_twice(form: str) -> None:
    stack = build(**{**FORMS[form], "dilations": (1, 2), "kernel_size": 3})
    inputs = random_inputs(stack, (2, 6), vector=form == "vits")
    names = [*inputs, *(name for name, _ in stack.named_parameters())]
    mask = random_mask(2, 6)

    def forward(*tensors: Tensor) -> Tensor:
        by_name = dict(zip(names, tensors, strict=True))
        given = {name: by_name.pop(name) for name in inputs}
        y: Tensor = torch.func.functional_call(stack, by_name, (), {**given, "mask": mask})
        return y

    tensors = (*inputs.values(), *stack.parameters())
    assert runs_fused(stack, {**inputs, "mask": mask})
    assert torch.autograd.gradcheck(forward, tensors)
    assert torch.autograd.gradgradcheck(forward, tensors, fast_mode=True)


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_second_derivatives_drop_the_same_values(checkpoint_activations: bool) -> None:
    stack = build(**DIFFWAVE, dropout=0.5)
    stack.checkpoint_activations = checkpoint_activations
    inputs = random_inputs(stack, (2, 9), vector=False)
    y = stack(**inputs)

    first = gradients(y, inputs, stack, retain_graph=True)
    again = gradients(y, inputs, stack, create_graph=True)

    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
    assert all(grad.requires_grad for grad in again[: len(inputs)])


def test_inputs_that_depend_on_each_other_have_their_own_gradients() -> None:
    stack = build(dilations=(1, 2), conditioning_channels=4)
    source = torch.randn(2, 4, 7, dtype=torch.double, requires_grad=True)

    def second(fused: bool) -> Tensor:
        stack.fused = fused
        y = stack(source, source.sin())
        (grad,) = torch.autograd.grad(y.square().sum(), source, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), source)[0]

    torch.testing.assert_close(second(True), second(False), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_gates_and_autocast_stay_close_to_the_loop(form: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    widths = {"residual_channels": 4, "gate_channels": 32, "skip_channels": 16}
    stack = build(**FORMS[form], **widths).float()
    stack.gated_activation = fast_gated_activation
    inputs = random_inputs(stack, (3, 150), vector=form == "vits")
    inputs = {name: x.detach().float().requires_grad_() for name, x in inputs.items()}
    extras = {"mask": random_mask(3, 150).float()} if form == "vits" else {}

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        fused = stack(**inputs, **extras)
    found = gradients(fused, inputs, stack)

    stack.fused = False
    expected_y = stack(**inputs, **extras)
    assert fused.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(fused.float(), expected_y, rtol=tolerance, atol=tolerance)
    for one, other in zip(found, gradients(expected_y, inputs, stack), strict=True):
        assert (one - other).norm() <= 2 * tolerance * other.norm()


@pytest.mark.parametrize(
    ("options", "extras"),
    [
        ({"gate": "tanh"}, {}),
        ({"film_channels": 2}, {"film": torch.randn(2, 2).double()}),
        ({"dropout": 0.5, "dropout_at": "gate"}, {}),
        ({"kernel_size": (1, 2)}, {}),
        ({"in_channels": 4, "output": "both"}, {}),
        ({}, {"mask": torch.ones(2, 1, 9).double().requires_grad_()}),
    ],
)
def test_what_the_fused_stack_does_not_know_runs_by_the_loop(
    options: dict[str, Any], extras: dict[str, Tensor]
) -> None:
    stack = build(dilations=(1, 2), **options)
    inputs = random_inputs(stack, (2, 9), vector=False)

    if options.get("output") == "both":
        assert stack.fusable_weights(inputs["x"]) is None
        return
    assert not runs_fused(stack, {**inputs, **extras})


def test_wide_float32_convolutions_run_by_the_loop_unless_checkpointed() -> None:
    stack = ResidualStack((1,), 256, 4, 2, 3, causal=False)
    inputs = {"x": torch.randn(1, 256, 5, requires_grad=True)}

    assert not runs_fused(stack, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert runs_fused(stack, inputs)
    stack.checkpoint_activations = True
    assert runs_fused(stack, inputs)


def test_an_empty_batch_of_steps_has_an_empty_output() -> None:
    stack = build(**DIFFWAVE)
    inputs = random_inputs(stack, (0, 9), vector=False)

    assert stack(**inputs).shape == (0, 5, 9)
