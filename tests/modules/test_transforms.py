"""Blocks and models go through what PyTorch does with modules, with the same numbers."""

import copy
import io
import pickle  # noqa: TID251 a module is pickled by multiprocessing, for example
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tests.portable import CASES, as_double, build, gradients
from wavenet.config import WaveNetConfig
from wavenet.distributions import Categorical, Distribution, GaussianMixture, LogisticMixture
from wavenet.model import WaveNet
from wavenet.modules import ResidualStack

every_case = pytest.mark.parametrize("name", CASES)
# torch loads its derivatives as scripts
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:FutureWarning")
every_stack = pytest.mark.parametrize("name", ["standard_stack", "non_causal_stack"])
every_model = pytest.mark.parametrize("name", ["mixture_model", "class_model"])


def random_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.randn_like(x) for name, x in tensors.items()}


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in module.named_parameters()}


def floating(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs that have a derivative: waveforms are quantized, and masks are not learned."""
    skipped = "waveform", "speaker", "mask", "x_mask"
    return {name: x for name, x in inputs.items() if name not in skipped}


@every_case
def test_func_grad_equals_backward(name: str) -> None:
    module, inputs = as_double(build(name))

    def loss(weights: dict[str, Tensor]) -> Tensor:
        y: Tensor = functional_call(module, weights, (), inputs)
        return y.square().sum()

    torch.testing.assert_close(grad(loss)(weights_of(module)), gradients(module, inputs))


@every_case
def test_vmap_gives_the_gradients_of_each_item(name: str) -> None:
    module, inputs = as_double(build(name))

    def loss(weights: dict[str, Tensor], item: dict[str, Tensor]) -> Tensor:
        batch = {key: x.unsqueeze(0) for key, x in item.items()}
        y: Tensor = functional_call(module, weights, (), batch)
        return y.square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(weights_of(module), inputs)

    for item in range(2):
        expected = gradients(module, {key: x[item : item + 1] for key, x in inputs.items()})
        torch.testing.assert_close({key: x[item] for key, x in found.items()}, expected)


@every_case
def test_vmap_over_weights_equals_each_model(name: str) -> None:
    module, inputs = as_double(build(name))
    ensemble = {key: torch.stack([x, x + 0.1, -x]) for key, x in weights_of(module).items()}

    found = vmap(lambda weights: functional_call(module, weights, (), inputs))(ensemble)

    for index, y in enumerate(found):
        weights = {key: x[index] for key, x in ensemble.items()}
        torch.testing.assert_close(y, functional_call(module, weights, (), inputs))


@every_case
def test_forward_derivatives_match_backward(name: str) -> None:
    module, inputs = as_double(build(name))
    primals = weights_of(module), floating(inputs)
    tangents = random_like(primals[0]), random_like(primals[1])

    def call(weights: dict[str, Tensor], some: dict[str, Tensor]) -> Tensor:
        y: Tensor = functional_call(module, weights, (), {**inputs, **some})
        return y

    y, derivative = jvp(call, primals, tangents)  # type: ignore[misc]

    torch.testing.assert_close(y, module(**inputs))
    leaves = [x.requires_grad_() for group in primals for x in group.values()]
    direction = torch.randn_like(y)
    found = torch.autograd.grad(
        (call(*primals) * direction).sum(), leaves, materialize_grads=True, allow_unused=True
    )
    flat = [x for group in tangents for x in group.values()]
    expected = sum((g * t).sum() for g, t in zip(found, flat, strict=True))
    torch.testing.assert_close((derivative * direction).sum(), expected)


@pytest.mark.parametrize("place", ["weight", "conditioning"])
def test_a_tangent_off_the_input_reaches_the_output(place: str) -> None:
    module, inputs = as_double(build("standard_stack"))
    primal = {"weight": module.get_parameter("blocks.1.conv.weight"), **inputs}[place].detach()
    tangent = torch.randn_like(primal)

    def call(x: Tensor) -> Tensor:
        weights = {"blocks.1.conv.weight": x} if place == "weight" else {}
        given = inputs if place == "weight" else {**inputs, place: x}
        y: Tensor = functional_call(module, weights, (), given)
        return y

    with forward_ad.dual_level():
        y = call(forward_ad.make_dual(primal, tangent))
        found = forward_ad.unpack_dual(y).tangent

    _, expected = jvp(call, (primal,), (tangent,))  # type: ignore[misc]
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 0


def curvature(module: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Gradients of the squared gradients: second derivatives of the output."""
    weights = list(module.parameters())
    loss = module(**inputs).square().sum()
    first = torch.autograd.grad(
        loss, weights, create_graph=True, materialize_grads=True, allow_unused=True
    )
    length = torch.stack([x.square().sum() for x in first]).sum()
    return list(torch.autograd.grad(length, weights, materialize_grads=True, allow_unused=True))


def jacobian_by_autograd(module: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    y, weights = module(**inputs), list(module.parameters())
    directions = torch.eye(3, y.numel(), dtype=y.dtype).view(3, *y.shape)
    return list(
        torch.autograd.grad(
            y, weights, directions, is_grads_batched=True, materialize_grads=True, allow_unused=True
        )
    )


def jacobian_by_vmap(module: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    y, weights = module(**inputs), list(module.parameters())
    directions = torch.eye(3, y.numel(), dtype=y.dtype).view(3, *y.shape)

    def product(direction: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.autograd.grad(
            y, weights, direction, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return found

    return list(vmap(product)(directions))


@pytest.mark.parametrize("derivatives", [curvature, jacobian_by_autograd, jacobian_by_vmap])
@pytest.mark.parametrize("name", [name for name in CASES if name != "vits_wn"])
def test_derivatives_of_the_fused_stack_are_those_of_the_loop(
    name: str, derivatives: Callable[[nn.Module, dict[str, Tensor]], list[Tensor]]
) -> None:
    module, inputs = as_double(build(name))
    found = derivatives(module, inputs)

    stack = module.stack if isinstance(module, WaveNet) else module
    assert isinstance(stack, ResidualStack)
    stack.fused = False

    torch.testing.assert_close(found, derivatives(module, inputs))
    assert derivatives is curvature or not any(x.requires_grad for x in found)


@every_case
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint_gives_the_same_gradients(name: str, use_reentrant: bool) -> None:
    module, inputs = as_double(build(name))
    expected = gradients(module, inputs)
    first, *others = (x.requires_grad_() if x.is_floating_point() else x for x in inputs.values())

    def call(*tensors: Tensor) -> Tensor:
        y: Tensor = module(**dict(zip(inputs, tensors, strict=True)))
        return y

    y = checkpoint(call, first, *others, use_reentrant=use_reentrant)
    assert isinstance(y, Tensor)
    y.square().sum().backward()

    for key, weight in module.named_parameters():
        torch.testing.assert_close(
            torch.zeros_like(weight) if weight.grad is None else weight.grad, expected[key]
        )


@every_case
def test_autocast_computes_in_bfloat16_with_float32_gradients(name: str) -> None:
    module, inputs = build(name)
    expected = module(**inputs)

    with torch.autocast("cpu", torch.bfloat16):
        y = module(**inputs)
        loss = module.nll(**inputs) if isinstance(module, WaveNet) else y.float()
    loss.mean().backward()

    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    assert loss.dtype == torch.float32
    grads = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in grads)


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_computes_in_its_precision(name: str, dtype: torch.dtype) -> None:
    module, inputs = build(name)
    expected = module(**inputs)
    module = module.to(dtype)
    if not isinstance(module, WaveNet):  # a model converts its inputs
        inputs = {key: x.to(dtype) for key, x in inputs.items()}

    y = module(**inputs)
    y.float().mean().backward()

    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)


@every_model
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_likelihood_is_computed_in_float32_at_least(name: str, dtype: torch.dtype) -> None:
    model, inputs = build(name)
    assert isinstance(model, WaveNet)
    expected = model.nll(**inputs)

    nll = model.to(dtype).nll(**inputs)
    nll.mean().backward()

    assert nll.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(nll.float(), expected, rtol=0.05, atol=0.05)


@every_model
def test_a_half_precision_model_steps_as_it_forwards(name: str) -> None:
    model, inputs = build(name)
    assert isinstance(model, WaveNet)
    model, length = model.to(torch.bfloat16), 20
    waveform = inputs.pop("waveform")
    conditioning = model.compute_conditioning(2, length, **inputs)
    state, sample = model.new_state(2), torch.zeros(2)

    stepped = []
    for t in range(length):
        now = None if conditioning is None else conditioning[..., t]
        stepped.append(model.step(sample, state, now))
        sample = waveform[:, t]

    expected = model(waveform, **inputs)
    torch.testing.assert_close(torch.stack(stepped, dim=-1), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("distribution", [Categorical(), LogisticMixture(2), GaussianMixture(1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_samples_get_the_nearest_code(
    distribution: Distribution, dtype: torch.dtype
) -> None:
    samples = torch.linspace(-1, 1, 401, dtype=dtype)

    codes = distribution.encode(samples)

    assert torch.equal(codes, distribution.encode(samples.float()))
    values = distribution.decode(codes, dtype)
    torch.testing.assert_close(values, distribution.decode(codes).to(dtype))


@every_case
def test_the_meta_device_gives_shapes(name: str) -> None:
    module, inputs = build(name)
    shape = module(**inputs).shape
    module = module.to("meta")
    inputs = {key: x.to("meta") for key, x in inputs.items()}

    y = module(**inputs)
    y.sum().backward()

    assert (y.shape, y.device.type) == (shape, "meta")
    if isinstance(module, WaveNet):
        assert module.nll(**inputs).shape == inputs["waveform"].shape


@every_case
def test_fake_tensors_give_shapes(name: str) -> None:
    module, inputs = build(name)
    shape = module(**inputs).shape

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = module(**{key: mode.from_tensor(x) for key, x in inputs.items()})

    assert y.shape == shape


@every_stack
def test_make_fx_traces_all_operations(name: str) -> None:
    module, inputs = build(name)
    graph = make_fx(lambda given: module(**given))(inputs)
    other = {key: x if key == "mask" else x + 1 for key, x in inputs.items()}

    torch.testing.assert_close(graph(other), module(**other))


def test_counted_operations_are_those_of_the_loop() -> None:
    stack, inputs = build("standard_stack")
    assert isinstance(stack, ResidualStack)
    counts = []

    for fused in (True, False):
        stack.fused = fused
        with FlopCounterMode(display=False) as counter:
            stack(**inputs)
        counts.append(counter.get_total_flops())

    assert counts[0] == counts[1] > 0


@every_case
def test_copies_compute_the_same_and_share_nothing(name: str) -> None:
    module, inputs = build(name)
    expected = module(**inputs)
    expected.sum().backward()  # a copy needs no fresh module
    pickled = pickle.loads(pickle.dumps(module))  # noqa: S301
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    loaded, _ = build(name)
    with torch.no_grad():
        for weight in loaded.parameters():
            weight.zero_()
    loaded.load_state_dict(torch.load(file, weights_only=True))  # noqa: TID251
    copies = copy.deepcopy(module), pickled, loaded
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()

    for copied in copies:
        assert torch.equal(copied(**inputs), expected)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    file = f"file://{tmp_path / 'group'}"
    distributed.init_process_group("gloo", init_method=file, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@every_case
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_gives_the_same_gradients(name: str) -> None:
    module, inputs = build(name)
    expected = gradients(module, inputs)

    DistributedDataParallel(module)(**inputs).square().sum().backward()

    for key, weight in module.named_parameters():
        torch.testing.assert_close(
            torch.zeros_like(weight) if weight.grad is None else weight.grad, expected[key]
        )


def test_weight_norm_goes_through_the_transforms_that_torch_gives_it() -> None:
    config = WaveNetConfig(
        dilations=(1, 2), residual_channels=4, gate_channels=6, skip_channels=5, weight_norm=True
    )
    model, waveform = WaveNet(config), torch.rand(1, 20)
    expected = model(waveform)

    assert torch.equal(copy.deepcopy(model)(waveform), expected)
    assert model.to("meta")(waveform.to("meta")).shape == expected.shape
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(model)


def test_without_private_functions_of_torch_the_loop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = ResidualStack((1, 2), 4, 6, 5)
    x = torch.randn(1, 4, 20)
    expected = stack(x)

    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")

    assert stack.fusable_weights(x) is None
    torch.testing.assert_close(stack(x), expected)
