"""The sampler that defines the others: `model.step` in a loop.

It runs wherever PyTorch does. The copy of the model that it keeps has its weight norm folded, since
a step would otherwise compute every weight anew.
"""

import dataclasses

import torch
from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.model import WaveNet, WaveNetState, init_empty
from wavenet.sampling.conditioning import ConditioningBuffer
from wavenet.sampling.sampler import Sampler, SamplerState, check_state


class ReferenceSampler(Sampler):
    """Plain PyTorch, one sample of one item at a time.

    Items go one after the other: the last bits of a matrix product depend on how many rows it has,
    and what an item becomes must not depend on the batch that it is in.
    """

    name = "reference"

    def __init__(self, model: WaveNet) -> None:
        self.model = remove_weight_norm(model).eval().requires_grad_(False)

    def init_model_state(self, streams: int, conditions: ConditioningBuffer) -> WaveNetState:
        return self.model.new_state(streams)

    def prefill(self, state: SamplerState, prompt: Tensor, condition: Tensor | None) -> None:
        plain, whole = state.model.plain(), self._whole(state, condition, prompt.shape[1])
        for stream in range(len(prompt)):
            its = None if whole is None else whole[stream : stream + 1]
            self.model.prefill(_stream(plain, stream), prompt[stream : stream + 1], its)
        plain.position = prompt.shape[1]

    def sample(
        self,
        state: SamplerState,
        length: int,
        draw: SamplingConfig,
        noise: Tensor,
        condition: Tensor | None,
    ) -> Tensor:
        plain, like = state.model.plain(), next(self.model.parameters())
        check_state(plain, self.model)
        plain.queues = [
            q.to(like) if q.is_floating_point() else q.to(like.device) for q in plain.queues
        ]
        state.model, state.sample = plain, state.sample.to(like)
        copies, uniform = state.streams_per_item, noise.to(like.device)
        if condition is not None:
            condition = condition.repeat_interleave(copies, dim=0)
        whole = self._whole(state, condition, length)
        signal = like.new_empty(len(state.seeds), length)
        for item in range(len(state.seeds)):
            streams = range(copies * item, copies * (item + 1))
            queues = [_stream(plain, stream) for stream in streams]
            sample = state.sample[item : item + 1]
            for t in range(length):
                own, *others = [
                    self.model.step(
                        sample, queue, None if whole is None else whole[stream : stream + 1, :, t]
                    )
                    for stream, queue in zip(streams, queues, strict=True)
                ]
                params = guided(own, others[0], state.guidance_scale) if others else own
                uniforms = uniform[item : item + 1, t]
                sample = self.model.distribution.sample(params, uniforms, draw)
                signal[item, t] = sample
        plain.position += length
        return signal

    def teacher_forced_from(
        self, state: SamplerState, waveform: Tensor, condition: Tensor | None
    ) -> Tensor:
        waveform = waveform.to(next(self.model.parameters()))
        whole = self._whole(state, condition, waveform.shape[1])
        params: Tensor = self.model.forward_from_conditioning(waveform, whole)
        return params

    def _whole(self, state: SamplerState, condition: Tensor | None, length: int) -> Tensor | None:
        """Return local and global condition of each stream's samples, `(streams, C, length)`."""
        parts = [] if condition is None else [condition]
        whole = state.conditioning.global_conditioning
        if whole is not None:
            like = next(self.model.parameters())
            parts.append(whole.to(like).unsqueeze(-1).expand(-1, -1, length))
        return torch.cat(parts, dim=1) if parts else None


def guided(own: Tensor, unknown: Tensor, guidance_scale: float) -> Tensor:
    """Return parameters `guidance_scale` times as far from the unknown's as the item's own are.

    Classifier-free guidance (Ho and Salimans 2022), on logits; for mixtures on their parameters.
    """
    return torch.where(own == unknown, own, unknown + guidance_scale * (own - unknown))


def _stream(state: WaveNetState, stream: int) -> WaveNetState:
    """Return the state of one stream, a batch of one that shares the queues' memory."""
    return WaveNetState([queue[stream : stream + 1] for queue in state.queues], state.position)


@torch.no_grad()
def remove_weight_norm(model: WaveNet) -> WaveNet:
    """Return a copy of `model` with plain weights where it has weight-normalised ones."""
    like = next(model.parameters())
    plain = init_empty(dataclasses.replace(model.config, weight_norm=False)).to(like)
    sources = dict(model.named_modules())
    for name, module in plain.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            parameter.copy_(getattr(sources[name], key))
    return plain
