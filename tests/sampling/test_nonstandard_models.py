"""The reference sampler computes what a model steps; all others refuse what is not standard."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tests.architectures import SMALL
from tests.sampling.parity import noisy
from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.distributions import Categorical, SamplingConfig
from wavenet.mel_predictor import MelPredictor
from wavenet.model import WaveNet
from wavenet.modules import Head, ResidualBlock
from wavenet.modules.conv import pointwise
from wavenet.sampling import BACKENDS, Sampler, make_sampler
from wavenet.sampling.state import uniforms
from wavenet.utils.errors import ConfigError

PREDICTED = dataclasses.replace(
    SMALL,
    output_distribution="gaussian_mixture",
    quantization_channels=65536,
    input_type="mu-law",
)
MEL = MelConfig(sample_rate=8000, n_fft=16, hop_length=4, win_length=16, n_mels=3, f_max=4000.0)
PREDICTORS = {
    "mel": dataclasses.replace(
        PREDICTED,
        local=LocalConfig(in_channels=3, channels=4, upsample_scales=(4,)),
        predictor=PredictorConfig(order=5, mel=MEL),
    ),
    "past": dataclasses.replace(
        PREDICTED, predictor=PredictorConfig(source="past", order=5, window_length=16, interval=4)
    ),
}


class ReluBlock(ResidualBlock):
    """A block whose gate is a ReLU."""

    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        return y.chunk(2, dim=1)[0].relu()


class WideHead(Head):
    """A head whose ReLU is leaky."""

    def step(self, x: Tensor) -> Tensor:
        hidden = pointwise(self.hidden, nn.functional.leaky_relu(x, 0.2))
        return pointwise(self.output, nn.functional.leaky_relu(hidden, 0.2))


class LoudestClass(Categorical):
    """A distribution that ignores the noise and takes every second time the next class."""

    def sample(self, params: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
        codes = (params.argmax(dim=-1) + (noise[:, 0] > 0.5)) % self.num_classes
        return self.decode(codes, params.dtype)


def block_of(model: WaveNet, index: int) -> ResidualBlock:
    return cast("ResidualBlock", model.stack.blocks[index])


def subclass_blocks(model: WaveNet) -> None:
    for block in model.stack.blocks:
        block.__class__ = ReluBlock


def hook_a_block(model: WaveNet) -> None:
    step = block_of(model, 1).step

    def louder(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        x, skip = step(*arguments)  # type: ignore[arg-type]
        assert skip is not None
        return x, 2 * skip

    block_of(model, 1).step = louder  # type: ignore[method-assign, assignment]


def hook_a_pointwise_convolution(model: WaveNet) -> None:
    block_of(model, 2).skip_conv.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: 2 * output
    )


def replace_the_head(model: WaveNet) -> None:
    model.head = WideHead(SMALL.skip_channels, SMALL.head_channels, SMALL.quantization_channels)


def change_the_scale(model: WaveNet) -> None:
    for block in model.stack.blocks:
        cast("ResidualBlock", block).residual_scale = 0.5


def remove_a_block(model: WaveNet) -> None:
    model.stack.blocks = model.stack.blocks[:2]


def change_the_distribution(model: WaveNet) -> None:
    model.distribution = LoudestClass(SMALL.quantization_channels)


CHANGES: list[tuple[Callable[[WaveNet], None], str]] = [
    (subclass_blocks, r"stack\.blocks\.0"),
    (hook_a_block, r"stack\.blocks\.1"),
    (hook_a_pointwise_convolution, r"stack\.blocks\.2\.skip_conv"),
    (replace_the_head, "head"),
    (change_the_scale, r"stack\.blocks\.0.*residual_scale"),
    (remove_a_block, "stack"),
    (change_the_distribution, "distribution is LoudestClass"),
]


def loud_model() -> WaveNet:
    """Return a model whose weights are so large that every change shows in the signal."""
    torch.manual_seed(0)
    model = WaveNet(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def stepped(model: WaveNet, length: int) -> Tensor:
    """Return a signal by `model.step` in a loop, which is the definition."""
    model = copy.deepcopy(model).eval()
    state, sample, signal = model.new_state(), torch.zeros(1), []
    with torch.no_grad():
        for noise in uniforms([0], 0, length)[0]:
            params = model.step(sample, state)
            sample = model.distribution.sample(params, noise[None], SamplingConfig())
            signal.append(sample)
    return torch.stack(signal, dim=1)


@pytest.mark.parametrize(
    ("change", "part"), CHANGES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_changed_model_is_sampled_by_reference_alone(
    change: Callable[[WaveNet], None], part: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = loud_model()
    standard = make_sampler(model, "reference").generate(30)
    change(model)

    signal = make_sampler(model, "reference").generate(30)

    assert torch.equal(signal, stepped(model, 30))
    assert not torch.equal(signal, standard)
    for backend in ("cpu", "graph"):
        with pytest.raises(ConfigError, match=f"(?s){backend}.*{part}.*use backend=reference"):
            make_sampler(model, backend)
    assert make_sampler(model).name == "reference"
    assert "using the slow reference sampler" in caplog.text


class LoudHead(Head):
    """A head whose signal is louder, but not its step."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class LoudBlock(ResidualBlock):
    """A block with a forward of its own."""

    def forward(self, *arguments: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        x, skip = super().forward(*arguments, **kwargs)
        return 2 * x, skip


PARTS = ("", "input", "stack", "stack.blocks.1", "stack.blocks.1.conv", "head")


def doubled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 2 * output


@pytest.mark.parametrize("backend", ["auto", *BACKENDS[1:]])
@pytest.mark.parametrize("part", [*PARTS, "stack.blocks.1.dropout"])
def test_a_hook_that_a_step_leaves_out_is_refused_by_name(part: str, backend: str) -> None:
    model = WaveNet(SMALL)
    model.get_submodule(part).register_forward_hook(doubled)

    name = part.replace(".", r"\.") or "the model"
    with pytest.raises(ConfigError, match=f"{name} has forward hooks, which step would leave out"):
        make_sampler(model, backend)


@pytest.mark.parametrize("part", PARTS)
def test_a_state_is_refused_where_step_leaves_a_hook_out(part: str) -> None:
    model = WaveNet(SMALL)
    model.get_submodule(part).register_forward_pre_hook(lambda module, inputs: None)

    with pytest.raises(ValueError, match="has forward pre hooks, which step would leave out"):
        model.new_state()


@pytest.mark.parametrize(("part", "kind"), [("head", LoudHead), ("stack.blocks.1", LoudBlock)])
def test_a_forward_without_its_step_is_refused_by_name(part: str, kind: type[nn.Module]) -> None:
    model = WaveNet(SMALL)
    module = model.get_submodule(part)
    base, module.__class__ = type(module).__name__, kind

    wanted = f"{part} has the forward of {kind.__name__}, but the step of {base}"
    with pytest.raises(ConfigError, match=wanted):
        make_sampler(model)


def test_a_forward_set_on_an_instance_is_refused_without_its_step() -> None:
    model = WaveNet(SMALL)
    step = model.head.step
    model.head.forward = lambda x: 2 * x  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="head has a forward of its own, set on the instance"):
        make_sampler(model)

    model.head.step = lambda x: 2 * step(x)  # type: ignore[method-assign]

    assert make_sampler(model).name == "reference"


