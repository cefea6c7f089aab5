"""Stacks of other projects against their formulas, written here from their descriptions."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.modules import ResidualStack
from wavenet.modules.compat import (
    WN,
    convert_weight_norm,
    diffwave_stack,
    nnsvs_stack,
    parallel_wavegan_stack,
    waveglow_wn,
    wn_stack,
)
from wavenet.modules.compat.weight_norm import split_weight

Weights = dict[str, Tensor]
LENGTH = 40


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Weights:
    """Return float64 weights, and a bias for each module whose name does not end in `*`."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        module = name.rstrip("*")
        scale = math.prod(shape[1:]) ** -0.5
        new = torch.randn(shape, generator=generator, dtype=torch.double) * scale
        weights[f"{module}.weight"] = new
        if not name.endswith("*"):
            weights[f"{module}.bias"] = torch.randn(shape[0], generator=generator).double()
    return weights


def numbered(container: str, count: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {f"{container}.{i}.{name}": s for i in range(count) for name, s in shapes.items()}


def with_weight_norm(weights: Weights) -> Weights:
    """Return the weights as PyTorch's older weight norm keeps them."""
    pairs: Weights = {}
    for name, value in weights.items():
        if name.endswith(".weight"):
            pairs[f"{name}_g"], pairs[f"{name}_v"] = split_weight(value)
            pairs[f"{name}_v"] = 3 * pairs[f"{name}_v"]
        else:
            pairs[name] = value
    return pairs


def convolve(
    weights: Weights, name: str, x: Tensor, dilation: int = 1, *, causal: bool = False
) -> Tensor:
    kernel = weights[f"{name}.weight"]
    past = dilation * (kernel.shape[2] - 1)
    sides = (past, 0) if causal else (past // 2, past - past // 2)
    return F.conv1d(F.pad(x, sides), kernel, weights.get(f"{name}.bias"), dilation=dilation)


def signals(*channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, c, LENGTH, generator=generator, dtype=torch.double) for c in channels]


def largest_difference(found: Any, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.detach() - expected.detach()).abs().max())


def assert_computes(stack: ResidualStack, expected: Tensor, *inputs: Any, **named: Any) -> None:
    """Assert that a stack, fused and block by block, computes a formula."""
    for stack.fused in (True, False):
        assert largest_difference(stack(*inputs, **named), expected) < 1e-12


def diffwave_formula(
    weights: Weights, x: Tensor, step: Tensor, c: Tensor | None, cycle: int, layers: int
) -> Tensor:
    width, total = x.shape[1], torch.zeros_like(x)
    for i in range(layers):
        name = f"residual_layers.{i}"
        weight, bias = (weights[f"{name}.diffusion_projection.{k}"] for k in ("weight", "bias"))
        shift = step @ weight.t() + bias
        y = convolve(weights, f"{name}.dilated_conv", x + shift[:, :, None], 2 ** (i % cycle))
        if c is not None:
            y = y + convolve(weights, f"{name}.conditioner_projection", c)
        z = torch.sigmoid(y[:, :width]) * torch.tanh(y[:, width:])
        out = convolve(weights, f"{name}.output_projection", z)
        x, total = (x + out[:, :width]) / math.sqrt(2.0), total + out[:, width:]
    return total / math.sqrt(layers)


def diffwave_weights(layers: int, conditioning: int, step: int = 512, width: int = 4) -> Weights:
    shapes = {
        "dilated_conv": (2 * width, width, 3),
        "diffusion_projection": (width, step),
        "output_projection": (2 * width, width, 1),
    }
    if conditioning:
        shapes["conditioner_projection"] = (2 * width, conditioning, 1)
    return random_weights(numbered("residual_layers", layers, shapes))


@pytest.mark.parametrize(("cycle", "step"), [(10, 512), (4, 4)])
@pytest.mark.parametrize("conditioning", [0, 3])
def test_diffwave_layers_compute_their_formula(conditioning: int, cycle: int, step: int) -> None:
    weights = diffwave_weights(12, conditioning, step)
    x, *conditioned = signals(4, *[conditioning] * bool(conditioning))
    embedding = torch.randn(2, step, dtype=torch.double)

    stack = diffwave_stack(weights, dilation_cycle=cycle)

    c = conditioned[0] if conditioned else None
    expected = diffwave_formula(weights, x, embedding, c, cycle, 12)
    assert_computes(stack, expected, x, c, step_embedding=embedding)


