"""Weights and activations in the order in which the threads of a warp read them.

The order is that of the fragments of `mma.sync` (PTX ISA, matrix fragments for m16n8k16 and
m16n8k8), see kernels/products.cuh: of every eight columns a thread has two neighbors, of two
neighboring streams. Widths are padded to multiples of 16 with zeros.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.model import WaveNet
from wavenet.modules import ResidualBlock
from wavenet.sampling.graph.weights import input_layer

STREAMS = 16  # of a warp
WIDTH = 16  # columns of a slot
LANES = 32
SLOT_BYTES = {torch.bfloat16: 16, torch.float32: 32}  # of a thread
TILE_BYTES = 16  # eight columns of float32 of a thread


@dataclass(frozen=True)
class Widths:
    """Padded widths of a model's layers, by their names in `Task`.

    Attributes:
        residual: Between blocks.
        gated: Of one half of a gate.
        skip: Of the skip sum.
        head: Of the head.
        params: Distribution parameters.
        local: Local conditioning.
        shared: Global conditioning.
    """

    residual: int
    gated: int
    skip: int
    head: int
    params: int
    local: int
    shared: int

    @classmethod
    def of(cls, model: WaveNet) -> "Widths":
        """Return the widths of a model."""
        config = model.config
        return cls(
            padded(config.residual_channels),
            padded(config.gate_channels // 2),
            padded(config.skip_channels),
            padded(config.head_channels),
            padded(model.distribution.num_params),
            0 if config.local is None else padded(config.local.channels),
            padded(config.global_channels) if config.has_global_conditioning else 0,
        )

    def shared_bytes(self, dtype: torch.dtype) -> int:
        """Return the shared memory of a warp, as `activations` of kernels/warps.cu divides it."""
        slot = SLOT_BYTES[dtype] * LANES // WIDTH  # bytes per column
        tiles = TILE_BYTES * LANES // 8
        layers = self.residual * (tiles + (slot if dtype == torch.bfloat16 else 0))
        head = max(self.skip * slot, self.params * tiles)
        within = max(layers + self.gated * slot, head + self.head * slot)
        return (self.local + self.shared) * slot + within


@torch.no_grad()
def pack_weights(model: WaveNet, widths: Widths, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights of a model without weight norm, by their names in `Task`."""
    blocks = [block for block in model.stack.blocks if isinstance(block, ResidualBlock)]
    skips = [block.skip_conv for block in blocks if block.skip_conv is not None]
    residuals = [block.residual_conv for block in blocks if block.residual_conv is not None]
    scale, skip_scale, head = model.config.residual_scale, model.stack.skip_scale, model.head
    parts = [_matrix(conv.weight[..., 0], widths.skip, widths.gated) for conv in skips]
    skip_bias = torch.stack([_vector(conv, widths.skip) for conv in skips]).sum(dim=0) * skip_scale
    layer = input_layer(model)
    order = _order_of_params(widths.params, head.output.weight.device)
    output_bias = _vector(head.output, widths.params)
    if model.distribution.compiled_draw == "categorical":
        output_bias[model.distribution.num_params :] = -torch.inf  # never drawn
    output = _matrix(head.output.weight[..., 0], widths.params, widths.head)
    hidden = _matrix(head.hidden.weight[..., 0], widths.head, widths.skip)
    biases = (
        F.pad(layer["input_bias"].float(), (0, widths.residual - len(layer["input_bias"]))),
        skip_bias,
        _vector(head.hidden, widths.head),
        output_bias[order],
    )
    table = layer["input_table"].float()
    packed = {
        "gates": torch.stack([fragments(_gates(block, model, widths), dtype) for block in blocks]),
        "skips": fragments(torch.cat(parts, dim=1) * skip_scale, dtype),
        "hidden": fragments(hidden, dtype),
        "output": fragments(output[order], dtype),
        "gate_biases": torch.stack(
            [_couples(_halves(block.conv, widths.gated)) for block in blocks]
        ),
        "biases": torch.cat(biases),
        "table": F.pad(table, (0, widths.residual - table.shape[1])),
    }
    if residuals:
        packed["residuals"] = torch.stack(
            [
                fragments(
                    _matrix(conv.weight[..., 0], widths.residual, widths.gated) * scale, dtype
                )
                for conv in residuals
            ]
        )
        packed["residual_biases"] = torch.stack(
            [_vector(conv, widths.residual) * scale for conv in residuals]
        )
    if layer["class_of_code"] is not None:
        packed["rows_of_codes"] = layer["class_of_code"].int()
    if layer["values"] is not None:
        packed["values"] = F.pad(layer["values"].float(), (0, 1))  # the last: silence
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def fragments(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a matrix `(N, K)` as the threads of a warp read it: by pairs of tiles, by slots.

    A pair is 16 outputs, a slot 16 inputs; the result is flat.
    """
    outputs, inputs = matrix.shape
    parts = matrix.reshape(outputs // 16, 2, 8, inputs // 16, 2, 4, 2)
    # pair, tile, group, slot, half, number, element
    order = (0, 3, 2, 5, 1, 4, 6) if dtype == torch.bfloat16 else (0, 3, 1, 2, 5, 4, 6)
    return parts.permute(order).to(dtype).flatten()


def to_slots(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return activations `(rows, streams, C)` as `(rows, warps, slots, ...)`, padded with zeros."""
    rows, streams, channels = x.shape
    x = F.pad(x, (0, padded(channels) - channels, 0, padded(streams) - streams))
    warps, slots = padded(streams) // STREAMS, padded(channels) // WIDTH
    parts = x.reshape(rows, warps, 8, 2, slots, 2, 4, 2)
    return parts.permute(_slot_order(dtype)).to(dtype).contiguous()


def from_slots(slots: Tensor, streams: int, channels: int) -> Tensor:
    """Return the activations that `to_slots` packed, `(rows, streams, channels)` in float32."""
    order = _slot_order(slots.dtype)
    parts = slots.permute([order.index(dim) for dim in range(len(order))])
    rows, warps, slot_count = parts.shape[0], parts.shape[1], parts.shape[4]
    x = parts.reshape(rows, warps * STREAMS, slot_count * WIDTH)
    return x[:, :streams, :channels].float()


def per_thread(x: Tensor) -> Tensor:
    """Return numbers of streams `(rows, streams)` as threads have them, `(rows, warps, 8, 4, 2)`.

    All four threads of a group have the numbers of its two streams.
    """
    rows, streams = x.shape
    whole = F.pad(x, (0, padded(streams) - streams))
    groups = whole.reshape(rows, padded(streams) // STREAMS, STREAMS // 2, 1, 2)
    return groups.expand(-1, -1, -1, 4, -1).contiguous()


def per_stream(copies: Tensor, streams: int) -> Tensor:
    """Return the numbers that `per_thread` copied, `(rows, streams)`."""
    return copies[:, :, :, 0].flatten(1)[:, :streams]


def padded(width: int) -> int:
    """Return the next multiple of 16."""
    return -(-width // WIDTH) * WIDTH


def _slot_order(dtype: torch.dtype) -> tuple[int, ...]:
    """Return how row, warp, group, stream, slot, half, number and element are stored."""
    if dtype == torch.bfloat16:
        return (0, 1, 4, 2, 6, 5, 3, 7)
    return (0, 1, 4, 5, 2, 6, 3, 7)


def _gates(block: ResidualBlock, model: WaveNet, widths: Widths) -> Tensor:
    """Return what a gate is multiplied with: conditioning, current tap, past taps, newest first."""
    parts = []
    if block.conditioning_conv is not None:
        weight = block.conditioning_conv.weight[..., 0]
        local = 0 if model.config.local is None else model.config.local.channels
        parts = [(weight[:, :local], widths.local), (weight[:, local:], widths.shared)]
    parts += [(tap, widths.residual) for tap in block.conv.weight.unbind(dim=-1)[::-1]]
    columns = [
        torch.stack([_matrix(half, widths.gated, width) for half in weight.chunk(2)])
        for weight, width in parts
        if width
    ]
    return _couples(torch.cat(columns, dim=2))


def _couples(halves: Tensor) -> Tensor:
    """Return rows `(2, N, ...)` of a gate as 16 of tanh, the same of sigmoid, and so on."""
    parts = halves.reshape(2, -1, WIDTH, *halves.shape[2:])
    return parts.transpose(0, 1).flatten(0, 2)


def _halves(conv: nn.Conv1d, width: int) -> Tensor:
    """Return a gate's biases, `(2, width)`."""
    if conv.bias is None:
        return conv.weight.new_zeros(2, width, dtype=torch.float32)
    halves = conv.bias.float().view(2, -1)
    return F.pad(halves, (0, width - halves.shape[1]))


def _order_of_params(width: int, device: torch.device) -> Tensor:
    """Return which parameter each column is, so that a thread has a quarter of them in order."""
    columns = torch.arange(width, device=device)
    tile, column = columns // 8, columns % 8
    return column // 2 * (width // 4) + tile * 2 + column % 2


def _matrix(weight: Tensor, outputs: int, inputs: int) -> Tensor:
    weight = weight.float()
    return F.pad(weight, (0, inputs - weight.shape[1], 0, outputs - weight.shape[0]))


def _vector(conv: nn.Conv1d, width: int) -> Tensor:
    if conv.bias is None:
        return conv.weight.new_zeros(width, dtype=torch.float32)
    return F.pad(conv.bias.float(), (0, width - len(conv.bias)))
