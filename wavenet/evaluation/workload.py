"""How long an evaluation takes, before it begins: from what it does, and from rates.

What it does follows from clips and options. Training times the passes of its model; the other rates
were measured with `recipe=demo` on a shared core of a Xeon, so an estimate is a range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wavenet.config import AudioConfig
from wavenet.data.manifest import Clip, frames_of
from wavenet.evaluation.held_out import first_seconds
from wavenet.evaluation.options import EvaluationOptions
from wavenet.evaluation.synthesis import num_compared
from wavenet.model import WaveNet
from wavenet.sampling.state import unsupported_model
from wavenet.utils.progress import duration

SAMPLED_WEIGHTS_PER_SECOND = 1.5e10  # by the `cpu` sampler: weights of the model times samples
REFERENCE_SAMPLES_PER_SECOND = 500.0  # by the sampler of a model that it does not support
COMPARED_SECONDS_PER_SECOND = 0.3  # of each waveform; most is F0
SECONDS_PER_PICTURE = 0.4
START_SECONDS = 5.0  # loads librosa, Numba and matplotlib
FASTER, SLOWER = 0.5, 2.2  # the range, as factors: an idle core, and one shared with others


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What an evaluation that makes a report does.

    Attributes:
        num_scored: Samples whose likelihood is computed, once with each speaker that is tried.
        num_generated: Samples that are drawn, one by one.
        seconds_compared: Audio of all waveforms that metrics compare.
        num_pictures: Recordings on the page.
        samples_per_second: Of the sampler.
    """

    num_scored: int
    num_generated: int
    seconds_compared: float
    num_pictures: int
    samples_per_second: float

    def seconds(self, seconds_per_sample: float) -> float:
        """Return how long it takes.

        Args:
            seconds_per_sample: Of training: scoring needs no backward pass, but float32 and a
                context before each segment.
        """
        return (
            START_SECONDS
            + self.num_scored * seconds_per_sample
            + self.num_generated / self.samples_per_second
            + self.seconds_compared * COMPARED_SECONDS_PER_SECOND
            + self.num_pictures * SECONDS_PER_PICTURE
        )


def evaluation_workload(
    model: WaveNet, audio: AudioConfig, clips: Sequence[Clip], options: EvaluationOptions
) -> Workload:
    """Return what the evaluation of a model on held-out clips does; see `Evaluator`."""
    rate, speakers = audio.sample_rate, model.config.num_speakers
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    scored = int(frames_of(first_seconds(clips, options.eval_seconds)).sum())
    generated = pictures = compared = 0
    if audio.features:
        limit = options.resynthesis_seconds
        lengths = -np.sort(-frames_of(clips))[: options.num_resynthesis]
        lengths = lengths if limit is None else np.minimum(lengths, max(1, round(limit * rate)))
        predicts = model.mel_predictor is not None
        waveforms = 1 + num_compared(model, audio, options)  # the original too
        generated = int(lengths.sum()) * (1 + predicts)
        compared, pictures = int(lengths.sum()) * waveforms, len(lengths) * waveforms
    else:
        pictures = options.num_samples * max(1, len(audio.speaker_names))
        prompt = round(options.prompt_seconds * rate)
        continues = bool(prompt) and bool((frames_of(clips) > prompt).any())
        generated = round(options.sample_seconds * rate) * (pictures + continues)
        pictures += 2 * continues
    return Workload(
        num_scored=scored * (3 if speakers > 1 else 1),
        num_generated=generated,
        seconds_compared=compared / rate,
        num_pictures=pictures,
        samples_per_second=SAMPLED_WEIGHTS_PER_SECOND / num_weights
        if unsupported_model(model) is None
        else REFERENCE_SAMPLES_PER_SECOND,
    )


def time_range(seconds: float) -> str:
    """Return a range around an estimate for a reader: `up to 1 min`, `2 to 6 min`."""
    low, high = FASTER * seconds, SLOWER * seconds
    if high >= 3600:
        return f"{duration(low)} to {duration(high)}"
    first, last = round(low / 60), max(1, round(high / 60))
    return f"{first} to {last} min" if first else f"up to {last} min"
