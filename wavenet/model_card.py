"""The card of a model, the README.md of its directory: what it is, what it was trained on, its use.

Its head is YAML, as the Hugging Face hub reads it
(https://huggingface.co/docs/hub/model-cards#model-card-metadata).
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import printable

if TYPE_CHECKING:  # imports torch, which errors of typing do not need
    from wavenet.model import WaveNet

HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>\S+))?", re.ASCII
)
HUB_LICENSES = re.compile(  # identifiers of the hub; it takes others as `other` with a name
    r"mit|isc|zlib|unlicense|wtfpl|apache-2\.0|mpl-2\.0|bsd-[23]-clause|odc-by|odbl|pddl|cc0-1\.0"
    r"|(l|a)?gpl-3\.0|l?gpl-2\.[01]|eupl-1\.[12]|cdla-(sharing|permissive)-1\.0|cc-by-[234]\.0"
    r"|cc-by-sa-[34]\.0|cc-by-nc-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|cc-by-nc-sa-[234]\.0"
    r"|openrail|other|unknown"
)
ADDED = {"added": True}  # fields that are written only if they are given
MAX_TEXT = 10_000  # characters of an attribution or a command
HERE, THIS_FOLDER = "In the folder of this file:\n\n", "checkpoint=. "

CARD_TEMPLATE = """---
{metadata}
---
# WaveNet{title}

| | |
| --- | --- |
{table}

## Use

{here}```sh
pip install 'torch-wavenet[{extra}]' # beside a clone: pip install './torch-wavenet[{extra}]'
wavenet-generate {this_folder}{arguments}
```
{files}{origin}"""


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A model that another one was made from, for the card of that one.

    Attributes:
        name: `owner/name` on the Hugging Face hub, or a description.
        data: Name of its data set.
        license: License of its weights.
        data_license: License of its training audio.
    """

    name: str
    data: str = ""
    license: str | None = None
    data_license: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingInfo:
    """What a model was trained on, for its card.

    Attributes:
        data: Name of the data set.
        steps: Updates of the weights.
        seconds_of_audio: Length of the training audio.
        bits_per_sample: Of the validation during training that chose the weights; absent if no
            audio was held out for it.
        dataset: Which clips, and how they are split; absent if that is not known.
        license: License of the weights, by SPDX identifier if it has one, such as `CC-BY-4.0`.
        data_license: License of the training audio.
        base_model: What the weights were imported or fine-tuned from: `owner/name` on the Hugging
            Face hub, or a description.
        lineage: If the weights were fine-tuned: `base_model` with its licenses, what that one was
            made from, and so on.
        evaluation: Figures of an evaluation after training, by name: of test recordings, where
            there are some; absent if there was none.
        temperature: That suits the model, as in its own report; absent for 1.
        attribution: Who made the training audio, as its license requires.
        command: Command line that trained the model.
        duration: How long that took, and on which machine.
    """

    data: str = ""
    steps: int = 0
    seconds_of_audio: float = 0.0
    bits_per_sample: float | None = None
    dataset: DataIdentity | None = None
    license: str | None = field(default=None, metadata=ADDED)
    data_license: str | None = field(default=None, metadata=ADDED)
    base_model: str | None = field(default=None, metadata=ADDED)
    lineage: tuple[BaseModel, ...] = field(default=(), metadata=ADDED)
    evaluation: dict[str, float] | None = field(default=None, metadata=ADDED)
    temperature: float | None = field(default=None, metadata=ADDED)
    attribution: str | None = field(default=None, metadata=ADDED)
    command: str | None = field(default=None, metadata=ADDED)
    duration: str | None = field(default=None, metadata=ADDED)


def model_card(model: "WaveNet", audio: AudioConfig, training: TrainingInfo) -> str:
    """Return a model's README.md: what it is, what it was trained on, how to use it."""
    bits, mel = training.bits_per_sample, audio.mel
    rows = model_facts(model, audio, training)
    if mel is not None:
        rows["Mel"] = (
            f"{mel.n_mels} bands from {mel.f_min:g} to {mel.f_max:g} Hz, windows of "
            f"{mel.win_length} samples, FFT of {mel.n_fft}, {mel.log_base} logarithm; complete in "
            "config.json"
        )
    if audio.frames is not None:
        what = printable(audio.frames.description) or "not described"
        rows["Frames"] = f"{what}; {audio.frames.channels} channels"
    rows["Validation bits per sample"] = "not measured"
    if bits is not None:
        rows["Validation bits per sample"] = (
            f"{bits:.3f}; during training; comparable where the codes are the same"
        )
    if training.evaluation:
        rows["Evaluation"] = (
            "after training, on the recordings held out for the test; on those of the validation "
            "where there are none"
        )
    for name, value in (training.evaluation or {}).items():
        rows[f"Evaluation: {name}"] = f"{value:.3f}"
    bases = training.lineage
    rows["License of the weights"] = _licenses(training.license, [base.license for base in bases])
    rows["License of the data"] = _licenses(
        training.data_license, [base.data_license for base in bases]
    )
    if training.duration:
        rows["Time of training"] = training.duration
    files = "".join(f"\n`{name}`: {what}.\n" for name, what in _input_files(audio).items())
    return CARD_TEMPLATE.format(
        metadata=_metadata(audio, training),
        title=f": {printable(training.data)}" if training.data else "",
        table="\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()),
        here=HERE,
        extra="train" if {*audio.features} - {"frames"} else "generate",
        this_folder=THIS_FOLDER,
        arguments=generate_arguments(audio),
        files=files,
        origin=_origin(training),
    )


def card_for_hub(card: str, repo_id: str) -> str:
    """Return a card whose commands take the model from a repository on the hub."""
    card = re.sub(r"torch-wavenet\[(\w+)\]", r"torch-wavenet[\1,hub]", card)
    return card.replace(HERE, "").replace(THIS_FOLDER, f"checkpoint={repo_id} ")


