"""A CUDA device that is not there: fake tensors of device `cuda`, on a machine without a GPU.

A fake tensor has a shape, a dtype and a device, and no numbers. So code runs as it would on a GPU,
and an operation between devices raises, as it would there. What would make the CPU wait for the GPU
is counted: numbers that are read (`syncs`), and tensors that are copied from device to device
(`copies`; from pinned memory with `non_blocking=True` they do not wait).

Autograd's engine needs a real device. In its place the backward passes that are written in this
project are called, and every weight that the loss depends on gets a gradient.
"""

import collections
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import pytest
import torch
import torch.cuda.amp.common
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.autograd.function import BackwardCFunction

import wavenet
from wavenet.model import WaveNet
from wavenet.modules import fusable

aten = torch.ops.aten
PACKAGE = f"{Path(wavenet.__file__).parent}{os.sep}"
CUDA = torch.device("cuda", 0)
PRODUCTS = (
    *(aten.mm.default, aten.mm.out, aten.addmm.default, aten.addmm_.default, aten.bmm.default),
    *(aten.baddbmm.default, aten.convolution.default),
)


class PretendedGpu(FakeTensorMode):
    """Counts synchronizations and copies, each with the line of this package that asked for it.

    Attributes:
        syncs: Numbers of a CUDA tensor that were read, by `file:line`.
        copies: Tensors that were copied to or from the device, by `KIND file:line`.
        products: Of each matrix product and convolution, in order: `file:line`, and its precision:
            of float32 products and convolutions, and whether bfloat16 is summed in bfloat16.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.clear()

    def clear(self) -> None:
        """Forget what was counted."""
        self.syncs: collections.Counter[str] = collections.Counter()
        self.copies: collections.Counter[str] = collections.Counter()
        self.products: list[tuple[str, tuple[str, str, bool]]] = []

    def dispatch(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        if func is aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            if args[0].device.type == "cuda":
                self.syncs[_place()] += 1
            return 1.0 if args[0].is_floating_point() else 1  # what is asked for finds all is well
        if func is aten._to_copy.default:
            self._count(args[0], kwargs.get("device"), kwargs)
        if func is aten.copy_.default:
            self._count(args[1], args[0].device, {"non_blocking": args[2:] == (True,)})
        if func in PRODUCTS:
            self.products.append((_place(), _precision()))
        return super().dispatch(func, types, args, kwargs)

    def _count(self, source: Any, target: Any, options: Mapping[str, Any]) -> None:
        if not isinstance(source, Tensor) or target is None or not source.numel():
            return
        kinds = source.device.type, torch.device(target).type
        if kinds[0] != kinds[1] and "cuda" in kinds:
            kind = "async" if options.get("non_blocking") else "blocking"
            self.copies[f"{kind} {kinds[0]}->{kinds[1]} {_place()}"] += 1


@contextlib.contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """Yield a mode within which tensors of device `cuda` exist."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by deepcopy
        # autocast turns itself off where there is no device
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        # a mode does not see what copies and reads consist of in inference mode
        patch.setattr(torch._C, "_InferenceMode", lambda mode: torch.set_grad_enabled(not mode))
        patch.setattr(FakeTensor, "numpy", _numpy)
        patch.setattr(Tensor, "backward", _backward)
        patch.setattr(torch.cuda, "Event", _Event)
        # the fused stack refuses fake tensors, and any mode that looks at operations
        patch.setattr(fusable, "PLAIN_TENSORS", (*fusable.PLAIN_TENSORS, FakeTensor))
        patch.setattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
        with PretendedGpu() as mode:
            yield mode


def to_gpu(module: nn.Module) -> None:
    """Move a module to the pretended device in place: `Module.to` does not work there."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                moved = torch.empty_like(weight, device=CUDA)
                part._parameters[name] = nn.Parameter(moved, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else torch.empty_like(buffer, device=CUDA)
        if isinstance(part, WaveNet):
            part.distribution.to(CUDA)


class _Event:
    """A `torch.cuda.Event` that is reached at once."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


@torch.no_grad()
def _backward(loss: Tensor) -> None:
    """Call the backward passes of this project in the graph of a loss; check their gradients."""
    nodes: list[Any] = [loss.grad_fn]
    seen = set(nodes)
    for node in nodes:
        if issubclass(type(node), BackwardCFunction):
            outputs = [_empty_like(metadata) for metadata in node._input_metadata]
            grads = node._forward_cls.backward(node, *outputs)
            needed = zip(grads, node.needs_input_grad, strict=True)
            found = [(*grad.shape, grad.device) for grad, is_needed in needed if is_needed]
            inputs = [n._input_metadata[i] for n, i in node.next_functions if n is not None]
            assert found == [(*wanted.shape, wanted.device) for wanted in inputs]
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                nodes.append(child)


def _empty_like(metadata: Any) -> Tensor:
    return torch.empty(metadata.shape, dtype=metadata.dtype, device=metadata.device)


def _precision() -> tuple[str, str, bool]:
    """Return the settings of a product: of float32 products, of convolutions, bfloat16 sums."""
    matmul: Any = torch.backends.cuda.matmul
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    used = [p.fp32_precision.replace("none", "ieee") for p in (matmul, conv)]
    return (used[0], used[1], matmul.allow_bf16_reduced_precision_reduction)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    """Return zeros, or raise as a CUDA tensor does."""
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    with unset_fake_temporarily():
        return torch.zeros(tensor.shape, dtype=tensor.dtype).numpy()


def _place() -> str:
    """Return the innermost line of this package that is being executed."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            return f"{path.removeprefix(PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
