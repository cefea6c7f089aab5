"""Bits per 8-bit mu-law class of a model with a 16-bit density, beside plain mu-law models.

    python docs/models/mu_law_bits.py RUN/model ...

Both are asked the same question, in which of 256 mu-law classes a held-out sample lies; the past of
a 16-bit model has 16 bits.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor

import wavenet
from wavenet.data.dataset import SequentialSegments
from wavenet.data.options import DataOptions
from wavenet.distributions import Mixture
from wavenet.distributions.companding import companding_tables, mu_law_class_of_code
from wavenet.evaluation.held_out import held_out_clips
from wavenet.evaluation.nll import evaluating, make_clip_reader
from wavenet.features.frames import Features


def class_nll(distribution: Mixture, params: Tensor, waveform: Tensor) -> Tensor:
    """Return the negative log-mass of each sample's class in nats, `(B, T)`."""
    logits, means, log_scales = distribution.split(params.double())
    edges, infinity = companding_tables("mu-law", 256)[0], torch.tensor([math.inf]).double()
    edges = torch.cat([-infinity, edges, infinity])
    classes = mu_law_class_of_code()[distribution.encode(waveform)].unsqueeze(1)
    scales = log_scales.exp()
    lower, upper = (edges[classes] - means) / scales, (edges[classes + 1] - means) / scales
    turned = lower + upper > 0  # the tail in which the masses below the edges do not cancel
    lower, upper = torch.where(turned, -upper, lower), torch.where(turned, -lower, upper)
    below_upper = distribution.log_below(upper)
    difference = distribution.log_below(lower) - below_upper
    mass = below_upper + torch.log(-torch.expm1(difference.clamp(max=-1e-12)))
    return -torch.logsumexp(torch.log_softmax(logits, dim=1) + mass, dim=1)


def bits_per_class(folder: Path) -> float:
    """Return bits per mu-law class on the held-out clips of a run's model."""
    loaded = wavenet.load(folder)
    model, audio, _ = loaded
    prepared, clips = held_out_clips(folder, loaded, DataOptions(sample_rate=audio.sample_rate))
    reader = make_clip_reader(model.config, audio, prepared)
    windows = SequentialSegments(reader, clips, context=model.config.receptive_field)
    features, nats, count = Features(audio), 0.0, 0
    with evaluating(model):
        for index in range(len(windows)):
            window = windows[index]
            params, waveform = model(window["waveform"], **features(window)), window["waveform"]
            if isinstance(model.distribution, Mixture):
                each = class_nll(model.distribution, params, waveform)
            else:
                each = model.distribution.nll(params, waveform)
            nats += float((each * window["mask"]).sum())
            count += int(window["mask"].sum())
    return nats / count / math.log(2)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{bits_per_class(Path(name)):.3f}  {name}", flush=True)
