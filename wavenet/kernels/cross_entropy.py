"""Cross entropy for CPUs, compiled by Numba: see `threads`.

Of logits in bfloat16 none is ever written down in float32: each way reads them once, and writes one
number a row or the gradient.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import carray
from numba.core import cgutils, types
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavenet.distributions.categorical import CrossEntropy, cross_entropy
from wavenet.kernels.compiler import ADDRESS, Builder, Value, emitted
from wavenet.kernels.openmp import (
    BLOCK,
    NUMBERS,
    PRECISIONS,
    kernel,
    openmp,
    read,
    run,
    take,
    write,
)
from wavenet.kernels.vectors import (
    F32,
    I32,
    I64,
    INTS,
    LANES,
    Vector,
    constant,
    exp,
    load_one,
    pointer,
    spread,
)

LOWEST = -3e38  # under any logit


def cpu_cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Return what `cross_entropy` does, in float32; whatever does not fit is PyTorch's."""
    fits = logits.device.type == "cpu" and logits.dtype in PRECISIONS
    if not fits or logits.shape[1] % LANES or not len(logits):
        return cross_entropy(logits, codes)
    nats: Tensor = _CrossEntropy.apply(logits, codes)
    return nats


def fast_cross_entropy() -> CrossEntropy:
    """Return the fastest cross entropy that runs here."""
    try:
        openmp()
    except OSError:
        return cross_entropy
    return cpu_cross_entropy


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, codes: Tensor) -> Tensor:
        logits, codes = logits.detach().contiguous(), codes.contiguous()
        forwards, _ = _kernels(logits.dtype == torch.bfloat16)
        peaks, log_sums, nats = (torch.empty(len(logits)) for _ in range(3))
        places = (logits, codes, peaks, log_sums, nats)
        run(forwards, *logits.shape, *map(Tensor.data_ptr, places))
        ctx.save_for_backward(logits, codes, peaks, log_sums)
        return nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, codes, peaks, log_sums = ctx.saved_tensors
        _, backwards = _kernels(logits.dtype == torch.bfloat16)
        grad_logits, grad = torch.empty_like(logits), grad.contiguous()
        places = (logits, codes, peaks, log_sums, grad, grad_logits)
        run(backwards, *logits.shape, *map(Tensor.data_ptr, places))
        return grad_logits, None


@lru_cache
def _kernels(halves: bool) -> tuple[Any, Any]:
    """Return the kernels of both ways, for bfloat16 (`halves`) or float32."""
    size = 2 if halves else 4
    log_sum, grad_row = _rows_of(halves)

    @kernel
    def forwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, classes, logits = numbers[0], numbers[1], numbers[2]
        codes, peaks, log_sums, nats = numbers[3], numbers[4], numbers[5], numbers[6]
        first = take(task, rows)
        while first < rows:
            for row in range(first, min(first + BLOCK, rows)):
                log_sum(
                    logits + row * classes * size,
                    classes,
                    codes + row * 8,
                    peaks + row * 4,
                    log_sums + row * 4,
                    nats + row * 4,
                )
            first = take(task, rows)

    @kernel
    def backwards(task: Any) -> None:
        numbers = carray(task, (NUMBERS,))
        rows, classes, logits, codes = numbers[0], numbers[1], numbers[2], numbers[3]
        peaks, log_sums, grads, grad_logits = numbers[4], numbers[5], numbers[6], numbers[7]
        first = take(task, rows)
        while first < rows:
            for row in range(first, min(first + BLOCK, rows)):
                grad_row(
                    logits + row * classes * size,
                    classes,
                    codes + row * 8,
                    peaks + row * 4,
                    log_sums + row * 4,
                    grads + row * 4,
                    grad_logits + row * classes * size,
                )
            first = take(task, rows)

    return forwards, backwards


@lru_cache
def _rows_of(halves: bool) -> tuple[Any, Any]:
    """Return compiled code for a row of each way."""
    size = 2 if halves else 4

    @emitted(types.void, ADDRESS, types.int64, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def log_sum(
        builder: Builder,
        row: Value,
        classes: Value,
        code: Value,
        peak_at: Value,
        log_at: Value,
        nats: Value,
    ) -> None:
        peaks = _cell(builder, LOWEST)
        for logits, _ in _groups(builder, row, classes, halves):
            _put(builder, peaks, _get(builder, peaks).maximum(logits))
        peak = _get(builder, peaks).fold(Vector.maximum)
        sums, own = _cell(builder, 0.0), _cell(builder, 0.0)
        for logits, index in _groups(builder, row, classes, halves):
            grown = exp(logits - spread(builder, peak))
            _put(builder, sums, _get(builder, sums) + grown)
            chosen = logits.where(_hit(builder, code, index), constant(builder, 0.0))
            _put(builder, own, _get(builder, own) + chosen)
        total = _get(builder, sums).fold(Vector.__add__)
        log = builder.call(builder.module.declare_intrinsic("llvm.log", [F32]), [total])
        chosen_one = _get(builder, own).fold(Vector.__add__)
        found = builder.fadd(builder.fsub(peak, chosen_one), log)
        for number, place in ((peak, peak_at), (log, log_at), (found, nats)):
            builder.store(number, pointer(builder, place), align=4)

    @emitted(types.void, ADDRESS, types.int64, ADDRESS, ADDRESS, ADDRESS, ADDRESS, ADDRESS)
    def grad_row(
        builder: Builder,
        row: Value,
        classes: Value,
        code: Value,
        peak_at: Value,
        log_at: Value,
        grads: Value,
        target: Value,
    ) -> None:
        peak, log, grad = (
            spread(builder, load_one(builder, at)) for at in (peak_at, log_at, grads)
        )
        for logits, index in _groups(builder, row, classes, halves):
            share = exp(logits - peak - log)
            share = (share - 1.0).where(_hit(builder, code, index), share)
            at = builder.add(target, builder.mul(index, I64(LANES * size)))
            write(builder, share * grad, at, halves)

    return log_sum, grad_row


def _groups(
    builder: Builder, row: Value, classes: Value, halves: bool
) -> Iterator[tuple[Vector, Value]]:
    """Write a loop over a row; yields, once, sixteen of its logits, and which sixteen they are."""
    size = 2 if halves else 4
    with cgutils.for_range(builder, builder.sdiv(classes, I64(LANES))) as loop:
        at = builder.add(row, builder.mul(loop.index, I64(LANES * size)))
        yield read(builder, at, halves), loop.index


def _hit(builder: Builder, code: Value, index: Value) -> Value:
    """Return sixteen bits: which of the classes of a group is the one that was."""
    own = builder.trunc(load_one(builder, code, I64), I32)
    first = builder.mul(builder.trunc(index, I32), I32(LANES))
    lane = spread(builder, builder.sub(own, first))
    return builder.icmp_signed("==", lane.value, ir.Constant(INTS, list(range(LANES))))


def _cell(builder: Builder, number: float) -> Value:
    return cgutils.alloca_once_value(builder, constant(builder, number).value)


def _get(builder: Builder, cell: Value) -> Vector:
    return Vector(builder, builder.load(cell))


def _put(builder: Builder, cell: Value, numbers: Vector) -> None:
    builder.store(numbers.value, cell)
