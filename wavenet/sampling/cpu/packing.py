"""Any `WaveNet` in the one form that the kernel knows.

The scales of skips and residuals are folded into the weights; what conditions a whole signal is, as
a bias, a constant that each block's sums start from; the first convolution is a table of rows, one
a tap and class, its bias in the current tap's; all widths are padded to multiples of 16
with weights of zero; matrices lie one after the other in the order of their use, each as products
read it. Nothing of the model is looked at after this.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.kernels.alignment import aligned
from wavenet.kernels.matmul import WEIGHT_BYTES, pack, row_bytes
from wavenet.kernels.vectors import BYTES, LANES
from wavenet.model import WaveNet
from wavenet.modules import CausalEmbedding, ResidualBlock
from wavenet.sampling.cpu.kernel import (
    BIASES,
    CONDITION,
    CURRENT,
    HIDDEN,
    NUM_PLACES,
    OUTPUT,
    PAST,
    RESIDUAL,
    SKIP,
    Sizes,
    Weights,
)

Array = NDArray[np.float32]
NEVER = -np.inf  # logit of the classes that pad the output


def sizes_of(model: WaveNet, weight_dtype: str) -> Sizes:
    """Return the numbers that fix what the kernel computes for a model."""
    config = model.config
    residual, gate = padded(config.residual_channels), padded(config.gate_channels // 2)
    skip, head = padded(config.skip_channels), padded(config.head_channels)
    params = padded(model.distribution.num_params)
    gate_bytes = row_bytes(gate, weight_dtype)
    widest = max(skip, head, gate)
    condition = 0 if config.local is None else padded(config.local.channels)
    draw = model.distribution.compiled_draw
    return Sizes(
        blocks=len(config.dilations),
        residual=residual,
        gate=gate,
        skip=skip,
        head=head,
        params=params,
        classes=model.distribution.num_params,
        taps=config.kernel_size,
        input_taps=config.input_kernel_size,
        residual_bytes=row_bytes(residual, weight_dtype),
        gate_bytes=gate_bytes,
        condition=condition,
        condition_bytes=row_bytes(condition, weight_dtype) if condition else 1,
        components=0 if draw == "categorical" else config.num_mixtures,
        gaussian=draw == "gaussian_mixture",
        work_bytes=_lines(
            4 * (residual + skip + head + 3 * params) + len(config.dilations) * gate_bytes
        ),
        room_bytes=_lines(4 * widest + row_bytes(widest, weight_dtype)),
    )


def weights_of(model: WaveNet, sizes: Sizes, weight_dtype: str) -> Weights:
    """Return a model's weights, packed.

    Args:
        model: With plain weights, not weight-normalised ones.
        sizes: Of the model.
        weight_dtype: Of the matrices.
    """
    arrays = _Arrays(weight_dtype)
    blocks = [block for block in model.stack.blocks if isinstance(block, ResidualBlock)]
    places = np.zeros((sizes.blocks + 1, NUM_PLACES), np.int64)
    skip_scale, head = model.stack.skip_scale, model.head

    def put_skip(number: int) -> None:
        matrix = _matrix(blocks[number].skip_conv.weight, sizes.skip, sizes.gate)
        arrays.put_matrix(places[number], SKIP, matrix * skip_scale)

    # In the order in which one thread reads them, so that the processor can read ahead:
    taps = [_taps(block, sizes) for block in blocks]
    for number, block in enumerate(blocks):
        arrays.put_matrix(places[number], CURRENT, taps[number][-1])
        if number > 0:
            put_skip(number - 1)
        if block.residual_conv is not None:
            matrix = _matrix(block.residual_conv.weight, sizes.residual, sizes.gate)
            arrays.put_matrix(places[number], RESIDUAL, matrix * block.residual_scale)
        places[number, BIASES] = arrays.put_plain(_biases(block, sizes))
    put_skip(sizes.blocks - 1)
    arrays.put_matrix(places[-1], HIDDEN, _matrix(head.hidden.weight, sizes.head, sizes.skip))
    arrays.put_matrix(places[-1], OUTPUT, _matrix(head.output.weight, sizes.params, sizes.head))
    for number, block in enumerate(blocks):  # seldom read: they do not stand between the others
        arrays.put_matrix(places[number], PAST, *taps[number][:-1])
        if block.conditioning_conv is not None and sizes.condition:
            width = model.config.local.channels if model.config.local is not None else 0
            arrays.put_matrix(
                places[number],
                CONDITION,
                _gates(block.conditioning_conv.weight[:, :width, 0], sizes),
            )
    skips = np.sum([_vector(block.skip_conv.bias, sizes.skip) for block in blocks], axis=0)
    output = _vector(head.output.bias, sizes.params)
    output[sizes.classes :] = NEVER
    hidden = _vector(head.hidden.bias, sizes.head)
    places[-1, BIASES] = arrays.put_plain(np.concatenate([skips * skip_scale, hidden, output]))
    tables = arrays.put_plain(_tables(model, sizes).ravel())
    return Weights(
        matrices=aligned(np.concatenate(arrays.matrices)),
        scales=aligned(np.concatenate(arrays.scales)),
        plain=aligned(np.concatenate(arrays.plain)),
        places=places,
        dilations=np.array(model.config.dilations, np.int64),
        residual_scale=np.float32(model.config.residual_scale),
        min_log_scale=float(model.config.min_log_scale),
        tables=tables,
        levels=model.config.quantization_channels,
    )


def constants_of(model: WaveNet, sizes: Sizes, whole: Tensor | None, streams: int) -> Array:
    """Return what each block's sums start from, `(blocks, streams, 2 * gate)`.

    Args:
        model: With plain weights.
        sizes: Of the model.
        whole: What conditions each stream's whole signal, `(streams, C)`; absent for nothing.
        streams: How many there are.
    """
    room = np.zeros((sizes.blocks, streams, 2 * sizes.gate), np.float32)
    for number, block in enumerate(model.stack.blocks):
        assert isinstance(block, ResidualBlock)
        bias = _biases(block, sizes)[: 2 * sizes.gate].astype(np.float64)
        room[number] = bias
        if whole is None or block.conditioning_conv is None:
            continue
        weight = block.conditioning_conv.weight[:, -whole.shape[1] :, 0]
        for stream, vector in enumerate(_numpy(whole).astype(np.float64)):  # one by one, in float64
            product = _numpy(weight).astype(np.float64) @ vector
            shared = torch.from_numpy(product.astype(np.float32))
            room[number, stream] = bias + _gates(shared.unsqueeze(1), sizes, inputs=1)[:, 0]
    return room


def _lines(size: int) -> int:
    """Return the bytes of whole cache lines, and a line that no other thread writes to."""
    return (-(-size // BYTES) + 1) * BYTES


def padded(width: int) -> int:
    """Return the next multiple of a vector's lanes."""
    return -(-width // LANES) * LANES


class _Arrays:
    """What has been packed so far.

    Args:
        weight_dtype: Of the matrices.
    """

    def __init__(self, weight_dtype: str) -> None:
        self.weight_dtype = weight_dtype
        self.matrices: list[NDArray[Any]] = []
        self.scales: list[Array] = [np.zeros(LANES, np.float32)]
        self.plain: list[Array] = []

    def put_matrix(self, row: NDArray[np.int64], column: int, *matrices: Array) -> None:
        """Add matrices that follow each other, and note where they and their scales begin."""
        row[column] = sum(map(len, self.matrices)) * WEIGHT_BYTES[self.weight_dtype]
        row[column + 1] = sum(map(len, self.scales))
        for matrix in matrices:
            packed = pack(matrix, self.weight_dtype)
            self.matrices.append(packed.weights)
            self.scales.append(packed.scales)

    def put_plain(self, values: Array) -> int:
        """Add numbers that stay float32, and return where they begin."""
        start = sum(map(len, self.plain))
        self.plain.append(values.astype(np.float32))
        return start


def _taps(block: ResidualBlock, sizes: Sizes) -> list[Array]:
    """Return the matrix of each tap, the oldest first."""
    return [_gates(tap, sizes, sizes.residual) for tap in block.conv.weight.unbind(dim=-1)]


def _gates(weight: Tensor, sizes: Sizes, inputs: int | None = None) -> Array:
    """Return a matrix of the gates, both of their halves padded alike; `inputs` after padding."""
    width = padded(weight.shape[1]) if inputs is None else inputs
    halves = torch.split(weight, len(weight) // 2)
    return np.concatenate([_matrix(half, sizes.gate, width) for half in halves])


def _biases(block: ResidualBlock, sizes: Sizes) -> Array:
    """Return the biases of the gate's halves and of the residual product."""
    half, bias = block.conv.out_channels // 2, block.conv.bias
    halves = [None, None] if bias is None else torch.split(bias, half)
    residual = None if block.residual_conv is None else block.residual_conv.bias
    parts = [_vector(part, sizes.gate) for part in halves]
    return np.concatenate([*parts, _vector(residual, sizes.residual) * block.residual_scale])


def _tables(model: WaveNet, sizes: Sizes) -> Array:
    """Return what each class adds to the first convolution, `(taps, classes, residual)`."""
    layer = model.input
    tables: Tensor
    if isinstance(layer, CausalEmbedding):
        tables = layer.weight
    else:
        values = model.distribution.decode(torch.arange(model.config.quantization_channels))
        taps = layer.weight[:, 0].to(torch.float32).T  # (taps, residual)
        tables = values[None, :, None].to(taps) * taps[:, None]
    padding = np.zeros((*tables.shape[:2], sizes.residual), np.float32)
    padding[..., : tables.shape[2]] = _numpy(tables)
    if layer.bias is not None:
        padding[-1, :, : tables.shape[2]] += _numpy(layer.bias)
    return padding


def _matrix(weight: Tensor, outputs: int, inputs: int) -> Array:
    """Return the matrix of a 1x1 convolution or of one tap, padded."""
    values = _numpy(weight).reshape(weight.shape[:2])
    room = np.zeros((outputs, inputs), np.float32)
    room[: values.shape[0], : values.shape[1]] = values
    return room


def _vector(bias: Tensor | None, width: int) -> Array:
    """Return a bias, padded; zeros where there is none."""
    room = np.zeros(width, np.float32)
    if bias is not None:
        room[: len(bias)] = _numpy(bias)
    return room


def _numpy(tensor: Tensor) -> Array:
    values: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return values