def test_hooks_of_the_backward_pass_do_not_matter() -> None:
    model = WaveNet(SMALL)
    expected = make_sampler(model, "reference").generate(20)
    for module in model.modules():
        module.register_full_backward_hook(lambda module, grads, outputs: None)

    assert torch.equal(make_sampler(model, "reference").generate(20), expected)


@pytest.mark.parametrize("name", ["hidden", "output"])
def test_a_hook_in_the_head_runs_forward_and_step_by_step(name: str) -> None:
    head, x = loud_model().head, torch.randn(2, SMALL.skip_channels, 5)
    plain = head(x)
    head.get_submodule(name).register_forward_hook(doubled)

    hooked = head(x)

    assert not torch.allclose(hooked, plain)
    torch.testing.assert_close(head.step(x[:, :, 0]), hooked[:, :, 0])


def test_a_distribution_without_compiled_draw_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Categorical, "compiled_draw", None)

    for backend in ("cpu", "graph"):
        with pytest.raises(ConfigError, match="distribution Categorical has compiled_draw=None"):
            make_sampler(WaveNet(SMALL), backend)


@pytest.mark.parametrize("backend", BACKENDS[1:])  # cuda needs a GPU
def test_wrapped_models_are_unwrapped(backend: str) -> None:
    model = WaveNet(SMALL)
    expected = make_sampler(model, backend).generate(20)

    for wrapped in (cast("nn.Module", torch.compile(model)), nn.DataParallel(model)):
        assert torch.equal(make_sampler(wrapped, backend).generate(20), expected)


