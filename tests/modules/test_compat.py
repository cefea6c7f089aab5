"""VITS's WN: its formula, its names, its weights in every form; and where it can go."""

import copy
import pickle  # noqa: TID251  (a module that users may pickle)
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules.compat import WN, convert_weight_norm

SIZES = {"hidden_channels": 4, "kernel_size": 5, "dilation_rate": 2, "n_layers": 3}
FORMS = ("legacy", "parametrized", "plain")


def build(**options: Any) -> WN:
    torch.manual_seed(0)
    wn = WN(**(SIZES | options)).double()
    with torch.no_grad():
        for parameter in wn.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return wn


def vits_formula(
    weights: Mapping[str, Tensor],
    x: Tensor,
    mask: Tensor,
    g: Tensor | None,
    n_layers: int = 3,
    dilation_rate: int = 2,
) -> Tensor:
    """VITS's WN, from its description: weight norm per output channel, tanh first."""

    def convolve(name: str, signal: Tensor, dilation: int = 1) -> Tensor:
        v, gain = weights[f"{name}.weight_v"], weights[f"{name}.weight_g"]
        weight = gain * v / (v * v).sum(dim=(1, 2), keepdim=True).sqrt()
        padding = (v.shape[2] - 1) * dilation // 2
        return F.conv1d(signal, weight, weights[f"{name}.bias"], padding=padding, dilation=dilation)

    hidden = x.shape[1]
    total = torch.zeros_like(x)
    conditioning = None if g is None else convolve("cond_layer", g)
    for i in range(n_layers):
        y = convolve(f"in_layers.{i}", x, dilation_rate**i)
        if conditioning is not None:
            y = y + conditioning[:, 2 * hidden * i : 2 * hidden * (i + 1)]
        z = torch.tanh(y[:, :hidden]) * torch.sigmoid(y[:, hidden:])
        out = convolve(f"res_skip_layers.{i}", z)
        if i == n_layers - 1:
            total = total + out
        else:
            x, total = (x + out[:, :hidden]) * mask, total + out[:, hidden:]
    return total * mask


def inputs(channels: int = 0, frames: int = 1) -> tuple[Tensor, Tensor, Tensor | None]:
    x = torch.randn(2, 4, 30, dtype=torch.double)
    mask = (torch.arange(30) < torch.tensor([[[30]], [[17]]])).double()
    g = torch.randn(2, channels, frames, dtype=torch.double) if channels else None
    return x * mask, mask, g


@pytest.mark.parametrize("conditioning", [(0, 1), (3, 1), (3, 30)])
def test_wn_computes_the_formula_of_vits(conditioning: tuple[int, int]) -> None:
    wn, (x, mask, g) = build(gin_channels=conditioning[0]), inputs(*conditioning)

    found = wn(x, mask, g)

    expected = vits_formula(wn.state_dict(), x, mask, g)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_gradients_of_wn_are_those_of_the_formula() -> None:
    wn, (x, mask, g) = build(gin_channels=3), inputs(3)
    names, parameters = zip(*wn.named_parameters(), strict=True)

    found = torch.autograd.grad(wn(x, mask, g).square().sum(), parameters)

    formula = vits_formula(dict(zip(names, parameters, strict=True)), x, mask, g)
    expected = torch.autograd.grad(formula.square().sum(), parameters)
    torch.testing.assert_close(found, expected)


def test_conditioning_may_be_left_out_as_in_vits() -> None:
    wn, (x, mask, _) = build(gin_channels=3), inputs()

    torch.testing.assert_close(wn(x, mask), vits_formula(wn.state_dict(), x, mask, None))


def test_names_shapes_and_order_of_parameters_are_those_of_vits() -> None:
    layers = [("in_layers.0", 8, 4, 5), ("in_layers.1", 8, 4, 5), ("in_layers.2", 8, 4, 5)]
    layers += [("res_skip_layers.0", 8, 4, 1), ("res_skip_layers.1", 8, 4, 1)]
    layers += [("res_skip_layers.2", 4, 4, 1), ("cond_layer", 24, 3, 1)]
    expected = [
        entry
        for name, out, width, taps in layers
        for entry in (
            (f"{name}.bias", (out,)),
            (f"{name}.weight_g", (out, 1, 1)),
            (f"{name}.weight_v", (out, width, taps)),
        )
    ]

    wn = build(gin_channels=3)

    assert [(name, tuple(p.shape)) for name, p in wn.named_parameters()] == expected
    assert list(wn.state_dict()) == [name for name, _ in expected]


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_every_form_load_into_wn(form: Any, removed: bool) -> None:
    source, (x, mask, g) = build(gin_channels=3), inputs(3)
    weights = convert_weight_norm(source.state_dict(), form)
    wn = WN(**SIZES, gin_channels=3).double()
    model = nn.ModuleDict({"enc": wn})
    if removed:
        wn.remove_weight_norm()

    model.load_state_dict({f"enc.{name}": value for name, value in weights.items()})

    torch.testing.assert_close(wn(x, mask, g), source(x, mask, g))


