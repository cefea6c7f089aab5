"""The sampler for CPUs: packs the model and runs the compiled kernel, on one thread or several."""

import logging
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.distributions.distribution import raise_if_nonfinite
from wavenet.kernels.compiler import get_cache
from wavenet.kernels.elementwise import make_encode
from wavenet.kernels.matmul import aligned, encode_rows, make_product
from wavenet.kernels.past_coefficients import solve_past
from wavenet.kernels.sampler.arrays import (
    MAX_CONDITIONED_ROWS,
    Functions,
    Request,
    Sizes,
)
from wavenet.kernels.sampler.class_draw import draw_class
from wavenet.kernels.sampler.kernel import compile_kernel, make_kernel
from wavenet.kernels.sampler.look_ahead import look_ahead
from wavenet.kernels.sampler.mixture_draw import draw_from_mixture
from wavenet.kernels.sampler.sharing import next_sample
from wavenet.kernels.second_process import wait_for_kernel
from wavenet.mel_predictor import MelPredictor
from wavenet.model import WaveNet
from wavenet.sampling.conditioning import ConditioningBuffer, LocalConditioning
from wavenet.sampling.cpu.packed_state import Layout, PackedState
from wavenet.sampling.cpu.packing import model_sizes, pack_weights
from wavenet.sampling.cpu.prediction import prediction_request
from wavenet.sampling.cpu.threads import run_shares, thread_shares
from wavenet.sampling.reference import inference_copy
from wavenet.sampling.sampler import DEFAULT_SAMPLING, Sampler
from wavenet.sampling.state import SamplerState, check_model_state, check_standard_model

log = logging.getLogger("wavenet")