def wn_formula(weights: Weights, x: Tensor, c: Tensor | None, layers: int, rate: int) -> Tensor:
    """The joint form of a WN: tanh first, residual rows first, the last layer without them."""
    width, total = x.shape[1], torch.zeros_like(x)
    projected = None if c is None else convolve(weights, "cond_layer", c)
    for i in range(layers):
        y = convolve(weights, f"in_layers.{i}", x, rate**i)
        if projected is not None:
            y = y + projected[:, 2 * width * i : 2 * width * (i + 1)]
        z = torch.tanh(y[:, :width]) * torch.sigmoid(y[:, width:])
        out = convolve(weights, f"res_skip_layers.{i}", z)
        if i < layers - 1:
            x = x + out[:, :width]
        total = total + out[:, -width:]
    return total


def waveglow_weights(layers: int = 3, width: int = 4, mel: int = 5) -> Weights:
    shapes: dict[str, tuple[int, ...]] = {"start": (width, 2, 1), "end": (4, width, 1)}
    shapes["cond_layer"] = (2 * width * layers, mel, 1)
    for i in range(layers):
        shapes[f"in_layers.{i}"] = (2 * width, width, 3)
        outputs = width if i == layers - 1 else 2 * width
        shapes[f"res_skip_layers.{i}"] = (outputs, width, 1)
    return random_weights(shapes)


def cut(weights: Weights, name: str, names: Iterable[str]) -> Weights:
    """Return the parts of a joint convolution, by the names of equal numbers of rows."""
    modules = list(names)
    return {
        f"{module}.{kind}": part
        for kind in ("weight", "bias")
        for module, part in zip(modules, weights[f"{name}.{kind}"].chunk(len(modules)), strict=True)
    }


def with_a_conditioning_per_layer(weights: Weights) -> Weights:
    others = {name: w for name, w in weights.items() if not name.startswith("cond_layer.")}
    return others | cut(weights, "cond_layer", [f"cond_layers.{i}" for i in range(3)])


def with_all_layers_apart(weights: Weights) -> Weights:
    weights = with_a_conditioning_per_layer(weights)
    others = {name: w for name, w in weights.items() if not name.startswith("res_skip_layers.")}
    for i in range(2):
        names = f"res_layers.{i}", f"skip_layers.{i}"
        others |= cut(weights, f"res_skip_layers.{i}", names)
    return others | cut(weights, "res_skip_layers.2", ["skip_layers.2"])


@pytest.mark.parametrize(
    "layout", [dict, with_weight_norm, with_a_conditioning_per_layer, with_all_layers_apart]
)
def test_waveglow_computes_its_formula(layout: Callable[[Weights], Weights]) -> None:
    weights = waveglow_weights()
    audio, mel = signals(2, 5)
    laid_out = {f"WN.1.{name}": value for name, value in layout(weights).items()}

    wn = waveglow_wn({**laid_out, "convinv.0.conv.weight": torch.zeros(2, 2, 1)}, prefix="WN.1.")

    hidden = wn_formula(weights, convolve(weights, "start", audio), mel, layers=3, rate=2)
    expected = convolve(weights, "end", hidden)
    assert largest_difference(wn(audio, mel), expected) < 1e-12


@pytest.mark.parametrize("gin_channels", [0, 3])
def test_a_wn_of_vits_becomes_a_stack(gin_channels: int) -> None:
    torch.manual_seed(0)
    wn = WN(4, 5, 1, 3, gin_channels=gin_channels).double()
    x, g = signals(4, 3)
    mask = (torch.arange(LENGTH) < torch.tensor([[[LENGTH]], [[21]]])).double()
    given = g[..., :1] if gin_channels else None

    stack = wn_stack(wn.state_dict(), dilation_rate=1)

    assert_computes(stack, wn(x * mask, mask, given), x * mask, given, mask=mask)


def glu_formula(
    weights: Weights,
    container: str,
    conditioning: str,
    x: Tensor,
    c: Tensor | None,
    dilations: list[int],
    *,
    causal: bool,
    residual_scale: float = 1.0,
    skip_scale: float = 1.0,
) -> Tensor:
    """A block with one 1x1 convolution per output: tanh first."""
    total = torch.zeros(())
    for i, dilation in enumerate(dilations):
        name = f"{container}.{i}"
        y = convolve(weights, f"{name}.conv", x, dilation, causal=causal)
        if c is not None:
            y = y + convolve(weights, f"{name}.{conditioning}", c)
        half = y.shape[1] // 2
        z = torch.tanh(y[:, :half]) * torch.sigmoid(y[:, half:])
        total = total + convolve(weights, f"{name}.conv1x1_skip", z)
        x = (convolve(weights, f"{name}.conv1x1_out", z) + x) * residual_scale
    return total * skip_scale


