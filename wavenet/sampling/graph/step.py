"""One sample of all streams as tensor operations on fixed tensors.

All past taps are one batched product, all skips one product at the end; the rows of the queues are
index tensors. Nothing depends on a number that only the device knows, so the operations can be
captured as a CUDA graph, and run one by one elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wavenet.distributions import Categorical, Mixture, SamplingConfig
from wavenet.linear_predictor import scaled_residual
from wavenet.past_predictor import PastPredictor
from wavenet.sampling.graph.graph_state import GraphState, Layout
from wavenet.sampling.graph.weights import StepWeights
from wavenet.sampling.reference import guide

PIECE = 256  # samples whose noise and conditioning are on the device at once


@dataclass(frozen=True)
class StepOptions:
    """What is fixed when the step is captured.

    Attributes:
        sampling: How samples are drawn; `None` for given codes, whose parameters are returned.
        streams_per_item: 2 with classifier-free guidance, 1 without.
        guidance_scale: Its scale.
    """

    sampling: SamplingConfig | None = None
    streams_per_item: int = 1
    guidance_scale: float = 1.0


class PastRows:
    """The coefficients of the past for some streams, computed anew between captured samples.

    Args:
        predictor: The model's.
        streams: Streams, `n`.

    Attributes:
        rows: Of the next sample, `(n, order + 1)`, always in the same memory.
    """

    def __init__(self, predictor: PastPredictor, streams: int) -> None:
        self.predictor = predictor
        self.rows = torch.zeros(streams, predictor.num_rows, device=predictor.device)

    def samples_left(self, position: int) -> int:
        """Return how many samples from `position` on have the same coefficients."""
        return self.predictor.interval - position % self.predictor.interval

    def load(self, queue: Tensor) -> None:
        """Begin with the coefficients of a predictor's queue."""
        row = torch.cat([queue[:, self.predictor.memory : -2], queue[:, -1:]], dim=1)
        self.rows[: len(row)].copy_(row)

    def update(self, queue: Tensor, position: int, sample: Tensor) -> None:
        """Compute the coefficients for the sample at `position`, if they are new there.

        Args:
            queue: Of the predictor; it gets the sample, and the coefficients.
            position: Number of the next sample.
            sample: The last one, `(n,)`.
        """
        if position % self.predictor.interval == 0:
            queue[:, position % self.predictor.memory] = sample
            self.rows.copy_(self.predictor.rows_at(position, queue, None))