def test_what_contains_no_wavenet_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="got Linear"):
        make_sampler(nn.Linear(1, 1))


def test_reference_leaves_the_parametrizations_of_the_model() -> None:
    model = WaveNet(SMALL)
    nn.utils.parametrizations.weight_norm(block_of(model, 0).conv)
    keys = list(model.state_dict())

    sampler = make_sampler(model, "reference")

    assert list(model.state_dict()) == keys
    assert not any("parametrizations" in key for key in sampler.model.state_dict())
    with pytest.raises(ConfigError, match=r"stack\.blocks\.0\.conv"):
        make_sampler(model, "cpu")


CONDITIONED = dataclasses.replace(
    SMALL,
    num_speakers=3,
    global_channels=4,
    local=LocalConfig(in_channels=3, channels=4, upsample_scales=(2, 2)),
)


def weighted_parts(config: WaveNetConfig) -> list[str]:
    parts = WaveNet(config).named_modules()
    return [name for name, module in parts if "weight" in module._parameters]


@pytest.mark.parametrize("part", weighted_parts(CONDITIONED))
def test_a_weight_that_a_hook_computes_is_computed_anew_or_refused(part: str) -> None:
    model = noisy(CONDITIONED)
    pruned: Any = prune.random_unstructured(model.get_submodule(part), "weight", 0.5)
    with torch.no_grad():
        pruned.weight_orig.mul_(2)  # the weight is stale until the hook runs
    folded = copy.deepcopy(noisy(CONDITIONED))
    folded.load_state_dict(without_masks(model, part))
    start: dict[str, Any] = {"local": torch.randn(3, 10), "speaker": torch.tensor(1), "seed": 3}
    expected = make_sampler(folded, "reference").generate(40, **start)

    try:
        sampler = make_sampler(model, "reference")
    except ConfigError as error:
        assert "prune.remove(module, name) first" in str(error)  # noqa: PT017 either is right
        assert hasattr(pruned, "step")
    else:
        assert torch.equal(sampler.generate(40, **start), expected)
        assert not pruned.weight.is_leaf  # the model is left as it was


def without_masks(model: WaveNet, part: str) -> dict[str, Tensor]:
    weights = dict(model.state_dict())
    mask = weights.pop(f"{part}.weight_mask")
    weights[f"{part}.weight"] = mask * weights.pop(f"{part}.weight_orig")
    return weights


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_legacy_weight_norm_is_refused_with_its_successor(backend: str) -> None:
    model = WaveNet(SMALL)
    nn.utils.weight_norm(block_of(model, 0).conv)

    wanted = r"conv computes its weight by a hook.* torch\.nn\.utils\.parametrizations\.weight_norm"
    with pytest.raises(ConfigError, match=wanted):
        make_sampler(model, backend)


@pytest.mark.parametrize("name", PREDICTORS)
def test_other_coefficients_of_a_predictor_are_refused_or_used(name: str) -> None:
    model = WaveNet(PREDICTORS[name])
    assert model.predictor is not None
    defined = model.predictor.coefficients
    model.predictor.coefficients = lambda *arguments: 0.5 * defined(*arguments)
    with pytest.raises(ConfigError, match="predictor has coefficients of its own"):
        make_sampler(model, "cpu")

    sampler = make_sampler(model)

    assert sampler.name == "reference"
    raise_if_parameters_differ(sampler, model)


def test_other_constants_of_a_predictor_are_used() -> None:
    model = WaveNet(PREDICTORS["mel"])
    assert isinstance(model.predictor, MelPredictor)
    model.predictor.std *= 0.5

    for backend in ("cpu", "reference", "graph"):
        raise_if_parameters_differ(make_sampler(model, backend), model)


def raise_if_parameters_differ(sampler: Sampler, model: WaveNet) -> None:
    """Raise unless a sampler's parameters of a signal are those of `forward`."""
    waveform = (torch.rand(1, 40) - 0.5).mul(32768).round() / 32768
    local = None if model.config.local is None else torch.randn(1, 3, 10)
    expected = model(waveform, local=local).detach()
    found = sampler.teacher_forced(waveform, local=local)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