def glu_weights(container: str, conditioning: str, channels: int, *, bias: bool = True) -> Weights:
    mark = "" if bias else "*"
    shapes: dict[str, tuple[int, ...]] = {
        f"conv{mark}": (6, 4, 3),
        f"conv1x1_out{mark}": (4, 3, 1),
        f"conv1x1_skip{mark}": (5, 3, 1),
    }
    if channels:
        shapes[f"{conditioning}*"] = (6, channels, 1)
    return random_weights(numbered(container, 6, shapes))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("channels", [0, 7])
def test_parallel_wavegan_computes_its_formula(channels: int, causal: bool, bias: bool) -> None:
    weights = glu_weights("conv_layers", "conv1x1_aux", channels, bias=bias)
    x, c = signals(4, channels or 1)
    given = c if channels else None

    stack = parallel_wavegan_stack(with_weight_norm(weights), stacks=2, causal=causal)

    expected = glu_formula(
        weights,
        "conv_layers",
        "conv1x1_aux",
        x,
        given,
        [1, 2, 4, 1, 2, 4],
        causal=causal,
        residual_scale=math.sqrt(0.5),
        skip_scale=math.sqrt(1.0 / 6),
    )
    assert_computes(stack, expected, x, given)


def test_nnsvs_computes_its_formula() -> None:
    weights = glu_weights("main_conv_layers", "conv1x1c", 7)
    x, c = signals(4, 7)

    stack = nnsvs_stack({"first_conv.bias": x, **with_weight_norm(weights)}, stacks=3)

    expected = glu_formula(
        weights, "main_conv_layers", "conv1x1c", x, c, [1, 2, 1, 2, 1, 2], causal=True
    )
    assert_computes(stack, expected, x, c)


@pytest.mark.parametrize("form", ["plain", "parametrized", "legacy"])
def test_weights_of_every_form_build_the_same_stack(form: Any) -> None:
    weights = with_weight_norm(glu_weights("conv_layers", "conv1x1_aux", 7))
    x, c = signals(4, 7)

    stack = parallel_wavegan_stack(convert_weight_norm(weights, form))

    assert largest_difference(stack(x, c), parallel_wavegan_stack(weights)(x, c)) == 0


def test_a_stack_has_the_precision_of_its_weights_in_memory_of_its_own() -> None:
    weights = {name: w.bfloat16() for name, w in diffwave_weights(2, 3).items()}
    before = {name: w.clone() for name, w in weights.items()}

    stack = diffwave_stack(weights)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()

    assert {parameter.dtype for parameter in stack.parameters()} == {torch.bfloat16}
    assert all(torch.equal(weights[name], w) for name, w in before.items())


def test_dropout_is_where_the_projects_have_it() -> None:
    torch.manual_seed(0)
    vits = wn_stack(WN(4, 5, 1, 2).state_dict(), dilation_rate=1, dropout=0.5)
    weights = glu_weights("conv_layers", "conv1x1_aux", 0)
    gan = parallel_wavegan_stack(weights, dropout=0.25)

    def places(stack: ResidualStack) -> set[Any]:
        return {(block.dropout.p, block.dropout_at) for block in stack._blocks()}

    assert places(vits) == {(0.5, "gate")}
    assert places(gan) == {(0.25, "input")}


DIFFWAVE = diffwave_weights(3, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: diffwave_stack({}), "residual_layers must have layers 0, 1, ..., got none"),
        (lambda: diffwave_stack({f"model.{k}": w for k, w in DIFFWAVE.items()}), "prefix= is"),
        (
            lambda: diffwave_stack({k: w for k, w in DIFFWAVE.items() if "s.1." not in k}),
            r"layers 0, 1, ..., got \[0, 2\]",
        ),
        (
            lambda: diffwave_stack(
                {k: w for k, w in DIFFWAVE.items() if "1.dilated_conv.b" not in k}
            ),
            r"residual_layers.1 has no dilated_conv.bias",
        ),
        (
            lambda: diffwave_stack({**DIFFWAVE, "residual_layers.2.norm.weight": torch.ones(4)}),
            "residual_layers.2 has norm.weight, of another layout",
        ),
        (
            lambda: diffwave_stack(
                {**DIFFWAVE, "residual_layers.1.dilated_conv.weight": torch.ones(8, 4, 5)}
            ),
            r"blocks.1.conv.weight must be \(8, 4, 3\), got \(8, 4, 5\)",
        ),
        (
            lambda: parallel_wavegan_stack(glu_weights("conv_layers", "", 0), stacks=4),
            "stacks must divide the 6 layers, got 4",
        ),
        (
            lambda: wn_stack(
                {k: w for k, w in waveglow_weights().items() if "skip_layers.2" not in k}
            ),
            "res_skip_layers must have 3 layers, got 2",
        ),
        (
            lambda: waveglow_wn({k: w for k, w in waveglow_weights().items() if k != "end.bias"}),
            "end.bias missing",
        ),
    ],
)
def test_state_dicts_of_another_layout_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
