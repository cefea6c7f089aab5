"""The sampler for CPUs: the model packed, and the kernel run over it by one thread or several."""

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.distributions.distribution import raise_if_nonfinite
from wavenet.kernels.alignment import aligned
from wavenet.kernels.cache import KernelCache, private_folder
from wavenet.kernels.matmul import BLOCK, encode_rows
from wavenet.model import WaveNet
from wavenet.sampling.arguments import unsupported_by_cpu
from wavenet.sampling.conditioning import ConditioningBuffer
from wavenet.sampling.cpu.kernel import MOST_BASES, Part, Sizes, Task, kernel_of
from wavenet.sampling.cpu.packed_state import Layout, PackedState
from wavenet.sampling.cpu.packing import sizes_of, weights_of
from wavenet.sampling.cpu.thread_sync import LINE, THE_END
from wavenet.sampling.reference import inference_copy
from wavenet.sampling.sampler import DEFAULT_SAMPLING, Sampler
from wavenet.sampling.state import SamplerState, check_model_state
from wavenet.utils.errors import CheckpointError, ConfigError

log = logging.getLogger("wavenet")


class CpuSampler(Sampler):
    """The whole loop compiled, for one core or several.

    Args:
        model: What to draw from; the sampler keeps a copy.
        num_threads: Cores to use: they share out a batch's streams, or one stream's layers.
        weight_dtype: Of the weights: `float32`; `bfloat16` or `int8`, faster and less exact.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: The model is not the standard one; the message names the first difference.
    """

    name = "cpu"
    progress_interval = 16384  # long enough to hide the start of threads

    def __init__(self, model: WaveNet, num_threads: int = 1, weight_dtype: str = "float32") -> None:
        if reason := unsupported_by_cpu(model):
            raise ConfigError(
                f"backend=cpu computes the standard WaveNet only, but {reason}: use "
                "backend=reference"
            )
        for name, parameter in model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise CheckpointError(f"{name} holds NaN or infinity: nothing can be drawn from it")
        plain = inference_copy(model).to("cpu", torch.float32)
        self.model = plain
        self.num_threads = num_threads
        self.weight_dtype = weight_dtype
        sizes = sizes_of(plain, weight_dtype)
        self.layout = Layout(plain, sizes, weight_dtype, num_threads)
        self.weights = weights_of(plain, sizes, weight_dtype)
        self.values = plain.distribution.decode(
            torch.arange(plain.config.quantization_channels)
        ).numpy()
        self.run = ready_kernel(weight_dtype)
        self._warm_up()

    @property
    def packed_bytes(self) -> int:
        """Bytes of the matrices, as the kernel reads them."""
        return int(self.weights.matrices.nbytes)

    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> PackedState:
        return self.layout.new_state(streams, conditioning.global_conditioning)

    def prefill(
        self, state: SamplerState, prompt: Tensor, local_conditioning: Tensor | None
    ) -> None:
        packed, codes = self._packed(state), self.model.distribution.encode(prompt)
        length = codes.shape[1]
        first = max(0, length - self.model.config.receptive_field)  # no queue reaches beyond
        before = packed.memory.codes[:, ::-1]  # the oldest first
        seen = np.concatenate([before, _ints(codes[:, :first])], axis=1)
        packed.memory.codes[:] = seen[:, seen.shape[1] - before.shape[1] :][:, ::-1]
        packed.position = first
        recent = None if local_conditioning is None else local_conditioning[..., first:]
        forced = _ints(codes[:, first:])
        self._run(packed, length - first, condition=recent, forced=forced, heads=False)

    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: Tensor | None,
    ) -> Tensor:
        packed, copies = self._packed(state), state.streams_per_item
        if local_conditioning is not None:
            local_conditioning = local_conditioning.repeat_interleave(copies, dim=0)
        given = np.ascontiguousarray(noise.to("cpu", torch.float32).numpy())
        guided = (copies, state.guidance_scale)
        codes = self._run(
            packed, length, sampling, noise=given, condition=local_conditioning, guided=guided
        )
        codes = codes[::copies]
        raise_if_nonfinite(torch.tensor(codes.min(initial=0) >= 0))
        return torch.from_numpy(self.values[codes])  # not torch's look-up: it hangs after a fork

    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: Tensor | None
    ) -> Tensor:
        codes = self.model.distribution.encode(waveform.to("cpu", torch.float32))
        room = np.empty((*codes.shape, self.layout.sizes.classes), np.float32)
        packed, length = self._packed(state), codes.shape[1]
        self._run(packed, length, condition=local_conditioning, forced=_ints(codes), params=room)
        return torch.from_numpy(room).transpose(1, 2)

    def _warm_up(self) -> None:
        """Have the kernel compiled or loaded now, not in the middle of a signal."""
        if self.run.signatures:
            return
        started = time.perf_counter()
        self._run(self.layout.new_state(1), 0)
        cache = self.run._cache
        if isinstance(cache, KernelCache) and not cache.hits:
            log.info("compiled in %.1f s", time.perf_counter() - started)

    def _packed(self, state: SamplerState) -> PackedState:
        """Return the state in our memory, brought there if it was another backend's."""
        packed = state.model
        if not isinstance(packed, PackedState) or packed.layout is not self.layout:
            plain = packed.plain()
            check_model_state(plain, self.model)
            packed = self.layout.packed(plain, state.conditioning.global_conditioning)
            state.model = packed
            last = self.model.distribution.encode(state.sample)
            packed.memory.codes[:, 0] = _ints(last.repeat_interleave(state.streams_per_item))
        return packed

    def _run(
        self,
        packed: PackedState,
        length: int,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        noise: NDArray[np.float32] | None = None,
        condition: Tensor | None = None,
        forced: NDArray[np.int32] | None = None,
        params: NDArray[np.float32] | None = None,
        *,
        guided: tuple[int, float] = (1, 1.0),
        heads: bool = True,
    ) -> NDArray[np.int32]:
        """Run the kernel over all streams; return their codes, `(streams, length)`."""
        streams, (copies, guidance_scale) = packed.batch_size, guided
        chosen = np.zeros((streams, length), np.int32)
        if noise is None:
            noise = np.zeros((streams, length, 1), np.float32)
        task = Task(
            length=length,
            position=packed.position,
            fresh=packed.fresh or condition is not None,  # what was computed ahead had no condition
            heads=heads,
            noise=noise,
            conditions=self._encoded(condition, streams),
            forced=np.zeros((streams, 0), np.int32) if forced is None else forced,
            params=np.zeros((streams, 0, 1), np.float32) if params is None else params,
            chosen=chosen,
            temperature=float(sampling.temperature),
            top_k=min(int(sampling.top_k or 0), self.layout.sizes.params),
            top_p=1.0 if sampling.top_p is None else float(sampling.top_p),
            copies=copies,
            guidance_scale=float(guidance_scale),
        )
        model = (task, self.layout.sizes, self.weights, packed.memory)
        self._share_out(parts(self.layout.sizes, streams, self.num_threads, copies), model)
        packed.move_on(length)
        return chosen

    def _encoded(self, condition: Tensor | None, streams: int) -> NDArray[np.uint8]:
        """Return conditions `(streams, C, T)` as the kernel reads them, room for more behind."""
        sizes = self.layout.sizes
        if condition is None:
            return np.zeros((streams, 0, 1), np.uint8)
        rows = np.zeros((streams, condition.shape[2] + MOST_BASES, sizes.condition), np.float32)
        values = condition.to("cpu", torch.float32).transpose(1, 2).numpy()
        rows[:, : values.shape[1], : values.shape[2]] = values
        encoded = encode_rows(rows, self.weight_dtype)
        return aligned(encoded).reshape(encoded.shape)

    def _share_out(self, found: Sequence[Part], model: tuple[Any, ...]) -> None:
        """Run every part in a thread of its own, the first in this one."""
        helpers = [threading.Thread(target=self.run, args=(part, *model)) for part in found[1:]]
        try:
            for helper in helpers:
                helper.start()
            self.run(found[0], *model)
            for helper in helpers:
                helper.join()
        except BaseException:
            for part in found:
                part.progress[:] = THE_END  # nobody waits for one that never came
            raise


