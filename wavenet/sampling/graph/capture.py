"""The step captured as CUDA graphs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavenet.distributions import Categorical, Mixture
from wavenet.sampling.graph.graph_state import GraphState, Layout
from wavenet.sampling.graph.step import Step, StepOptions
from wavenet.sampling.graph.weights import StepWeights


class CapturedStep(Step):
    """A `Step` on a CUDA device, whose operations are captured once and replayed.

    A graph reads and writes the tensors that it was captured with, so the queues are copied in and
    out. A state may have fewer streams; what the others compute is never read.
    """

    COUNTS = (8, 1)  # samples of each graph

    def __init__(
        self,
        weights: StepWeights,
        layout: Layout,
        distribution: Categorical | Mixture,
        streams: int,
        options: StepOptions,
    ) -> None:
        super().__init__(weights, layout, distribution, streams, options)
        self.state = layout.new_state(streams)
        self._graphs = capture(self, self.COUNTS)

    def load(self, state: GraphState, last: Tensor, shared: Tensor | None) -> None:
        for own, given in self._pairs(state):
            own.copy_(given)
        self.load_rest(last, shared)

    def store(self, state: GraphState) -> None:
        for own, given in self._pairs(state):
            given.copy_(own)
        # what was replayed must be done before the graphs and their memory may go
        torch.cuda.current_stream(state.queues.device).synchronize()

    def _pairs(self, state: GraphState) -> list[tuple[Tensor, Tensor]]:
        """Return each tensor of this step that a state has too, and the state's."""
        own, streams = self.state, state.batch_size
        pairs = [
            (own.queues[:, :streams], state.queues),
            (own.inputs[..., :streams], state.inputs),
        ]
        if own.predicted is not None and state.predicted is not None:
            pairs.append((own.predicted[:streams], state.predicted))
        return pairs

    def compute_samples(self, count: int) -> None:
        for samples, graph in zip(self.COUNTS, self._graphs, strict=True):
            for _ in range(count // samples):
                graph.replay()
            count %= samples


def capture(step: Step, counts: Sequence[int]) -> list[torch.cuda.CUDAGraph]:
    """Return a graph of each number of samples; what the tensors of `step` hold is lost.

    As torch's notes on CUDA graphs have it: on a side stream, after one sample that is not
    captured, with which libraries take their memory and load their kernels. The stream is not used
    again: with a graph, torch frees the memory of all graphs that were captured on its stream
    (pytorch/pytorch issue 193402). Other threads, such as one that pins memory, may go on.
    """
    device, graphs = step.codes.device, []
    with torch.cuda.device(device):
        side, current = _new_stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            step.compute_sample()
        current.wait_stream(side)
        for count in counts:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                Step.compute_samples(step, count)
            graphs.append(graph)
    return graphs


def _new_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
