"""The sampler that defines the others: `model.step` in a loop.

It runs wherever PyTorch does. The copy of the model that it keeps has its weight norm folded, since
a step would otherwise compute every weight anew.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from wavenet.distributions import Draw
from wavenet.model import WaveNet, WaveNetState, unset
from wavenet.sampling.sampler import (
    PLAIN,
    Sampler,
    SamplerState,
    check_state,
    item_noise,
    item_prompts,
    item_seeds,
)


class ReferenceSampler(Sampler):
    """Plain PyTorch, one sample of one item at a time.

    Items go one after the other: the last bits of a matrix product depend on how many rows it has,
    and what an item becomes must not depend on the batch that it is in.
    """

    name = "reference"

    def __init__(self, model: WaveNet) -> None:
        self.model = folded(model).eval().requires_grad_(False)

    @torch.inference_mode()
    def start(
        self, batch_size: int = 1, prompt: Tensor | None = None, seed: int | Sequence[int] = 0
    ) -> SamplerState:
        weight = next(self.model.parameters())
        state = self.model.new_state(batch_size)
        sample = weight.new_zeros(batch_size)
        if prompt is not None and prompt.numel():
            prompt = item_prompts(prompt.to(weight), batch_size)
            for item in range(batch_size):
                self.model.prefill(_item(state, item), prompt[item : item + 1])
            state.position = prompt.shape[1]
            sample = prompt[:, -1].clone()
        return SamplerState(state, sample, item_seeds(seed, batch_size))

    @torch.inference_mode()
    def advance(
        self, state: SamplerState, length: int, draw: Draw = PLAIN, noise: Tensor | None = None
    ) -> Tensor:
        plain = state.model.plain()
        check_state(plain, self.model)
        like = next(self.model.parameters())
        plain.queues = [
            q.to(like) if q.is_floating_point() else q.to(like.device) for q in plain.queues
        ]
        state.model, state.sample = plain, state.sample.to(like)
        distribution = self.model.distribution
        uniform = item_noise(state, length, distribution.num_noise, noise).to(state.sample.device)
        signal = state.sample.new_empty(len(state.seeds), length)
        for item in range(len(state.seeds)):
            queues, sample = _item(plain, item), state.sample[item : item + 1]
            for t in range(length):
                params = self.model.step(sample, queues)
                sample = distribution.sample(params, uniform[item : item + 1, t], draw)
                signal[item, t] = sample
            state.sample[item] = sample
        plain.position += length
        state.drawn += length
        return signal

    @torch.inference_mode()
    def parameters(self, waveform: Tensor) -> Tensor:
        params: Tensor = self.model(waveform.to(next(self.model.parameters())))
        return params


def _item(state: WaveNetState, item: int) -> WaveNetState:
    """Return the state of one item, a batch of one that shares the queues' memory."""
    return WaveNetState([queue[item : item + 1] for queue in state.queues], state.position)


@torch.no_grad()
def folded(model: WaveNet) -> WaveNet:
    """Return a copy of `model` with plain weights where it has weight-normalised ones."""
    like = next(model.parameters())
    plain = unset(dataclasses.replace(model.config, weight_norm=False)).to(like)
    sources = dict(model.named_modules())
    for name, module in plain.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            parameter.copy_(getattr(sources[name], key))
    return plain