def test_missing_and_unexpected_weights_are_named_by_loading() -> None:
    wn = build()
    weights = wn.state_dict()
    del weights["in_layers.1.weight_v"]
    weights["in_layers.3.weight"] = torch.zeros(8, 4, 5)

    with pytest.raises(RuntimeError, match="(?s)Missing.*in_layers.1.weight_v.*Unexp.*layers.3"):
        wn.load_state_dict(weights)

    wrong = convert_weight_norm(build(kernel_size=3).state_dict(), "plain")
    with pytest.raises(ValueError, match=r"in_layers.0.weight must be \(8, 4, 5\), got \(8, 4, 3"):
        wn.load_state_dict(wrong)


def test_removing_weight_norm_keeps_the_output() -> None:
    wn, (x, mask, g) = build(gin_channels=3), inputs(3)
    expected = wn(x, mask, g)

    for _ in range(2):  # the second time changes nothing
        wn.remove_weight_norm()

    assert not [name for name in wn.state_dict() if "weight_" in name]
    torch.testing.assert_close(wn(x, mask, g), expected)


def test_an_optimizer_state_of_vits_fits() -> None:
    wn, (x, mask, _) = build(), inputs()
    optimizer = torch.optim.AdamW(wn.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = wn(x, mask).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert losses[-1] < losses[0]
    torch.optim.AdamW(build().parameters()).load_state_dict(optimizer.state_dict())


def test_wn_is_copied_and_pickled_after_a_forward_with_gradients() -> None:
    wn, (x, mask, g) = build(gin_channels=3), inputs(3)
    expected = wn(x, mask, g)

    for other in (copy.deepcopy(wn), pickle.loads(pickle.dumps(wn))):  # noqa: S301
        torch.testing.assert_close(other(x, mask, g), expected)


def test_wn_is_exported_with_a_free_length() -> None:
    wn, (x, mask, g) = build(gin_channels=3).eval(), inputs(3)
    length = torch.export.Dim("length", min=2)
    shapes = {"x": {2: length}, "x_mask": {2: length}, "g": {}}

    program = torch.export.export(wn, (x, mask, g), dynamic_shapes=shapes)

    shorter = x[..., :19], mask[..., :19], g
    torch.testing.assert_close(program.module()(*shorter), wn(*shorter))


def test_dropout_drops_gate_outputs_and_only_in_training() -> None:
    wn, (x, mask, _) = build(p_dropout=0.5), inputs()
    dropped = wn(x, mask)
    only_biases = build(p_dropout=1.0)(x, mask)

    assert not torch.allclose(dropped, wn.eval()(x, mask))
    biases = [bias[-4:] for name, bias in wn.named_parameters() if re.match("res.*bias", name)]
    torch.testing.assert_close(only_biases, torch.stack(biases).sum(dim=0)[:, None] * mask)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 5, 30), (2, 1, 30), (2, 3, 1)], r"x must be \(B, 4, T\), got \(2, 5, 30\)"),
        ([(2, 4, 30), (2, 4, 30), (2, 3, 1)], r"x_mask must be \(2, 1, 30\), got \(2, 4, 30\)"),
        ([(2, 4, 30), (2, 1, 30), (2, 5, 1)], r"g must be \(2, 3, 30\), got \(2, 5, 1\)"),
        ([(2, 4, 30), (2, 1, 30), (2, 3)], r"g must be \(2, 3, 30\), got \(2, 3\)"),
    ],
)
def test_misshaped_inputs_are_refused(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(gin_channels=3)(*[torch.randn(shape).double() for shape in shapes])


def test_even_kernels_and_conditioning_without_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd, got 4"):
        build(kernel_size=4)
    x, mask, g = inputs(3)
    with pytest.raises(ValueError, match="g must be left out"):
        build()(x, mask, g)


def test_one_mask_serves_all_items() -> None:
    wn, (x, mask, _) = build(), inputs()

    torch.testing.assert_close(wn(x, mask[1:]), wn(x, mask[1:].expand(2, -1, -1)))


def test_one_conditioning_serves_a_batch_and_other_arguments_are_accepted_as_in_vits() -> None:
    wn, (x, mask, g) = build(gin_channels=3), inputs(3)
    assert g is not None

    found = wn(x, mask, g[:1], cross_attention=None)

    torch.testing.assert_close(found, wn(x, mask, g[:1].expand(2, -1, -1)))


def test_a_mask_of_another_precision_is_converted() -> None:
    wn, (x, mask, _) = build(), inputs()

    torch.testing.assert_close(wn.float()(x.float(), mask), wn(x.float(), mask.float()))


def test_frozen_weights_stay_frozen_without_weight_norm() -> None:
    wn = build().requires_grad_(False)

    wn.remove_weight_norm()

    assert not any(parameter.requires_grad for parameter in wn.parameters())


def test_no_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="n_layers must be 1 or more, got 0"):
        WN(4, 3, 1, 0)
