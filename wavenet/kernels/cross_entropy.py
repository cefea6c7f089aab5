"""Cross entropy for CPUs, compiled by Numba; see `openmp`.

Logits in bfloat16 are never stored in float32: forward and backward each read them once, and write
one number per row or the gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import types
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavenet.distributions.categorical import CrossEntropy, cross_entropy
from wavenet.kernels.compiler import ADDRESS, Builder, Value, llvm_function
from wavenet.kernels.openmp import (
    SUPPORTED_DTYPES,
    dtype_suffix,
    gomp_parallel,
    parallel_kernel,
    read_vector,
    run_kernel,
    write_vector,
)
from wavenet.kernels.vectors import (
    F32,
    I32,
    I64,
    INT_VECTOR,
    LANES,
    Variable,
    Vector,
    broadcast,
    call_llvm,
    constant,
    exp,
    for_range,
    load_scalar,
    pointer,
)

LOWEST_LOGIT = -3e38  # below any finite logit


def cpu_cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Return `cross_entropy` in float32; unsupported shapes and dtypes are PyTorch's."""
    supported = logits.device.type == "cpu" and logits.dtype in SUPPORTED_DTYPES
    if not supported or logits.shape[1] % LANES or not len(logits):
        return cross_entropy(logits, codes)
    nats: Tensor = _CrossEntropy.apply(logits, codes)
    return nats


def fast_cross_entropy() -> CrossEntropy:
    """Return the fastest cross entropy that runs on this machine."""
    try:
        gomp_parallel()
    except OSError:
        return cross_entropy
    return cpu_cross_entropy


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, codes: Tensor) -> Tensor:
        logits, codes = logits.detach().contiguous(), codes.contiguous()
        forward_kernel, _ = _kernels(logits.dtype == torch.bfloat16)
        peaks, log_sums, nats = (torch.empty(len(logits)) for _ in range(3))
        tensors = (logits, codes, peaks, log_sums, nats)
        run_kernel(forward_kernel, *logits.shape, *map(Tensor.data_ptr, tensors))
        ctx.save_for_backward(logits, codes, peaks, log_sums)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, codes, peaks, log_sums = ctx.saved_tensors
        _, backward_kernel = _kernels(logits.dtype == torch.bfloat16)
        grad_logits, grad = torch.empty_like(logits), grad.contiguous()
        tensors = (logits, codes, peaks, log_sums, grad, grad_logits)
        run_kernel(backward_kernel, *logits.shape, *map(Tensor.data_ptr, tensors))
        return grad_logits, None


@lru_cache
def _kernels(is_bfloat16: bool) -> tuple[Any, Any]:
    """Return the kernels of forward and backward."""
    size, suffix = 2 if is_bfloat16 else 4, dtype_suffix(is_bfloat16)
    forward_row, backward_row = _forward_row(is_bfloat16), _backward_row(is_bfloat16)

    @parallel_kernel(f"cross-entropy-forward-{suffix}")
    def forward_kernel(numbers: Any, first: int, last: int) -> None:
        classes, logits, codes = numbers[1], numbers[2], numbers[3]
        peaks, log_sums, nats = numbers[4], numbers[5], numbers[6]
        for row in range(first, last):
            forward_row(
                logits + row * classes * size,
                classes,
                codes + row * 8,
                peaks + row * 4,
                log_sums + row * 4,
                nats + row * 4,
            )

    @parallel_kernel(f"cross-entropy-backward-{suffix}")
    def backward_kernel(numbers: Any, first: int, last: int) -> None:
        classes, logits, codes = numbers[1], numbers[2], numbers[3]
        peaks, log_sums, grads, grad_logits = numbers[4], numbers[5], numbers[6], numbers[7]
        for row in range(first, last):
            backward_row(
                logits + row * classes * size,
                classes,
                codes + row * 8,
                grad_logits + row * classes * size,
                peaks + row * 4,
                log_sums + row * 4,
                grads + row * 4,
            )

    return forward_kernel, backward_kernel


def _forward_row(is_bfloat16: bool) -> Any:
    """Return compiled code that writes peak, log-sum and likelihood of a row."""

    @llvm_function(types.void, ADDRESS, types.int64, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def forward_row(
        builder: Builder, row: Value, classes: Value, code: Value, *targets: Value
    ) -> None:
        peaks = Variable(constant(builder, LOWEST_LOGIT))
        with _logit_vectors(builder, row, classes, is_bfloat16) as (logits, _):
            peaks.set(peaks.get().maximum(logits))
        peak = peaks.get().reduce(Vector.maximum)
        zero = constant(builder, 0.0)
        sums, chosen = Variable(zero), Variable(zero)
        with _logit_vectors(builder, row, classes, is_bfloat16) as (logits, index):
            sums.set(sums.get() + exp(logits - broadcast(builder, peak)))
            chosen.set(chosen.get() + logits.select(_is_code(builder, code, index), zero))
        total = sums.get().reduce(Vector.__add__)
        log_sum = call_llvm(builder, "llvm.log.f32", F32, total)
        logit = chosen.get().reduce(Vector.__add__)
        nats = builder.fadd(builder.fsub(peak, logit), log_sum)
        for number, address in zip((peak, log_sum, nats), targets, strict=True):
            builder.store(number, pointer(builder, address), align=4)

    return forward_row


def _backward_row(is_bfloat16: bool) -> Any:
    """Return compiled code that writes the gradient of a row."""
    size = 2 if is_bfloat16 else 4

    @llvm_function(types.void, ADDRESS, types.int64, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def backward_row(
        builder: Builder, row: Value, classes: Value, code: Value, target: Value, *sources: Value
    ) -> None:
        peak, log_sum, grad = (
            broadcast(builder, load_scalar(builder, address)) for address in sources
        )
        with _logit_vectors(builder, row, classes, is_bfloat16) as (logits, index):
            probability = exp(logits - peak - log_sum)
            is_code = _is_code(builder, code, index)
            difference = (probability - 1.0).select(is_code, probability)
            address = builder.add(target, builder.mul(index, I64(LANES * size)))
            write_vector(builder, difference * grad, address, is_bfloat16)

    return backward_row


@contextmanager
def _logit_vectors(
    builder: Builder, row: Value, classes: Value, is_bfloat16: bool
) -> Iterator[tuple[Vector, Value]]:
    """Write a loop over a row; yields sixteen logits and the index of the vector."""
    size = 2 if is_bfloat16 else 4
    with for_range(builder, builder.sdiv(classes, I64(LANES))) as index:
        address = builder.add(row, builder.mul(index, I64(LANES * size)))
        yield read_vector(builder, address, is_bfloat16), index


def _is_code(builder: Builder, code: Value, index: Value) -> Value:
    """Return sixteen bits: whether each class of a vector is the code."""
    number = builder.trunc(load_scalar(builder, code, I64), I32)
    first = builder.mul(builder.trunc(index, I32), I32(LANES))
    lane = broadcast(builder, builder.sub(number, first))
    return builder.icmp_signed("==", lane.value, ir.Constant(INT_VECTOR, list(range(LANES))))
