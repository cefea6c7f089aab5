"""The card of a model, the README.md of its directory: what it is, what it was trained on, its use.

Its head is YAML, as the Hugging Face hub reads it.
"""

from dataclasses import dataclass

from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import printable

CARD_TEMPLATE = """---
library_name: torch-wavenet
tags: [audio, wavenet]
---
# WaveNet

| | |
| --- | --- |
{table}

```sh
pip install 'torch-wavenet[{extra}]'
wavenet-generate checkpoint=PATH {arguments}
```
"""


@dataclass(frozen=True, kw_only=True)
class TrainingInfo:
    """What a model was trained on, for its card.

    Attributes:
        data: Name of the data set.
        steps: Updates of the weights.
        seconds_of_audio: Length of the training audio.
        bits_per_sample: On held-out audio; absent if none was held out.
        dataset: Which clips, and how they are split; absent if that is not known.
    """

    data: str = ""
    steps: int = 0
    seconds_of_audio: float = 0.0
    bits_per_sample: float | None = None
    dataset: DataIdentity | None = None


def model_card(model: WaveNet, audio: AudioConfig, training: TrainingInfo) -> str:
    """Return a model's README.md: what it is, what it was trained on, how to use it."""
    bits, mel = training.bits_per_sample, audio.mel
    rows = model_facts(model, audio, training)
    if mel is not None:
        rows["Mel"] = (
            f"{mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz, windows of "
            f"{mel.win_length} samples, FFT of {mel.n_fft}, {mel.log_base} logarithm; complete in "
            "config.json"
        )
    rows["Held-out bits per sample"] = (
        "not measured" if bits is None else f"{bits:.3f}; comparable where the codes are the same"
    )
    return CARD_TEMPLATE.format(
        table="\n".join(f"| {name} | {printable(value)} |" for name, value in rows.items()),
        extra="train" if audio.features else "generate",
        arguments=_generate_arguments(audio),
    )


def model_facts(model: WaveNet, audio: AudioConfig, training: TrainingInfo) -> dict[str, str]:
    """Return what a model is and what it was trained on, by name, for its card and its report."""
    config = model.config
    seconds = config.receptive_field_seconds(audio.sample_rate)
    facts = {
        "Data": training.data or "not given",
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{audio.sample_rate:,} Hz",
        "Steps": f"{training.steps:,}",
        "Blocks": str(len(config.dilations)),
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Receptive field": f"{config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
        "Output distribution": model.distribution.describe(),
    }
    if audio.features:
        facts["Conditioning"] = f"{' and '.join(audio.features)}, every {audio.hop_length} samples"
    if audio.speaker_names:
        facts["Speakers"] = ", ".join(map(printable, audio.speaker_names))
    return facts


def _generate_arguments(audio: AudioConfig) -> str:
    """Return arguments of `wavenet-generate` that this model takes."""
    arguments = "seconds=5 output=speech.wav"
    if audio.features:
        from_recording = audio.mel is not None or audio.f0 is not None
        source = "speech.wav" if from_recording else "score.csv"
        arguments = f"input={source} output=generated.wav"
    if audio.speaker_names:
        arguments += f" speaker='{audio.speaker_names[0]}'"
    return arguments
