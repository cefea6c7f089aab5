"""The sampler that launches the kernel: a warp of a GPU draws 16 streams from end to end."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.distributions import Mixture, SamplingConfig
from wavenet.distributions.distribution import raise_if_nonfinite
from wavenet.kernels.cuda.launch import Launcher
from wavenet.model import WaveNet
from wavenet.past_predictor import PastPredictor
from wavenet.sampling.conditioning import ConditioningBuffer, LocalConditioning, check_channels
from wavenet.sampling.cuda.packing import STREAMS, Widths, pack_weights, padded, to_slots
from wavenet.sampling.cuda.prediction import PredictorState, coefficients, padded_order
from wavenet.sampling.cuda.task import sampler_launch
from wavenet.sampling.cuda.warp_state import Layout, WarpState, to_history
from wavenet.sampling.reference import inference_copy
from wavenet.sampling.sampler import DEFAULT_SAMPLING, Sampler
from wavenet.sampling.state import SamplerState, check_standard_model, to_model
from wavenet.utils.errors import ConfigError

PIECE = 1024  # samples of a launch: short enough for a GPU that also draws a screen
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LARGEST_FACTOR = 1e37  # of logits, for temperatures near 0


class CudaSampler(Sampler):
    """All streams at once, 16 in each warp of a GPU, by tensor cores.

    In float32 its parameters differ from those of `reference` by rounding, less than 1e-4, and
    under the same noise its signal is the same, except where a draw is so near to the border of two
    codes (1e-5) that rounding decides. In bfloat16 weights and the operands of products are
    rounded, sums are in float32. Predictions of a linear predictor are exact, given the past. The
    bits of an item depend neither on its batch nor on chunks.

    Args:
        model: The model, on the kernel's device; the sampler keeps a copy.
        kernel: Compiled for the weight dtype, and for a linear predictor if the model has one.
        weight_dtype: `float32`; `bfloat16`, faster and less exact.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: The kernel cannot compute the model; the message says why.
    """

    name = "cuda"

    def __init__(self, model: WaveNet, kernel: Launcher, weight_dtype: str = "float32") -> None:
        check_supported(model, weight_dtype)
        self.model = inference_copy(model).to(kernel.device, torch.float32)
        self.kernel, self.weight_dtype = kernel, weight_dtype
        self.dtype, self.widths = DTYPES[weight_dtype], Widths.of(self.model)
        self.shared_bytes = self.widths.shared_bytes(self.dtype)
        if self.shared_bytes > kernel.max_shared_bytes:
            raise ConfigError(
                f"backend=cuda needs {self.shared_bytes} bytes of shared memory for the widths of "
                f"this model, and the GPU has {kernel.max_shared_bytes}: use backend=graph"
            )
        config, distribution = self.model.config, self.model.distribution
        self.layout = Layout(config, distribution, self.dtype, kernel.device)
        self.weights = pack_weights(self.model, self.widths, self.dtype)
        self.numbers = self._numbers_of_model()

    def __reduce__(self) -> Any:
        """Copies and pickles are made anew, with a kernel of their process."""
        return type(self), (self.model, self.kernel, self.weight_dtype)

    def chunk_length(self, batch_size: int) -> int:
        return PIECE

    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> WarpState:
        return self.layout.new_state(streams)

    def prefill(
        self, state: SamplerState, prompt: Tensor, local_conditioning: LocalConditioning | None
    ) -> None:
        warp_state, codes = self._warp_state(state), self._encode(prompt)
        length, layout = codes.shape[1], self.layout
        first = max(0, length - self.model.config.receptive_field)  # no queue reaches further back
        start = self._encode(codes.new_zeros(len(codes), 1).float())
        silence = torch.full_like(codes[:, :1], layout.silence)
        memory = layout.input_memory
        inputs = torch.cat([silence.expand(-1, memory), start, codes], dim=1)  # of each sample
        rows = torch.arange(first - memory, first, device=codes.device) % max(memory, 1)
        history = silence.T.repeat(memory, layout.num_signals, 1)  # of predictions, this will do
        history[rows, 0] = inputs[:, first : first + memory].T
        warp_state.history = to_history(history.flatten(0, 1))
        if layout.order:
            seen = self.model.distribution.decode(inputs[:, memory:][:, :first])
            warp_state.predictor = PredictorState.after(seen, layout.order)
        warp_state.position = first
        recent = None if local_conditioning is None else local_conditioning.after(first)
        self._run(state, length - first, inputs[:, first + memory], recent, forced=codes[:, first:])

    def next_noise(self, state: SamplerState, length: int) -> Tensor:
        return torch.empty(len(state.seeds), length, 0)  # the kernel makes it

    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: LocalConditioning | None,
    ) -> Tensor:
        last = self._encode(state.sample).repeat_interleave(state.streams_per_item)
        codes, _ = self._run(
            state, length, last, local_conditioning, sampling=sampling, noise=noise
        )
        codes = codes[:: state.streams_per_item]
        raise_if_nonfinite(codes >= 0)
        return self.model.distribution.decode(codes)

    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: LocalConditioning | None
    ) -> Tensor:
        forced, last = self._encode(waveform), self._encode(state.sample)
        length = forced.shape[1]
        _, params = self._run(
            state, length, last, local_conditioning, forced=forced, needs_params=True
        )
        return params[:, : self.model.distribution.num_params]

    def _run(
        self,
        state: SamplerState,
        length: int,
        last: Tensor,
        local_conditioning: LocalConditioning | None,
        *,
        sampling: SamplingConfig = DEFAULT_SAMPLING,
        noise: Tensor | None = None,
        forced: Tensor | None = None,
        needs_params: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Advance all streams; return codes `(streams, T)` and parameters `(streams, P, T)`.

        Args:
            state: Its model state is changed.
            length: Samples.
            last: Code of the sample before, `(streams,)`.
            local_conditioning: Of these samples.
            sampling: How codes are drawn.
            noise: `(items, T, K)`; the kernel makes it where `K` is 0.
            forced: Codes that are not drawn but given, `(streams, T)`.
            needs_params: Whether to return parameters, of given codes.
        """
        warp_state, streams = self._warp_state(state), len(last)
        shared = state.conditioning.global_conditioning
        local = None if local_conditioning is None else local_conditioning.values
        conditioner = self.model.config.local
        check_channels("local", local, 0 if conditioner is None else conditioner.channels)
        codes = [last.new_zeros(streams, 0)]
        params = [torch.zeros(streams, self.widths.params, 0, device=self.kernel.device)]
        gated = self._slots(len(self.layout.memories), streams, self.widths.gated)
        fixed = {**warp_state.tensors(), "gated": gated}
        if shared is not None:
            rows = shared.to(self.kernel.device, torch.float32).unsqueeze(0)
            fixed["shared_conditioning"] = to_slots(rows, self.dtype)
        seeds = torch.tensor([seed - 2**64 * (seed >= 2**63) for seed in state.seeds])
        per_item = state.streams_per_item
        fixed["seeds"] = self._rows(seeds.repeat_interleave(per_item).unsqueeze(1))
        for first in range(0, length, PIECE):
            piece = slice(first, min(first + PIECE, length))
            tensors = {**self.weights, **fixed, "last": self._rows(last.int().unsqueeze(1))}
            tensors["blocks"] = self.layout.blocks(warp_state.position)
            if local is not None:
                rows = local[..., piece].permute(2, 0, 1)
                tensors["local_conditioning"] = to_slots(rows.float(), self.dtype)
            if self.layout.order:
                tensors |= coefficients(local_conditioning, piece, self.numbers["order"])
            if noise is not None and noise.shape[2]:
                own = noise[:, piece].float().repeat_interleave(per_item, dim=0)
                tensors["noise"] = self._rows(own)
            count = piece.stop - first
            shape = count, padded(streams)
            if forced is not None:
                tensors["forced"] = self._rows(forced[:, piece].int())
            else:
                tensors["codes"] = last.new_empty(shape, dtype=torch.int32)
            if needs_params:
                tensors["params"] = gated.new_empty(*shape, self.widths.params, dtype=torch.float32)
            self._launch(state, tensors, count, first, sampling)
            warp_state.position += count
            if needs_params:
                params.append(tensors["params"][:, :streams].permute(1, 2, 0))
            if forced is None:
                codes.append(tensors["codes"][:, :streams].T.long())
                last = codes[-1][:, -1].clamp(min=0)
            else:
                last = forced[:, piece.stop - 1]
        return torch.cat(codes, dim=1), torch.cat(params, dim=2)

    def _launch(
        self,
        state: SamplerState,
        tensors: dict[str, Tensor],
        length: int,
        first: int,
        sampling: SamplingConfig,
    ) -> None:
        """Launch the kernel for `length` samples, the first of which is `first` of this call."""
        position, num_noise = state.model.position, self.model.distribution.num_noise
        numbers = {
            **self.numbers,
            "length": length,
            "warps": tensors["queues"].shape[1],
            "history_row": position % max(self.layout.input_memory, 1),
            "first_place": position % max(self.numbers["order"], 1),
            "first_uniform": (state.num_generated + first) * num_noise,
            "guided": state.streams_per_item == 2,
            "guidance_scale": state.guidance_scale,
            "temperature": sampling.temperature,
            "inverse_temperature": min(1 / sampling.temperature, LARGEST_FACTOR)
            if sampling.temperature
            else 0.0,
            "top_k": sampling.top_k or 0,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "probability_floor": sampling.probability_floor,
        }
        for name, tensor in tensors.items():  # the kernel sees addresses only
            assert tensor.device == self.kernel.device, name
            assert tensor.is_contiguous(), name
        if numbers["warps"]:  # the driver refuses a launch of 0 blocks
            self.kernel.launch(sampler_launch(tensors, numbers, self.shared_bytes))

    def _numbers_of_model(self) -> dict[str, Any]:
        config, distribution, widths = self.model.config, self.model.distribution, self.widths
        is_mixture = isinstance(distribution, Mixture)
        return {
            "num_blocks": len(config.dilations),
            "taps": config.kernel_size,
            "input_taps": config.input_kernel_size,
            "input_rows": len(self.weights["table"])
            // (config.input_kernel_size * self.layout.num_signals),
            "order": padded_order(self.layout.order),
            "residual": widths.residual,
            "gated_width": widths.gated,
            "skip": widths.skip,
            "head": widths.head,
            "params_width": widths.params,
            "local": widths.local,
            "shared": widths.shared,
            "num_uniforms": distribution.num_noise,
            "num_params": distribution.num_params,
            "num_mixtures": config.num_mixtures if is_mixture else 0,
            "is_gaussian": distribution.compiled_draw == "gaussian_mixture",
            "min_log_scale": config.min_log_scale,
            "residual_scale": config.residual_scale,
        }

    def _slots(self, rows: int, streams: int, width: int) -> Tensor:
        shape = padded(streams) // STREAMS, rows, STREAMS * width
        return torch.empty(shape, dtype=self.dtype, device=self.kernel.device)

    def _rows(self, x: Tensor) -> Tensor:
        """Return numbers of streams `(streams, T, ...)` as `(T, streams, ...)`, padded."""
        x = x.to(self.kernel.device)
        padding = [0, 0] * (x.dim() - 1) + [0, padded(len(x)) - len(x)]
        return F.pad(x, padding).transpose(0, 1).contiguous()

    def _encode(self, waveform: Tensor) -> Tensor:
        return self.model.distribution.encode(waveform.to(self.kernel.device, torch.float32))

    def _warp_state(self, state: SamplerState) -> WarpState:
        """Return the model state in this sampler's layout, converted if it has another one."""
        warp_state = state.model
        if not isinstance(warp_state, WarpState) or warp_state.layout is not self.layout:
            warp_state = self.layout.pack(to_model(warp_state.to_wavenet_state(), self.model))
            state.model = warp_state
        return warp_state


def check_supported(model: WaveNet, weight_dtype: str) -> None:
    """Raise unless the kernel computes `model` in `weight_dtype`.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: It does not; the message says why.
    """
    if weight_dtype not in DTYPES:
        raise ConfigError(
            f"backend=cuda has weight_dtype=float32 and bfloat16, got {weight_dtype}: use "
            "backend=cpu"
        )
    if isinstance(model.predictor, PastPredictor):
        raise ConfigError(
            "backend=cuda does not know predictor.source=past: use backend=graph, or backend=cpu"
        )
    check_standard_model(model, "cuda")
