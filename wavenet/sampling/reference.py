"""The backend that defines the others: `WaveNet.step` in a loop.

It computes the model that it is given, including subclassed and replaced modules, and runs wherever
PyTorch does. What a step would leave out, such as forward hooks of a block, is refused by name.
"""

import copy
import dataclasses
import importlib.util

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wavenet.distributions import SamplingConfig
from wavenet.distributions.distribution import widen
from wavenet.model import WaveNet, WaveNetState
from wavenet.sampling.conditioning import ConditioningBuffer, LocalConditioning
from wavenet.sampling.sampler import Sampler
from wavenet.sampling.state import ModelState, SamplerState, signals_like, to_model
from wavenet.sampling.voicing import voiced_subframes


class ReferenceSampler(Sampler):
    """Plain PyTorch, one sample of one item at a time.

    Items are computed one after the other: the last bits of a matrix product depend on its number
    of rows, and an item must not depend on its batch. The network computes in the dtype of the
    model; signals, and draws from its parameters, are float32 at least.
    """

    name = "reference"
    draws_by_voicing = True

    @property
    def prefill_streams(self) -> int:
        """Streams whose prompts are prefilled at once."""
        return 1

    def __init__(self, model: WaveNet) -> None:
        self.model = inference_copy(model)

    def init_model_state(self, streams: int, conditioning: ConditioningBuffer) -> ModelState:
        return self.model.new_state(streams)

    def prefill(
        self, state: SamplerState, prompt: Tensor, local_conditioning: LocalConditioning | None
    ) -> None:
        model_state, length = to_model(state.model.to_wavenet_state(), self.model), prompt.shape[1]
        conditioning = self._conditioning(state, local_conditioning, length)
        for first in range(0, len(prompt), self.prefill_streams):
            streams = slice(first, first + self.prefill_streams)
            own = None if conditioning is None else conditioning[streams]
            self.model.prefill(_some(model_state, streams), prompt[streams], own)
        model_state.position = length
        state.model = model_state

    def sample(
        self,
        state: SamplerState,
        length: int,
        sampling: SamplingConfig,
        noise: Tensor,
        local_conditioning: LocalConditioning | None,
    ) -> Tensor:
        model_state = to_model(state.model.to_wavenet_state(), self.model)
        like, per_item = signals_like(self.model), state.streams_per_item
        state.model, state.sample = model_state, state.sample.to(like)
        noise = noise.to(like.device)
        conditioning = self._conditioning(state, local_conditioning, length)
        draws = self._draws(sampling, local_conditioning)
        signal = like.new_empty(len(state.seeds), length)
        for item in range(len(state.seeds)):
            streams = range(per_item * item, per_item * (item + 1))
            states = [_some(model_state, slice(stream, stream + 1)) for stream in streams]
            sample = state.sample[item : item + 1]
            for t in range(length):
                steps = [
                    self.model.step(
                        sample,
                        stream_state,
                        None if conditioning is None else conditioning[stream : stream + 1, :, t],
                    )
                    for stream, stream_state in zip(streams, states, strict=True)
                ]
                params, *unconditional = map(widen, steps)
                if unconditional:
                    params = guide(params, unconditional[0], state.guidance_scale)
                uniforms = noise[item : item + 1, t]
                draw = sampling if draws is None else draws[per_item * item][t]
                sample = self.model.distribution.sample(params, uniforms, draw)
                signal[item, t] = sample
        model_state.position += length
        return signal

    def teacher_forced_params(
        self, state: SamplerState, waveform: Tensor, local_conditioning: LocalConditioning | None
    ) -> Tensor:
        waveform = waveform.to(next(self.model.parameters()).device)  # `forward` rounds it to codes
        conditioning = self._conditioning(state, local_conditioning, waveform.shape[1])
        params: Tensor = self.model.forward_from_conditioning(waveform, conditioning)
        return params

    def _draws(
        self, sampling: SamplingConfig, given: LocalConditioning | None
    ) -> list[list[SamplingConfig]] | None:
        """Return how each stream's samples are drawn; `None` for all in the same way."""
        if sampling.voiced_temperature is None or given is None or given.subframes is None:
            return None
        voiced = voiced_subframes(given).cpu()[:, given.subframes].tolist()
        how = (sampling, sampling.of_voiced())
        return [[how[is_voiced] for is_voiced in stream] for stream in voiced]

    def _conditioning(
        self, state: SamplerState, local_conditioning: LocalConditioning | None, length: int
    ) -> Tensor | None:
        """Return local and global conditioning of each stream's samples, `(streams, C, length)`."""
        parts = [] if local_conditioning is None else [local_conditioning.joined()]
        global_conditioning = state.conditioning.global_conditioning
        if global_conditioning is not None:
            like = next(self.model.parameters())
            parts.append(global_conditioning.to(like).unsqueeze(-1).expand(-1, -1, length))
        return torch.cat(parts, dim=1) if parts else None


def guide(params: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Return parameters under classifier-free guidance, `unconditional + scale * difference`.

    Ho and Salimans 2022, applied to logits; for mixtures to all parameters. Equal numbers,
    infinite ones too, stay as they are.
    """
    guided = unconditional + guidance_scale * (params - unconditional)
    return torch.where(params == unconditional, params, guided)


@torch.no_grad()
def inference_copy(model: WaveNet) -> WaveNet:
    """Return an independent copy in eval mode, without gradients and parametrizations.

    Weight norm would compute every weight again at each step; in eval mode its result is constant.
    """
    # torch does not copy what a hook computed, for pruning or weight norm; a call computes it anew
    computed = [value for module in model.modules() for value in vars(module).values()]
    computed = [one for one in computed if isinstance(one, Tensor) and not one.is_leaf]
    copied = copy.deepcopy(model, {id(one): one.detach().clone() for one in computed}).eval()
    if copied.predictor is not None and importlib.util.find_spec("numba"):
        from wavenet.kernels.cpu_predictors import use_compiled_coefficients

        use_compiled_coefficients(copied.predictor)  # in all samplers, for equal signals
    for module in list(copied.modules()):
        if not parametrize.is_parametrized(module):
            continue
        # not `remove_parametrizations`: it changes the class, which the copy shares with the model
        assert isinstance(module.parametrizations, nn.ModuleDict)
        values = {name: getattr(module, name) for name in module.parametrizations}
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module._load_state_dict_pre_hooks.clear()  # for their names; they cannot be pickled
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))
    copied.config = dataclasses.replace(copied.config, weight_norm=False)
    for parameter in copied.parameters():
        parameter.requires_grad_(False).grad = None
    return copied


def _some(state: WaveNetState, streams: slice) -> WaveNetState:
    """Return the state of some streams, which shares the memory of the queues."""
    return WaveNetState([queue[streams] for queue in state.queues], state.position)
