"""Packs a standard `WaveNet` into the arrays of the kernel.

The scales of skips and residuals are folded into the weights; global conditioning becomes a part of
the gates' biases; the first convolution is a table of rows, one per tap and code, its bias included
in the current tap's. All widths are padded to multiples of 16 with zero weights. Matrices are
stored in the order of their use, each packed for the matrix product.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.kernels.cpu_predictors import past_constants
from wavenet.kernels.matmul import CACHE_LINE_BYTES, WEIGHT_BYTES, aligned, pack, row_bytes
from wavenet.kernels.sampler.arrays import (
    BIASES,
    CONDITIONING,
    CURRENT_TAP,
    HIDDEN,
    NUM_OFFSETS,
    OUTPUT,
    PAST_TAPS,
    RESIDUAL,
    SKIP,
    PackedWeights,
    Sizes,
)
from wavenet.kernels.vectors import LANES
from wavenet.model import WaveNet
from wavenet.modules import CausalEmbedding, ResidualBlock
from wavenet.past_predictor import PastPredictor

Array = NDArray[np.float32]
PADDING_LOGIT = -np.inf  # of the classes that pad the output


def model_sizes(model: WaveNet, weight_dtype: str) -> Sizes:
    """Return the shapes of the kernel's arrays for a model."""
    config, distribution, predictor = model.config, model.distribution, model.predictor
    residual, gated = padded(config.residual_channels), padded(config.gate_channels // 2)
    skip, head = padded(config.skip_channels), padded(config.head_channels)
    params, num_blocks = padded(distribution.num_params), len(config.dilations)
    gated_row_bytes = row_bytes(gated, weight_dtype)
    conditioning = 0 if config.local is None else padded(config.local.channels)
    widest = max(skip, head, gated)
    floats = residual + skip + head + 3 * params  # params thrice: scratch memory of the draw
    return Sizes(
        num_blocks=num_blocks,
        residual=residual,
        gated=gated,
        skip=skip,
        head=head,
        params=params,
        unpadded_params=distribution.num_params,
        kernel_size=config.kernel_size,
        input_kernel_size=config.input_kernel_size,
        num_signals=model.num_signals,
        order=0 if predictor is None else padded(predictor.order),
        memory=0 if predictor is None else padded(predictor.memory),
        interval=predictor.interval if isinstance(predictor, PastPredictor) else 0,
        residual_row_bytes=row_bytes(residual, weight_dtype),
        gated_row_bytes=gated_row_bytes,
        is_encoded=weight_dtype != "float32",
        conditioning=conditioning,
        conditioning_row_bytes=row_bytes(conditioning, weight_dtype) if conditioning else 1,
        num_mixtures=0 if distribution.compiled_draw == "categorical" else config.num_mixtures,
        is_gaussian=distribution.compiled_draw == "gaussian_mixture",
        activation_bytes=_separated(4 * floats + num_blocks * gated_row_bytes),
        scratch_bytes=_separated(4 * widest + row_bytes(widest, weight_dtype)),
    )


def pack_weights(model: WaveNet, sizes: Sizes, weight_dtype: str) -> PackedWeights:
    """Return the packed weights of a model without weight norm."""
    arrays = _Arrays(weight_dtype)
    blocks = [block for block in model.stack.blocks if isinstance(block, ResidualBlock)]
    skip_convs = [block.skip_conv for block in blocks if block.skip_conv is not None]
    offsets = np.zeros((sizes.num_blocks + 1, NUM_OFFSETS), np.int64)
    skip_scale, head = model.stack.skip_scale, model.head

    def put_skip(number: int) -> None:
        matrix = _matrix(skip_convs[number].weight, sizes.skip, sizes.gated)
        arrays.put_matrix(offsets[number], SKIP, matrix * skip_scale)

    # in the order in which one thread reads them, so that the processor can prefetch
    taps = [
        [_gates(tap, sizes, sizes.residual) for tap in block.conv.weight.unbind(dim=-1)]
        for block in blocks  # oldest tap first
    ]
    for number, block in enumerate(blocks):
        arrays.put_matrix(offsets[number], CURRENT_TAP, taps[number][-1])
        if number > 0:
            put_skip(number - 1)
        if block.residual_conv is not None:
            matrix = _matrix(block.residual_conv.weight, sizes.residual, sizes.gated)
            arrays.put_matrix(offsets[number], RESIDUAL, matrix * block.residual_scale)
        offsets[number, BIASES] = arrays.put_vector(_biases(block, sizes))
    put_skip(sizes.num_blocks - 1)
    arrays.put_matrix(offsets[-1], HIDDEN, _matrix(head.hidden.weight, sizes.head, sizes.skip))
    arrays.put_matrix(offsets[-1], OUTPUT, _matrix(head.output.weight, sizes.params, sizes.head))
    for number, block in enumerate(blocks):  # read rarely, so not between the others
        arrays.put_matrix(offsets[number], PAST_TAPS, *taps[number][:-1])
        if block.conditioning_conv is not None and model.config.local is not None:
            weight = block.conditioning_conv.weight[:, : model.config.local.channels, 0]
            matrix = _gates(weight, sizes, sizes.conditioning)
            arrays.put_matrix(offsets[number], CONDITIONING, matrix)
    skips = np.sum([_vector(conv.bias, sizes.skip) for conv in skip_convs], axis=0)
    output = _vector(head.output.bias, sizes.params)
    output[sizes.unpadded_params :] = PADDING_LOGIT
    hidden = _vector(head.hidden.bias, sizes.head)
    offsets[-1, BIASES] = arrays.put_vector(np.concatenate([skips * skip_scale, hidden, output]))
    tables = _tables(model, sizes)
    class_of_code = getattr(model.input, "class_of_code", None)
    if class_of_code is None:
        class_of_code = torch.arange(model.config.quantization_channels)
    table_offset = arrays.put_vector(tables.ravel())
    return PackedWeights(
        matrices=aligned(np.concatenate(arrays.matrices).view(np.uint8)),
        scales=aligned(np.concatenate(arrays.scales)),
        vectors=aligned(np.concatenate(arrays.vectors)),
        offsets=offsets,
        dilations=np.array(model.config.dilations, np.int64),
        residual_scale=np.float32(model.config.residual_scale),
        min_log_scale=float(model.config.min_log_scale),
        table_offset=table_offset,
        num_classes=tables.shape[1] // sizes.num_signals,
        class_of_code=class_of_code.to(torch.int32).numpy(),
        past=past_constants(model.predictor),
    )


def gate_biases(
    model: WaveNet, sizes: Sizes, global_conditioning: Tensor | None, streams: int
) -> Array:
    """Return the gates' biases, `(blocks, streams, 2 * gated)`, for a model without weight norm.

    They include global conditioning, `(streams, C)`, if it is given.
    """
    biases = np.zeros((sizes.num_blocks, streams, 2 * sizes.gated), np.float32)
    for number, block in enumerate(model.stack.blocks):
        assert isinstance(block, ResidualBlock)
        bias = _biases(block, sizes)[: 2 * sizes.gated].astype(np.float64)
        biases[number] = bias
        if global_conditioning is None or block.conditioning_conv is None:
            continue
        weight = _numpy(block.conditioning_conv.weight[:, -global_conditioning.shape[1] :, 0])
        vectors = _numpy(global_conditioning).astype(np.float64)
        for stream, vector in enumerate(vectors):  # one by one: exact in any batch
            product = torch.from_numpy((weight.astype(np.float64) @ vector).astype(np.float32))
            biases[number, stream] = bias + _gates(product.unsqueeze(1), sizes, inputs=1)[:, 0]
    return biases


def _separated(size: int) -> int:
    """Return the bytes of whole cache lines, plus one line between the data of two threads."""
    return (-(-size // CACHE_LINE_BYTES) + 1) * CACHE_LINE_BYTES


def padded(width: int) -> int:
    """Return the next multiple of 16, the numbers in a vector."""
    return -(-width // LANES) * LANES


class _Arrays:
    """Matrices and vectors that are packed one after the other."""

    def __init__(self, weight_dtype: str) -> None:
        self.weight_dtype = weight_dtype
        self.matrices: list[NDArray[Any]] = []
        self.scales: list[Array] = [np.zeros(LANES, np.float32)]
        self.vectors: list[Array] = []

    def put_matrix(self, row: NDArray[np.int64], column: int, *matrices: Array) -> None:
        """Append matrices, and write the offsets of the first and of its scales."""
        row[column] = sum(map(len, self.matrices)) * WEIGHT_BYTES[self.weight_dtype]
        row[column + 1] = sum(map(len, self.scales))
        for matrix in matrices:
            weights, scales = pack(matrix, self.weight_dtype)
            self.matrices.append(weights)
            self.scales.append(scales)

    def put_vector(self, values: Array) -> int:
        """Append float32 numbers, and return their offset."""
        start = sum(map(len, self.vectors))
        self.vectors.append(values.astype(np.float32))
        return start


def _gates(weight: Tensor, sizes: Sizes, inputs: int) -> Array:
    """Return a matrix of the gate, each half padded; `inputs` is its width after padding."""
    halves = torch.split(weight, len(weight) // 2)
    return np.concatenate([_matrix(half, sizes.gated, inputs) for half in halves])


def _biases(block: ResidualBlock, sizes: Sizes) -> Array:
    """Return the biases of the gate's halves and of the residual product."""
    bias = block.conv.bias
    halves = [None, None] if bias is None else torch.split(bias, len(bias) // 2)
    residual = None if block.residual_conv is None else block.residual_conv.bias
    parts = [_vector(part, sizes.gated) for part in halves]
    return np.concatenate([*parts, _vector(residual, sizes.residual) * block.residual_scale])


def _tables(model: WaveNet, sizes: Sizes) -> Array:
    """Return the first convolution as tables of outputs, `(taps, signals * classes, residual)`."""
    layer = model.input
    if isinstance(layer, CausalEmbedding):
        tables: Tensor = layer.weight
    else:
        values = model.distribution.decode(torch.arange(model.config.quantization_channels))
        taps = layer.weight.to(torch.float32).permute(2, 1, 0)  # (taps, signals, residual)
        tables = (values[:, None].to(taps) * taps[:, :, None]).flatten(1, 2)
    padding = np.zeros((*tables.shape[:2], sizes.residual), np.float32)
    padding[..., : tables.shape[2]] = _numpy(tables)
    if layer.bias is not None:
        num_classes = tables.shape[1] // sizes.num_signals
        padding[-1, :num_classes, : tables.shape[2]] += _numpy(layer.bias)
    return padding


def _matrix(weight: Tensor, outputs: int, inputs: int) -> Array:
    """Return the matrix of a 1x1 convolution or of one tap, padded."""
    values = _numpy(weight).reshape(weight.shape[:2])
    matrix = np.zeros((outputs, inputs), np.float32)
    matrix[: values.shape[0], : values.shape[1]] = values
    return matrix


def _vector(bias: Tensor | None, width: int) -> Array:
    """Return a bias, padded; zeros where there is none."""
    vector = np.zeros(width, np.float32)
    if bias is not None:
        vector[: len(bias)] = _numpy(bias)
    return vector


def _numpy(tensor: Tensor) -> Array:
    values: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return values