class Step:
    """The tensors of one number of streams, and the operations on them.

    Args:
        weights: The model's operands.
        layout: Of the model's queues.
        distribution: What samples are drawn from.
        streams: Streams, `n`.
        options: What is computed.

    Attributes:
        codes: Codes of a piece, `(PIECE, items)`: drawn, or given where nothing is drawn.
        params: Their parameters, `(PIECE, n, P)`, where nothing is drawn.
        drawable: Whether all draws so far had finite parameters, `(items,)`.
    """

    def __init__(
        self,
        weights: StepWeights,
        layout: Layout,
        distribution: Categorical | Mixture,
        streams: int,
        options: StepOptions,
    ) -> None:
        self.weights, self.layout, self.distribution = weights, layout, distribution
        self.streams, self.options = streams, options
        like, items = weights.skip, streams // options.streams_per_item
        self.state = layout.new_state(0)  # until `load`
        self._time = like.new_zeros(1, dtype=torch.int64)
        self._position = 0  # of the next sample, for the host
        self._rows = layout.rows(0, PIECE)
        self._last = like.new_zeros(streams, dtype=torch.int64)
        self._noise = like.new_zeros(PIECE, items, distribution.num_noise, dtype=torch.float32)
        self._local: Tensor | None = None
        if weights.local is not None:
            self._local = like.new_zeros(PIECE, streams, weights.local.shape[1])
        shape = PIECE, streams, layout.given_rows
        self._given_rows = like.new_ones(shape, dtype=torch.float32) if layout.given_rows else None
        self._past: PastRows | None = None
        if isinstance(layout.predictor, PastPredictor):
            self._past = PastRows(layout.predictor, streams)
        self._bias = weights.gate_bias
        if weights.shared is not None:
            self._bias = weights.gate_bias.repeat(1, streams, 1)
        self.codes = like.new_zeros(PIECE, items, dtype=torch.int64)
        self.params = like.new_zeros(0)
        if options.sampling is None:
            self.params = like.new_zeros(PIECE, streams, distribution.num_params)
        self.drawable = like.new_ones(items, dtype=torch.bool)
        self._num_past = layout.config.kernel_size - 1  # past taps of a block
        self._new_activations()

    def _new_activations(self) -> None:
        weights, streams = self.weights, self.streams
        like, (num_blocks, _, gate) = weights.skip, weights.gate_bias.shape
        width = weights.input_table.shape[1]
        self._gates = like.new_zeros(num_blocks, streams, gate)
        self._x = like.new_zeros(num_blocks, streams, width)  # input of each block
        self._z = like.new_zeros(streams, num_blocks * (gate // 2))
        self._block_x = self._x.unbind()
        self._block_gates = self._gates.unbind()
        self._halves = [gates.chunk(2, dim=1) for gates in self._block_gates]
        self._block_z = self._z.view(streams, num_blocks, gate // 2).unbind(1)

    def load(self, state: GraphState, last: Tensor, shared: Tensor | None) -> None:
        """Begin with a state.

        Args:
            state: The state; `store` changes it.
            last: Codes of the samples before, `(streams,)`.
            shared: Global conditioning, `(streams, C)`.
        """
        self.state = state
        self.load_rest(last, shared)

    def store(self, state: GraphState) -> None:
        """Complete the state that `load` began with, and let go of it."""
        self.state = self.layout.new_state(0)

    def load_piece(
        self,
        position: int,
        length: int,
        noise: Tensor | None = None,
        local: Tensor | None = None,
        codes: Tensor | None = None,
    ) -> None:
        """Bring what the next samples need to the device.

        Args:
            position: Number of the first of them.
            length: Samples, `PIECE` at most.
            noise: Uniforms, `(items, length, K)`.
            local: Local conditioning, `(streams, C, length)`, the coefficients of the linear
                predictor first.
            codes: Given codes, `(items, length)`, where nothing is drawn.
        """
        self._rows[:length].copy_(self.layout.rows(position, length))
        if noise is not None:
            self._noise[:length, : len(noise)].copy_(noise.transpose(0, 1))
        self._position = position
        if local is not None and self._given_rows is not None:
            rows, local = local.tensor_split([self.layout.given_rows], dim=1)
            self._given_rows[:length, : len(local)].copy_(rows.permute(2, 0, 1))
        if local is not None and self._local is not None:
            self._local[:length, : len(local)].copy_(local.permute(2, 0, 1))
        if codes is not None:
            self.codes[:length, : len(codes)].copy_(codes.T)
        self._time.zero_()

    def advance(self, length: int) -> None:
        """Compute the next samples of the piece."""
        while length and self._past is not None and self.state.predicted is not None:
            count = min(length, self._past.samples_left(self._position))
            last = self.distribution.decode(self._last)
            self._past.update(self.state.predicted, self._position, last)
            self.compute_samples(count)
            self._position += count
            length -= count
        self.compute_samples(length)

    def compute_samples(self, count: int) -> None:
        """Compute the next samples with the coefficients of the past as they are."""
        for _ in range(count):
            self.compute_sample()

    def compute_sample(self) -> None:
        """Compute the next sample of all streams: what is captured."""
        state, rows = self.state, self._rows.index_select(0, self._time).squeeze(0)
        reads, writes, input_reads, input_writes, *past = torch.split(rows, self.layout.row_counts)
        prediction = None if state.predicted is None else self._predict(state.predicted, *past)
        signals = self._signals(prediction)
        self._start_gates(reads)
        self._compute_input(signals, input_reads)
        self._compute_blocks()
        if len(state.queues):
            state.queues.index_copy_(0, writes, self._x)
        if len(state.inputs):
            state.inputs.index_copy_(0, input_writes, signals.unsqueeze(0))
        weights = self.weights
        skips = torch.addmm(weights.skip_bias, self._z, weights.skip).relu_()
        hidden = torch.addmm(weights.hidden_bias, skips, weights.hidden).relu_()
        params = torch.addmm(weights.output_bias, hidden, weights.output)
        if prediction is not None and isinstance(self.distribution, Mixture):
            params = self.distribution.affine(params, prediction[1], prediction[3])
        codes = self._draw(params)
        if self.options.streams_per_item > 1:
            codes = codes.unsqueeze(1).expand(-1, self.options.streams_per_item).flatten()
        self._last.copy_(codes)
        self._time.add_(1)

    def _start_gates(self, reads: Tensor) -> None:
        """Start the sums of all gates with biases, past taps and conditioning."""
        weights = self.weights
        if weights.past is None:
            self._gates.copy_(self._bias)
        else:
            taps = self.state.queues.index_select(0, reads)
            taps = taps.view(len(self._gates), self._num_past, *self._x.shape[1:])
            past = taps.transpose(1, 2).flatten(2)  # (L, n, (K - 1) * R)
            torch.baddbmm(self._bias, past, weights.past, out=self._gates)
        if self._local is not None and weights.local is not None:
            local = self._local.index_select(0, self._time)
            self._gates.baddbmm_(local.expand(len(self._gates), -1, -1), weights.local)

    def _predict(self, queue: Tensor, reads: Tensor, write: Tensor) -> tuple[Tensor, ...]:
        """Return last sample, prediction of the next, last residual and next scale, `(n,)` each."""
        if self._past is not None:
            row = self._past.rows
        else:
            assert self._given_rows is not None
            row = self._given_rows.index_select(0, self._time).squeeze(0)
        order = self.layout.order
        coefficients, scale = row[:, :order], row[:, order]
        sample = self.distribution.decode(self._last)
        residual = scaled_residual(sample, queue[:, -2], queue[:, -1])
        queue.index_copy_(1, write, sample.unsqueeze(1))
        past = queue.index_select(1, reads).double()
        prediction = (coefficients.double() * past).sum(dim=1).float()
        queue[:, -2:].copy_(torch.stack([prediction, scale], dim=1))
        return sample, prediction, residual, scale

    def _signals(self, prediction: tuple[Tensor, ...] | None) -> Tensor:
        """Return the newest input of the first layer, codes or values, `(G, n)`."""
        values = self.weights.values
        if prediction is None:
            last = self._last if values is None else values.index_select(0, self._last)
            return last.unsqueeze(0)
        signals = torch.stack(prediction[:3])
        if values is None:  # the code of NaN would be no row; it shows in the parameters
            return self.distribution.encode(signals).clamp_(0, self.distribution.num_classes - 1)
        return self.distribution.quantize(signals).to(values.dtype)

    def _compute_input(self, signals: Tensor, reads: Tensor) -> None:
        """Compute the input of the first block."""
        weights, x = self.weights, self._block_x[0]
        taps = signals.unsqueeze(0)  # (I, G, n), newest first
        if len(self.state.inputs):
            taps = torch.cat([taps, self.state.inputs.index_select(0, reads)])
        if weights.first_rows is None:
            torch.addmm(weights.input_bias, taps.flatten(0, 1).T, weights.input_table, out=x)
            return
        if weights.class_of_code is not None:
            taps = weights.class_of_code.index_select(0, taps.flatten()).view(taps.shape)
        if weights.first_rows.numel() == 1:
            torch.index_select(weights.input_table, 0, taps.flatten(), out=x)
            return
        rows = (taps + weights.first_rows).flatten()
        parts = weights.input_table.index_select(0, rows).view(-1, *x.shape)
        torch.sum(parts, dim=0, out=x)

    def _compute_blocks(self) -> None:
        """Compute gates and residuals, one block after the other."""
        weights, x = self.weights, self._block_x[0]
        for block, gates in enumerate(self._block_gates):
            gates.addmm_(x, weights.current[block]).tanh_()
            tanh, sigmoid = self._halves[block]
            z = torch.addcmul(tanh, tanh, sigmoid, out=self._block_z[block])
            if block < len(weights.residual):
                y = self._block_x[block + 1]
                torch.addmm(weights.residual_bias[block], z, weights.residual[block], out=y)
                x = y.add_(x, alpha=weights.residual_scale)

    def _draw(self, params: Tensor) -> Tensor:
        """Return the code of each item, `(items,)`, given parameters `(streams, P)`."""
        options, distribution = self.options, self.distribution
        if options.sampling is None:
            self.params.index_copy_(0, self._time, params.unsqueeze(0))
            return self.codes.index_select(0, self._time).flatten()
        if options.streams_per_item > 1:
            params = guide(params[0::2], params[1::2], options.guidance_scale)
        drawable = distribution.drawable(params)
        self.drawable.logical_and_(drawable)
        noise = self._noise.index_select(0, self._time).squeeze(0)
        codes = distribution.draw(params, noise, options.sampling).where(drawable, 0)
        self.codes.index_copy_(0, self._time, codes.unsqueeze(0))
        return codes

    def load_rest(self, last: Tensor, shared: Tensor | None) -> None:
        """Begin with what is no queue; arguments as `load`."""
        weights = self.weights
        self._last[: len(last)].copy_(last)
        self.drawable.fill_(True)
        if self._past is not None and self.state.predicted is not None:
            self._past.load(self.state.predicted)
        if shared is not None and weights.shared is not None:
            projected = torch.matmul(shared, weights.shared)  # (L, streams, 2H)
            torch.add(weights.gate_bias, projected, out=self._bias[:, : len(shared)])
