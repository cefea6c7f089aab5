"""The README.md of a model directory: what the model is, what it was trained on, how to use it."""

from dataclasses import dataclass

from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import printable

TEMPLATE = """---
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
    """Return the card of a model as Markdown.

    Args:
        model: The model.
        audio: Meaning of its signal.
        training: What it was trained on.
    """
    config, bits = model.config, training.bits_per_sample
    seconds = config.receptive_field_seconds(audio.sample_rate)
    rows = {
        "Data": training.data or "not given",
        "Training audio": f"{training.seconds_of_audio / 60:.1f} minutes",
        "Sample rate": f"{audio.sample_rate} Hz",
        "Steps": f"{training.steps:,}",
        "Held-out bits per sample": "not measured" if bits is None else f"{bits:.3f}",
        "Blocks": f"{len(config.dilations)}",
        "Receptive field": f"{config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Output distribution": model.distribution.describe(),
        **_conditioning_rows(audio),
    }
    return TEMPLATE.format(
        table="\n".join(f"| {name} | {printable(value)} |" for name, value in rows.items()),
        extra="train" if audio.features else "generate",
        arguments=_generate_arguments(audio),
    )


def _conditioning_rows(audio: AudioConfig) -> dict[str, str]:
    rows = {}
    if audio.features:
        rows["Conditioning"] = f"{' and '.join(audio.features)}, every {audio.hop_length} samples"
    if audio.mel is not None:
        mel = audio.mel
        rows["Mel"] = (
            f"{mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz, windows of "
            f"{mel.win_length} samples, FFT of {mel.n_fft}, {mel.log_base} logarithm; complete in "
            "config.json"
        )
    if audio.speaker_names:
        rows["Speakers"] = ", ".join(audio.speaker_names)
    return rows


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