class CpuSampler(Sampler):
    """The complete loop compiled, for one core or several.

    Args:
        model: The model; the sampler keeps a copy.
        num_threads: Cores to use: they share a batch's streams, or one stream's layers.
        weight_dtype: `float32`; `bfloat16` or `int8`, faster and less exact.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: The model is not the standard one; the message names the first difference.
    """

    name = "cpu"
    draws_by_voicing = True
    progress_interval = 16384  # long enough to hide the start of threads

    def __init__(self, model: WaveNet, num_threads: int = 1, weight_dtype: str = "float32") -> None:
        check_standard_model(model, self.name)
        self.model = inference_copy(model).to("cpu", torch.float32)
        self.num_threads = num_threads
        self.weight_dtype = weight_dtype
        sizes = model_sizes(self.model, weight_dtype)
        self.layout = Layout(self.model, sizes, weight_dtype, num_threads)
        self.weights = pack_weights(self.model, sizes, weight_dtype)
        codes = torch.arange(self.model.config.quantization_channels)
        self.decoded = self.model.distribution.decode(codes).numpy()
        started = time.perf_counter()
        self.functions = self._compiled_functions()
        self.kernel = make_kernel()
        self._compile(started)

    def __reduce__(self) -> Any:
        """Copies and pickles are made anew: addresses of code are those of one process."""
        return type(self), (self.model, self.num_threads, self.weight_dtype)

    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> PackedState:
        return self.layout.new_state(streams, conditioning.global_conditioning)

    def prefill(
        self, state: SamplerState, prompt: Tensor, local_conditioning: LocalConditioning | None
    ) -> None:
        packed, codes = self._packed_state(state), self.model.distribution.encode(prompt)
        length = codes.shape[1]
        first = max(0, length - self.model.config.receptive_field)  # no queue reaches further back
        first -= first % max(self.layout.sizes.interval, 1)  # where coefficients are computed
        before = packed.buffers.codes[:, 0, ::-1]  # oldest first
        seen = np.concatenate([before, _int32(codes[:, :first])], axis=1)
        packed.buffers.codes[:, 0] = seen[:, seen.shape[1] - before.shape[1] :][:, ::-1]
        packed.position = first
        if self.layout.sizes.order:  # the last one is still to come; the one before is silence
            packed.set_history(_int32(codes[:, : max(0, first - 1)]))
        recent = None if local_conditioning is None else local_conditioning.after(first)
        forced = _int32(codes[:, first:])
        self._run(packed, length - first, conditioning=recent, forced=forced, needs_params=False)

    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: LocalConditioning | None,
    ) -> Tensor:
        per_item = state.streams_per_item
        codes = self._run(
            self._packed_state(state),
            length,
            sampling,
            noise=np.ascontiguousarray(noise.to("cpu", torch.float32).numpy()),
            conditioning=local_conditioning,
            guidance=(per_item, state.guidance_scale),
        )[::per_item]
        raise_if_nonfinite(torch.tensor(codes.min(initial=0) >= 0))
        return torch.from_numpy(self.decoded[codes])  # torch's indexing hangs after a fork

    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: LocalConditioning | None
    ) -> Tensor:
        packed, length = self._packed_state(state), waveform.shape[1]
        forced = _int32(self.model.distribution.encode(waveform.to("cpu", torch.float32)))
        params = np.empty((*forced.shape, self.layout.sizes.unpadded_params), np.float32)
        self._run(packed, length, conditioning=local_conditioning, forced=forced, params=params)
        return torch.from_numpy(params).transpose(1, 2)

    def _compiled_functions(self) -> Functions:
        """Return the functions that the model needs, compiled now, not at the first sample."""
        predictor = self.model.predictor
        if isinstance(predictor, MelPredictor):
            predictor.of_subframes(torch.zeros(1, predictor.n_mels, 2))
        return sampling_functions(self.layout.sizes, self.weight_dtype, self.num_threads)

    def _compile(self, started: float) -> None:
        """Compile or load the kernel now, not at the first sample."""
        if self.kernel.signatures:
            return
        waited = wait_for_kernel()
        compile_kernel()
        if waited or not get_cache(self.kernel).hits:
            log.info("compiled in %.1f s", time.perf_counter() - started)

    def _packed_state(self, state: SamplerState) -> PackedState:
        """Return the model state in this sampler's layout, converted if it has another one."""
        packed = state.model
        if not isinstance(packed, PackedState) or packed.layout is not self.layout:
            model_state = packed.to_wavenet_state()
            check_model_state(model_state, self.model)
            packed = self.layout.pack(model_state, state.conditioning.global_conditioning)
            state.model = packed
            last = self.model.distribution.encode(state.sample.cpu())
            packed.buffers.codes[:, 0, 0] = _int32(last.repeat_interleave(state.streams_per_item))
        return packed

    def _run(
        self,
        packed: PackedState,
        length: int,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        noise: NDArray[np.float32] | None = None,
        conditioning: LocalConditioning | None = None,
        forced: NDArray[np.int32] | None = None,
        params: NDArray[np.float32] | None = None,
        *,
        guidance: tuple[int, float] = (1, 1.0),
        needs_params: bool = True,
    ) -> NDArray[np.int32]:
        """Run the kernel over all streams; return their codes, `(streams, length)`."""
        streams, (streams_per_item, guidance_scale) = packed.batch_size, guidance
        codes, sizes = np.zeros((streams, length), np.int32), self.layout.sizes
        request = Request(
            length=length,
            position=packed.position,
            # the look-ahead of the last run had no conditioning beyond its end
            refill_lookahead=length > 0 and (packed.refill_lookahead or conditioning is not None),
            needs_params=needs_params,
            noise=np.zeros((streams, length, 1), np.float32) if noise is None else noise,
            conditioning=self._encode_conditioning(conditioning, streams),
            prediction=prediction_request(conditioning, sizes.order, sampling),
            forced_codes=np.zeros((streams, 0), np.int32) if forced is None else forced,
            params=np.zeros((streams, 0, 1), np.float32) if params is None else params,
            codes=codes,
            temperature=float(sampling.temperature),
            voiced_temperature=float(sampling.of_voiced().temperature),
            top_k=min(int(sampling.top_k or 0), sizes.params),
            top_p=1.0 if sampling.top_p is None else float(sampling.top_p),
            probability_floor=float(sampling.probability_floor),
            streams_per_item=streams_per_item,
            guidance_scale=float(guidance_scale),
        )
        pace = packed.pace[:, int(needs_params)]
        shares = thread_shares(sizes, streams, self.num_threads, streams_per_item, pace)
        run_shares(
            self.kernel, shares, request, sizes, self.functions, self.weights, packed.buffers
        )
        if length:
            packed.position += length
            packed.refill_lookahead = False
        return codes

    def _encode_conditioning(
        self, conditioning: LocalConditioning | None, streams: int
    ) -> NDArray[np.uint8]:
        """Return conditioning as the kernel reads it, with padding at the end."""
        if conditioning is None:
            return np.zeros((streams, 0, 1), np.uint8)
        values = conditioning.values.to("cpu", torch.float32).transpose(1, 2).numpy()
        length = values.shape[1] + MAX_CONDITIONED_ROWS
        rows = np.zeros((streams, length, self.layout.sizes.conditioning), np.float32)
        rows[:, : values.shape[1], : values.shape[2]] = values
        encoded = encode_rows(rows, self.weight_dtype)
        return aligned(encoded).reshape(encoded.shape)


def sampling_functions(sizes: Sizes, weight_dtype: str, num_threads: int) -> Functions:
    """Return the functions that the kernel needs for a model, loaded from disk or compiled."""
    return Functions(
        product=make_product(weight_dtype).address,
        encode=make_encode(weight_dtype).address,
        look_ahead=look_ahead.address,
        draw=(draw_from_mixture if sizes.num_mixtures > 0 else draw_class).address,
        solve_past=solve_past.address if sizes.interval > 0 else 0,
        next_sample=next_sample.address if num_threads > 1 else 0,
    )


def _int32(codes: Tensor) -> NDArray[np.int32]:
    ints: NDArray[np.int32] = codes.to(torch.int32).contiguous().numpy()
    return ints