def _ints(codes: Tensor) -> NDArray[np.int32]:
    ints: NDArray[np.int32] = codes.to(torch.int32).contiguous().numpy()
    return ints


def parts(sizes: Sizes, streams: int, num_threads: int, copies: int = 1) -> list[Part]:
    """Return what each thread does: some of the streams, or its part in a team on one item's.

    Args:
        sizes: Of the model.
        streams: In the batch.
        num_threads: To share them out to.
        copies: Streams of an item, which stay together.
    """
    items = streams // copies
    if items >= num_threads or items == 0:
        edges = [items * index // num_threads * copies for index in range(num_threads + 1)]
        cuts = _cuts(sizes, 1)
        return [
            Part(0, 1, first, last - first, first, cuts, np.zeros(LINE, np.int64))
            for first, last in itertools.pairwise(edges)
        ]
    found: list[Part] = []
    for item in range(items):
        team = num_threads // items + (item < num_threads % items)
        cuts, progress, room = _cuts(sizes, team), np.zeros(team * LINE, np.int64), len(found)
        found += [
            Part(rank, team, copies * item, copies, copies * (room + rank), cuts, progress)
            for rank in range(team)
        ]
    return found


@lru_cache
def _cuts(sizes: Sizes, team: int) -> NDArray[np.int64]:
    """Return where each thread's columns of skip, hidden and output begin, `(3, team + 1)`.

    Columns of the head are shared evenly. Of the skips the leader takes as many as its way through
    the blocks leaves it time for, the others having what is computed ahead to do as well.
    """
    even = [1 / team] * team
    cuts = [_columns(width, even) for width in (sizes.skip, sizes.head, sizes.params)]
    if team > 1:
        in_sequence = 3 * sizes.gate * sizes.residual
        ahead = 0.4 * 2 * sizes.gate * sizes.residual * (sizes.taps - 1)  # many rows cost less each
        skips, others = sizes.gate * sizes.skip, team - 1
        share = ((skips + ahead) / others - in_sequence) / (skips * (1 + 1 / others))
        share = min(max(share, 0.0), 1 / team)
        cuts[0] = _columns(sizes.skip, [share, *[(1 - share) / others] * others])
    return np.array(cuts, np.int64)


def _columns(width: int, shares: Sequence[float]) -> list[int]:
    """Return where each share of a matrix's columns begins and the last ends, in whole blocks."""
    blocks = -(-width // BLOCK)
    ends = np.rint(np.cumsum(shares) * blocks).astype(int) * BLOCK
    return [0, *(min(int(end), width) for end in ends)]


def ready_kernel(weight_dtype: str) -> Any:
    """Return the kernel of a precision, to be compiled at its first call if it never was."""
    run = kernel_of(weight_dtype)
    if not run.signatures and not isinstance(run._cache, KernelCache):
        run._cache = KernelCache(f"kernel-{weight_dtype}", private_folder())
    return run
