"""Weights in the three forms of weight norm: what is converted, loaded and refused."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from wavenet.modules.compat import WeightNormConv1d, convert_weight_norm, load_weights

FORMS = ("plain", "parametrized", "legacy")


def network(form: str, dim: int | None = 0) -> nn.Module:
    """Return a nested network with all layers in a form of weight norm, by PyTorch's functions."""
    torch.manual_seed(0)
    inner = nn.Conv1d(2, 1, 3), nn.Linear(4, 5)
    outer = nn.Conv1d(3, 4, 5), nn.ConvTranspose1d(4, 2, 3, bias=False)
    net = nn.Sequential(*outer, nn.Sequential(*inner), nn.BatchNorm1d(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for layer in (*outer, *inner):
            if form == "legacy":
                nn.utils.weight_norm(layer, dim=dim)  # type: ignore[arg-type]
            elif form == "parametrized":
                weight_norm(layer, dim=dim)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("_g", "original0")):
                parameter.mul_(1.7)
    return net


def differs(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [name for name in expected if not torch.equal(found[name], expected[name])]


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("source", FORMS[1:])
def test_plain_weights_are_those_of_pytorch_bit_for_bit(source: str, dim: int | None) -> None:
    net = network(source, dim)
    x = torch.randn(2, 3, 8)
    net.eval()(x)  # the legacy form computes its weights when it is called
    expected = {
        f"{name}.weight": net.get_submodule(name).weight for name in ("0", "1", "2.0", "2.1")
    }

    found = convert_weight_norm(net.state_dict(), "plain")

    assert set(found) == set(network("plain").state_dict())
    assert differs(found, expected) == []


@pytest.mark.parametrize("target", FORMS[1:])
@pytest.mark.parametrize("source", FORMS[1:])
def test_normalized_forms_differ_in_names_alone(source: str, target: Any) -> None:
    weights, expected = network(source).state_dict(), network(target).state_dict()

    found = convert_weight_norm(weights, target)

    assert set(found) == set(expected)
    assert differs(found, expected) == []
    assert found["0.bias"] is weights["0.bias"]


def test_conversion_leaves_its_argument_alone() -> None:
    weights = network("legacy").state_dict()
    before = {name: value.clone() for name, value in weights.items()}

    convert_weight_norm(weights, "plain")["0.bias"] *= 1

    assert list(weights) == list(before)
    assert differs(weights, before) == []


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("target", FORMS)
@pytest.mark.parametrize("source", FORMS)
def test_any_form_loads_into_any_other(source: str, target: str, dim: int | None) -> None:
    theirs, ours, x = network(source, dim).eval(), network(target).eval(), torch.randn(2, 3, 8)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.fill_(9.0)

    load_weights(
        ours,
        {f"model.{name}": w for name, w in theirs.state_dict().items()} | {"step": 3},
        prefix="model.",
    )

    torch.testing.assert_close(ours(x), theirs(x))


def test_a_slice_of_zeros_stays_zero_where_pytorch_has_nan() -> None:
    plain, normalized = nn.Conv1d(2, 3, 1), weight_norm(nn.Conv1d(2, 3, 1))
    nn.init.zeros_(plain.weight)

    load_weights(normalized, plain.state_dict())

    assert not normalized.weight.any()


def test_half_precision_is_joined_in_the_precision_of_the_module() -> None:
    source, target = weight_norm(nn.Conv1d(3, 4, 5)), nn.Conv1d(3, 4, 5)
    halves = {name: value.half() for name, value in source.state_dict().items()}
    load_weights(source, halves)

    load_weights(target, halves)

    assert torch.equal(target.weight, source.weight)


def test_missing_and_unknown_weights_are_one_sentence() -> None:
    weights = network("legacy").state_dict()
    weights["3.scale"] = weights.pop("3.weight")

    with pytest.raises(ValueError) as error:
        load_weights(network("plain"), weights)
    assert str(error.value) == (
        "the weights do not fit Sequential: 3.weight missing, 3.scale unknown"
    )
    with pytest.raises(ValueError, match=r"1.weight and 9 more missing.*'net.'\?$"):
        load_weights(
            network("plain"), {f"net.{k}": v for k, v in network("legacy").state_dict().items()}
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a.weight_g": (4, 1)}, "a.weight_g has no a.weight_v that fits it"),
        ({"a.weight_v": (4, 2), "a.weight_g": (2,)}, "a.weight_v has no a.weight_g that fits it"),
        (
            {"weight_g": (4, 1), "weight_v": (4, 2), "weight": (4, 2)},
            "weight is there in two forms",
        ),
    ],
)
def test_halves_and_doubles_are_refused(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_weight_norm({name: torch.ones(shape) for name, shape in weights.items()}, "plain")


def test_other_names_on_g_and_v_are_left_alone() -> None:
    weights: dict[str, Any] = {"scale_g": torch.ones(3), "scale_v": torch.ones(3), "step_g": 1}

    assert convert_weight_norm(weights, "plain") == weights
    with pytest.raises(ValueError, match="to must be plain, parametrized, legacy, got 'old'"):
        convert_weight_norm(weights, "old")  # type: ignore[arg-type]


def test_other_weights_than_weight_are_converted() -> None:
    torch.manual_seed(0)
    rnn = weight_norm(nn.RNNCell(3, 4), "weight_hh")
    legacy = convert_weight_norm(rnn.state_dict(), "legacy")

    assert {"weight_hh_g", "weight_hh_v", "weight_ih"} <= set(legacy)
    assert torch.equal(convert_weight_norm(legacy, "plain")["weight_hh"], rnn.weight_hh)


def test_our_normalized_convolution_equals_that_of_pytorch() -> None:
    ours, theirs = (
        WeightNormConv1d(3, 4, 5, 2),
        weight_norm(nn.Conv1d(3, 4, 5, padding=4, dilation=2)),
    )
    x = torch.randn(2, 3, 20, requires_grad=True)
    load_weights(ours, theirs.state_dict())

    found, expected = ours(x), theirs(x)

    assert torch.equal(found, expected)
    gradient: Tensor = torch.autograd.grad(found.sum(), ours.weight_v)[0]
    original = theirs.parametrizations.weight.original1
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), original)[0])


@pytest.mark.parametrize(
    ("prefix", "message"),
    [("a.b", r"prefix='a\.b\.'\?"), ("", r"prefix='a\.b\.'\?"), ("c.", "no name starts with")],
)
def test_a_wrong_prefix_is_named(prefix: str, message: str) -> None:
    conv = nn.Conv1d(2, 3, 1)
    weights = {f"a.b.{name}": weight for name, weight in conv.state_dict().items()}

    with pytest.raises(ValueError, match=message):
        load_weights(conv, weights, prefix=prefix)
