"""What differs between a module and one that was built the standard way, in a sentence.

Faster implementations (the fused stack, compiled samplers) compute a model from its weights and
sizes alone. That is right only where no module was replaced, subclassed or given hooks.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

FORWARD_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
HOOKS = (*FORWARD_HOOKS, "_backward_hooks", "_backward_pre_hooks")
OPTION_TYPES = (bool, int, float, str, tuple, type(None))
# These choose how a module is computed, not what it computes:
IMPLEMENTATION_ATTRIBUTES = {
    *("training", "fused", "checkpoint_activations", "gated_activation", "matmul"),
}


def overridden_call(module: nn.Module, kinds: Iterable[str] = HOOKS) -> str | None:
    """Return what a call of `module` does besides its class's `forward`: hooks of these kinds."""
    attributes = vars(module)
    for hooks in kinds:
        if attributes[hooks]:
            return f"has {hooks.strip('_').replace('_', ' ')}"
    if "forward" in attributes and replaces_method(module, "forward"):
        return "has a forward of its own, set on the instance"
    return None


def beyond_step(module: nn.Module) -> str | None:
    """Return what a call of `module` does that its `step` leaves out; `None` for nothing.

    Forward hooks, and a `forward` that is overridden, on the instance or in a subclass, where
    `step` is not.
    """
    call = overridden_call(module, FORWARD_HOOKS)
    if call is not None and not ("hooks" not in call and replaces_method(module, "step")):
        return call
    kinds = type_before_parametrizations(module).__mro__
    forward, step = (
        next((index for index, one in enumerate(kinds) if name in vars(one)), len(kinds))
        for name in ("forward", "step")
    )
    overridden = any("forward" in vars(one) for one in kinds[forward + 1 :] if one is not nn.Module)
    if overridden and forward < step < len(kinds) and not replaces_method(module, "step"):
        return f"has the forward of {kind(module)}, but the step of {kinds[step].__name__}"
    return None


def replaces_method(owner: Any, name: str) -> bool:
    """Whether an attribute of an object replaces the method of its class of that name.

    What torch.compile or torch.compiler.disable made of the object's own method does not.
    """
    value, method = vars(owner).get(name), getattr(type(owner), name, None)
    if not callable(value) or not callable(method):
        return False
    original = getattr(value, "_torchdynamo_orig_callable", value)
    is_own = getattr(original, "__self__", None) is owner
    return not (is_own and getattr(original, "__func__", None) is method)


def first_difference(module: nn.Module, standard: nn.Module) -> str | None:
    """Return a sentence on the first submodule of `module` that differs from that of `standard`.

    Types, sizes, options, parametrizations, hooks and methods set on an instance are compared;
    values of weights, their precision and device, and training mode are not.
    """
    found = dict(module.named_modules(remove_duplicate=False))
    expected = dict(standard.named_modules(remove_duplicate=False))
    for name, part in found.items():
        if name not in expected:
            return f"{name} is an extra module, {kind(part)}"
        difference = _difference(part, expected[name])
        if difference is not None:
            return f"{name or 'the model'} {difference}"
    missing = next((name for name in expected if name not in found), None)
    return None if missing is None else f"{missing}, {kind(expected[missing])}, is missing"


def kind(module: nn.Module) -> str:
    """Return the name of a module's class, without the parametrizations that torch adds to it."""
    return str(type_before_parametrizations(module).__name__)


def _difference(part: nn.Module, standard: nn.Module) -> str | None:
    """Return what is not standard about a module, its submodules left aside."""
    if type_before_parametrizations(part) is not type_before_parametrizations(standard):
        return f"is {kind(part)}, not {kind(standard)}"
    if hasattr(part, "parametrizations") != hasattr(standard, "parametrizations"):
        names = ", ".join(getattr(part, "parametrizations", {}))
        return f"has a parametrization of {names}" if names else "has no parametrization of weight"
    call = overridden_call(part)
    if call is not None:
        return call
    for name in vars(part):
        if replaces_method(part, name):
            return f"has a {name} of its own, set on the instance"
    found, expected = dict(_options(part)), dict(_options(standard))
    for name, value in expected.items():
        if found.get(name) != value:
            return f"has {name}={found.get(name)}, not {value}"
    extra = next((name for name in found if name.startswith("tensor ") and name not in expected), 0)
    return f"has an extra {extra}" if extra else None


def _options(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the sizes and options of a module, and the shapes of its tensors."""
    for name, value in vars(part).items():
        if isinstance(value, OPTION_TYPES) and name not in IMPLEMENTATION_ATTRIBUTES:
            yield name, value
    for name, tensor in (*part._parameters.items(), *part._buffers.items()):
        yield f"tensor {name} of shape", None if tensor is None else tuple(tensor.shape)
