"""Whether the fused stack computes what a stack of blocks does, and the weights that it needs.

The fused stack knows blocks by their weights and sizes alone, and it has a backward pass of its
own. Blocks that were changed, replaced or hooked run in the loop over the blocks, and so do export,
tracing, `torch.func` and forward-mode derivatives, which look inside of a computation.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils.parametrize import type_before_parametrizations

from wavenet.modules.conv import CausalConv1d, SameConv1d
from wavenet.modules.residual_block import ResidualBlock
from wavenet.modules.stack_weights import StackWeights
from wavenet.modules.standard import overridden_call, replaces_method

STANDARD_FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    kind: kind.forward
    for kind in (ResidualBlock, CausalConv1d, SameConv1d, nn.Conv1d, nn.Linear, nn.Dropout)
}
PLAIN_TENSORS = (Tensor, nn.Parameter)  # others, such as fake ones, have operators of their own
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
TWO_HALVES = ("tanh*sigmoid", "sigmoid*tanh")
WIDE_CONVOLUTION = (
    768  # taps times channels: measured on a CPU, little else takes time from here on
)


def is_transformed(*tensors: Tensor | None) -> bool:
    """Whether something looks inside of the computation, or there are no numbers to look at."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return True
    if any(type(x) not in PLAIN_TENSORS or x.is_meta for x in tensors if x is not None):
        return True
    try:
        return _is_observed(*tensors)
    except AttributeError:  # a PyTorch without these private functions: the loop is always right
        return True


def _is_observed(*tensors: Tensor | None) -> bool:
    """Whether a transform or a mode of PyTorch is active, by functions that only it itself uses."""
    is_batched = torch._C._functorch.is_legacy_batchedtensor  # by is_grads_batched=True
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0  # a counter of operations, for example
        or forward_ad._current_level >= 0  # a tangent may be on a weight alone
        or any(is_batched(x) for x in tensors if x is not None)
    )


def has_global_hooks() -> bool:
    """Whether there are hooks on the calls of all modules: the fused stack calls none of them."""
    return any(getattr(nn.modules.module, name, None) for name in GLOBAL_HOOKS)


def has_one_precision(
    weights: StackWeights, modules: Sequence[nn.Module | None], *signals: Tensor | None
) -> bool:
    """Whether all tensors have one dtype; under autocast, whether it casts all of them.

    The loop raises PyTorch's error for others, and autocast leaves float64 alone.

    Args:
        weights: The weights of the blocks.
        modules: Modules with weights of their own.
        signals: What the stack is given, the mask left aside.
    """
    x = cast(Tensor, signals[0])
    own = [tensor for module in modules if module for tensor in module.parameters()]
    blocks = [tensor for kind in weights for tensor in kind]
    dtypes = {tensor.dtype for tensor in (*signals, *own, *blocks) if tensor is not None}
    if torch.is_autocast_enabled(x.device.type):
        return torch.float64 not in dtypes and all(dtype.is_floating_point for dtype in dtypes)
    return len(dtypes) == 1 and x.is_floating_point()


def standard_weights(
    blocks: Sequence[ResidualBlock],
    dilations: Sequence[int],
    *,
    dropout: float,
    residual_scale: float,
    training: bool,
) -> StackWeights | None:
    """Return the weights of all blocks; `None` if one was changed, replaced or hooked."""
    if len(blocks) != len(dilations):
        return None
    first, drops = blocks[0], training and dropout > 0
    for block, dilation in zip(blocks, dilations, strict=True):
        if not all(map(is_standard, (block, *block.children()))):
            return None
        if (
            replaces_method(block, "activation")
            or getattr(block.conditioning_conv, "bias", None) is not None
            or (block.film_conv or block.shortcut_conv)
            or block.gate != first.gate
            or _kind(block.conv) is not _kind(first.conv)
            or block.residual_scale != residual_scale
            or block.conv.dilation[0] != dilation
            or (drops and block.dropout_at != "input")
            or (block.dropout.p, block.dropout.training) != (dropout, training)
        ):
            return None
    if first.gate not in TWO_HALVES or any(block.skip_conv is None for block in blocks):
        return None
    weights = StackWeights(
        conv=[block.conv.weight for block in blocks],
        conv_bias=[block.conv.bias for block in blocks],
        conditioning=[getattr(block.conditioning_conv, "weight", None) for block in blocks],
        residual=[getattr(block.residual_conv, "weight", None) for block in blocks],
        residual_bias=[getattr(block.residual_conv, "bias", None) for block in blocks],
        skip=[getattr(block.skip_conv, "weight", None) for block in blocks],
        skip_bias=[getattr(block.skip_conv, "bias", None) for block in blocks],
    )
    if is_transformed(*(tensor for kind in weights for tensor in kind)):
        return None
    has_residual = [weight is not None for weight in weights.residual]
    if has_residual != [True] * (len(blocks) - 1) + [False]:
        return None
    kinds = weights.conv, weights.conditioning, weights.residual[:-1], weights.skip
    shapes = [{None if weight is None else weight.shape for weight in kind} for kind in kinds]
    return weights if all(len(shape) <= 1 for shape in shapes) else None


def is_standard(module: nn.Module | None) -> bool:
    """Whether a call of a block, or of one of its parts, computes what the fused stack knows."""
    if module is None:
        return True
    if type(module).forward is not STANDARD_FORWARDS.get(_kind(module)):
        return False
    if overridden_call(module) is not None:
        return False
    if not isinstance(module, nn.Conv1d):
        return True
    options = module.stride, module.padding, module.groups, module.padding_mode
    return options == ((1,), (0,), 1, "zeros")


def is_faster_by_loop(x: Tensor, block: ResidualBlock) -> bool:
    """Whether PyTorch's convolutions are faster than products of rows: wide ones in float32.

    The difference is a twentieth of the time, in the non-causal stack of VITS for example.
    """
    width = block.conv.in_channels * block.conv.kernel_size[0]
    is_float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    is_wide = not isinstance(block.conv, CausalConv1d) and width >= WIDE_CONVOLUTION
    return x.device.type == "cpu" and is_float32 and is_wide


def _kind(module: nn.Module) -> type[nn.Module]:
    kind: type[nn.Module] = type_before_parametrizations(module)
    return kind