def model_facts(model: "WaveNet", audio: AudioConfig, training: TrainingInfo) -> dict[str, str]:
    """Return what a model is and what it was trained on, by name, for its card and its report."""
    config = model.config
    seconds = config.receptive_field_seconds(audio.sample_rate)
    minutes = training.seconds_of_audio / 60
    facts = {
        "Data": training.data or "not given",
        "Training audio": f"{minutes:.1f} minutes" if minutes else "not given",
        "Sample rate": f"{audio.sample_rate:,} Hz",
        "Steps": f"{training.steps:,}",
        "Blocks": str(len(config.dilations)),
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Receptive field": f"{config.receptive_field:,} samples, {1000 * seconds:.0f} ms",
        "Output distribution": model.distribution.describe(),
    }
    if training.base_model:
        facts["Base model"] = ", made from ".join(
            _describe(base) for base in training.lineage or (BaseModel(name=training.base_model),)
        )
    if audio.features:
        facts["Conditioning"] = f"{' and '.join(audio.features)}, every {audio.hop_length} samples"
    if config.predictor is not None:
        order, source = config.predictor.order, config.predictor.source
        sources = {"mel": "the mel spectrogram", "past": "the samples before"}
        facts["Linear prediction"] = f"order {order}, from {sources[source]}"
    if audio.speaker_names:
        facts["Speakers"] = ", ".join(map(printable, audio.speaker_names))
    return facts


def lineage_from(name: str, training: TrainingInfo) -> tuple[BaseModel, ...]:
    """Return the lineage of a model that is fine-tuned from `name`, which `training` describes."""
    base = BaseModel(
        name=name,
        data=training.data,
        license=training.license,
        data_license=training.data_license,
    )
    older = training.lineage
    if training.base_model and not older:  # imported
        older = (BaseModel(name=training.base_model),)
    return (base, *older)


def inputs_of(config: WaveNetConfig, audio: AudioConfig) -> tuple[str, ...]:
    """Return what a model is conditioned on: features, `speaker`, `vector`; empty for nothing."""
    inputs = [*audio.features, *["speaker"] * bool(config.num_speakers)]
    return (*inputs, *["vector"] * bool(config.global_in_channels))


def _origin(training: TrainingInfo) -> str:
    """Return the sections on the training audio and on the command, as far as they are known."""
    attribution, command = (
        printable(text or "", MAX_TEXT) for text in (training.attribution, training.command)
    )
    return (f"\n## Attribution\n\n{attribution}\n" if attribution else "") + (
        f"\n## Training\n\n```sh\n{command}\n```\n" if command else ""
    )


def _metadata(audio: AudioConfig, training: TrainingInfo) -> str:
    """Return the lines of YAML that the hub reads."""
    lines = []
    if training.license:
        name = training.license.lower()
        if HUB_LICENSES.fullmatch(name):
            lines.append(f"license: {name}")
        else:
            lines += ["license: other", f"license_name: {_yaml(training.license)}"]
    licenses = [training.data_license, *(base.data_license for base in training.lineage)]
    if any(licenses):
        lines.append(f"data_license: {_yaml(' and '.join(dict.fromkeys(filter(None, licenses))))}")
    base = HUB_ID.fullmatch(training.base_model or "")
    if base is not None:
        lines.append(f"base_model: {_yaml(base['repo'])}")
    tags = ["audio", "wavenet", *["vocoder"] * (audio.mel is not None)]
    return "\n".join(
        [
            *lines,
            "library_name: torch-wavenet",
            "pipeline_tag: audio-to-audio",
            f"tags: [{', '.join(tags)}]",
        ]
    )


def _describe(base: BaseModel) -> str:
    """Return a base model with its data and licenses, as far as they are known."""
    facts = {"data": base.data, "license": base.license, "data license": base.data_license}
    known = "; ".join(f"{name}: {value}" for name, value in facts.items() if value)
    return f"{base.name} ({known})" if known else base.name


def _licenses(own: str | None, bases: Sequence[str | None]) -> str:
    """Return a model's license, and those of the models that it was made from if they differ."""
    others = [one for one in dict.fromkeys(bases) if one and one != own]
    text = own or "not given"
    return f"{text}; of the base model: {', '.join(others)}" if others else text


def _yaml(text: str) -> str:
    """Return text as a scalar of YAML, whose double-quoted form includes JSON's."""
    return json.dumps(printable(text))


def _cell(text: str) -> str:
    return printable(text).replace("|", r"\|")


def _input_files(audio: AudioConfig) -> dict[str, str]:
    """Return the files that a model generates from by name, the one for `input=` first."""
    files = {}
    if audio.mel is not None or audio.f0 is not None:
        files["speech.wav"] = "a recording, of any sample rate and any number of channels"
    if audio.score is not None:
        name = "speech.csv" if files else "score.csv"
        files[name] = "notes, a line `onset,offset,pitch` each, in seconds and MIDI numbers"
    if audio.frames is not None:
        name = f"{next(iter(files), 'frames').partition('.')[0]}.npy"
        what = printable(audio.frames.description) or "the frames that it was trained with"
        files[name] = f"{what}, an array of shape {audio.frames.shape}, or one .safetensors tensor"
    return files


def generate_arguments(audio: AudioConfig) -> str:
    """Return arguments of `wavenet-generate` that this model takes."""
    arguments = ["seconds=5", "output=generated.wav"]
    files = _input_files(audio)
    if files:
        arguments[0] = f"input={next(iter(files))}"
    if audio.speaker_names:
        arguments.append(f"speaker={audio.speaker_names[0]}")
    return shlex.join(arguments)
