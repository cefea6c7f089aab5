"""The sampler that computes all streams at once by the tensor operations of `step.py`."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wavenet.distributions import Categorical, Mixture, SamplingConfig
from wavenet.distributions.distribution import raise_if_nonfinite
from wavenet.model import WaveNet
from wavenet.sampling.conditioning import ConditioningBuffer, LocalConditioning, check_channels
from wavenet.sampling.graph.capture import CapturedStep
from wavenet.sampling.graph.graph_state import GraphState, Layout
from wavenet.sampling.graph.step import PIECE, Step, StepOptions
from wavenet.sampling.graph.weights import pack_weights
from wavenet.sampling.reference import ReferenceSampler
from wavenet.sampling.state import SamplerState, check_standard_model, to_model

MAX_STEPS = 2  # kept for the next call; each has the queues of its streams


class GraphSampler(ReferenceSampler):
    """Plain PyTorch, all streams at once; on a CUDA device as a CUDA graph.

    It computes in float64 for a model of that dtype, in float32 for all others. Its parameters
    differ from those of `reference` by rounding, less than 1e-4 in float32, and under the same
    noise its signal is the same, except where a draw is so near to the border of two codes (1e-5)
    that rounding decides. Rounding depends on the number of streams, so that an item's signal may
    part there from that of the item alone; chunks change nothing. On CPUs it uses one thread.

    Args:
        model: The model; the sampler keeps a copy on its device.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: The model is not the standard one; the message names the first difference.
    """

    name = "graph"
    draws_by_voicing = False
    bytes_per_item = 16 * PIECE  # noise and codes of a piece

    def __init__(self, model: WaveNet) -> None:
        check_standard_model(model, self.name)
        super().__init__(model)
        like = next(self.model.parameters())
        self.is_captured = like.device.type == "cuda"
        if like.dtype not in (torch.float32, torch.float64):
            self.model.float()
        self.weights = pack_weights(self.model)
        self.layout = Layout(self.model, self.weights.skip)
        assert isinstance(self.model.distribution, Categorical | Mixture)
        self.distribution = self.model.distribution
        self._steps: list[Step] = []  # the last one used at the end
        self._lock = threading.Lock()  # around a run: a step computes one state at a time

    def __reduce__(self) -> Any:
        """Copies and pickles are made anew: a pickle would part the views of a step."""
        return type(self), (self.model,)

    @property
    def prefill_streams(self) -> int:
        return 16 if self.is_captured else 1  # on CPUs more are not faster

    def chunk_length(self, batch_size: int) -> int:
        return max(PIECE if self.is_captured else 1, super().chunk_length(batch_size))

    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> GraphState:
        return self.layout.new_state(streams)

    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: LocalConditioning | None,
    ) -> Tensor:
        options = StepOptions(sampling, state.streams_per_item, state.guidance_scale)
        items, like = len(state.seeds), self.weights.skip
        codes = torch.zeros(items, length, dtype=torch.int64, device=like.device)
        with self._lock, one_thread():
            step = self._step(len(codes) * options.streams_per_item, options)
            for piece in self._pieces(step, state, length, noise, local_conditioning):
                codes[:, piece] = step.codes[: piece.stop - piece.start, :items].T
            raise_if_nonfinite(step.drawable[:items])
        return self.distribution.decode(codes, like.dtype)

    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: LocalConditioning | None
    ) -> Tensor:
        like = self.weights.skip
        codes = self.distribution.encode(waveform.to(like))
        items, length = codes.shape
        params = like.new_zeros(items, self.distribution.num_params, length)
        with self._lock, one_thread():
            step = self._step(items, StepOptions())
            for piece in self._pieces(step, state, length, None, local_conditioning, codes):
                values = step.params[: piece.stop - piece.start, :items]
                params[..., piece] = values.permute(1, 2, 0)
        return params

    def _pieces(
        self,
        step: Step,
        state: SamplerState,
        length: int,
        noise: Tensor | None,
        local_conditioning: LocalConditioning | None,
        codes: Tensor | None = None,
    ) -> Iterator[slice]:
        """Compute the next samples and yield where each piece lies, with its results in `step`."""
        model_state = self._graph_state(state)
        last = self.distribution.encode(state.sample.to(self.weights.skip))
        shared = state.conditioning.global_conditioning
        local = None if local_conditioning is None else local_conditioning.joined()
        projected = 0 if self.weights.local is None else self.weights.local.shape[1]
        check_channels("local", local, projected + self.layout.given_rows)
        step.load(
            model_state,
            last.repeat_interleave(state.streams_per_item),
            None if shared is None else shared.to(self.weights.skip),
        )
        for first in range(0, length, PIECE):
            piece = slice(first, min(first + PIECE, length))
            step.load_piece(
                model_state.position,
                piece.stop - first,
                noise=None if noise is None else noise[:, piece],
                local=None if local is None else local[..., piece],
                codes=None if codes is None else codes[:, piece],
            )
            step.advance(piece.stop - first)
            model_state.position += piece.stop - first
            yield piece
        step.store(model_state)

    def _graph_state(self, state: SamplerState) -> GraphState:
        """Return the model state in this sampler's layout, converted if it has another one."""
        model_state = state.model
        if not isinstance(model_state, GraphState) or model_state.layout is not self.layout:
            model_state = self.layout.pack(to_model(model_state.to_wavenet_state(), self.model))
            state.model = model_state
        return model_state

    def _step(self, streams: int, options: StepOptions) -> Step:
        """Return a step for so many streams, an earlier one if possible."""
        for step in self._steps:
            # a captured one may have more streams, or a batch that shrinks would be captured anew
            most = 2 * streams if self.is_captured else streams
            if step.options == options and streams <= step.streams <= most:
                self._steps.remove(step)
                break
        else:
            del self._steps[: 1 - MAX_STEPS]
            kind = CapturedStep if self.is_captured else Step
            step = kind(self.weights, self.layout, self.distribution, streams, options)
        self._steps.append(step)
        return step


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let operations on CPUs use one thread: their threads would wait for each other every time."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
