"""The prepared clips of a run: what its config takes from them, and how training reads them."""

import dataclasses
import logging
from dataclasses import dataclass

from wavenet.checkpoint import TrainingInfo
from wavenet.config import AudioConfig, check_conditioning
from wavenet.data.clip_frames import read_clip_frames
from wavenet.data.dataset import ClipReader, SequentialSegments
from wavenet.data.manifest import Manifest, read_manifest
from wavenet.data.options import DataOptions
from wavenet.data.statistics import (
    with_frame_statistics,
    with_mel_statistics,
    with_predictor,
)
from wavenet.evaluation.held_out import held_out_split
from wavenet.evaluation.nll import make_clip_reader
from wavenet.features.score import check_pitches, read_notes
from wavenet.training.init_config import base_model
from wavenet.training.options import RunConfig
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import ConfigError, DataError, printable

log = logging.getLogger("wavenet")
LITTLE_SECONDS = 60.0  # of training audio: what a model makes of less is no measure of anything


def resolve_config(config: RunConfig) -> RunConfig:
    """Return a run's config with speaker names, mel statistics and filters from its data.

    Raises:
        ConfigError: The config asks for conditioning that the data do not have.
        DataError: The data name no speakers, have no scores or frames, or others than the model's.
    """
    data, audio, model = config.data, config.audio, config.model
    all_clips = read_manifest(data.folder)
    clips = all_clips.of_split("train")
    if data.use_speakers:
        names = clips.names
        if not names:
            raise DataError(
                f"{printable(data.folder)} names no speakers, and data.use_speakers=true needs "
                "them: prepare it with data.speaker_from_folder=true, or from a corpus with "
                "speakers"
            )
        others = sorted({*all_clips.names} - {*names})
        if others:
            log.warning(
                "warning: held-out speakers without training clips get the null speaker: %s",
                printable(", ".join(others)),
            )
        audio = dataclasses.replace(audio, speaker_names=names)
        model = dataclasses.replace(model, num_speakers=len(names))
    untrained = sorted({*audio.speaker_names} - {*clips.names})
    if untrained:
        raise ConfigError(
            f"audio.speaker_names: no training clip is of {printable(', '.join(untrained))}; "
            "data.use_speakers=true takes the names from the clips"
        )
    if audio.mel is not None and data.normalize_mel and not audio.mel.clamp:
        mel = with_mel_statistics(data.folder, clips, audio.mel)
        audio = dataclasses.replace(audio, mel=mel)
        if model.predictor is not None and model.predictor.source == "mel":
            predictor = dataclasses.replace(model.predictor, mel=mel)
            model = dataclasses.replace(model, predictor=predictor)
    audio = _with_files(data, all_clips, audio)
    audio = dataclasses.replace(audio, filter=with_predictor(data.folder, all_clips, audio))
    check_conditioning(model, audio)
    return dataclasses.replace(config, audio=audio, model=model)


def _with_files(data: DataOptions, clips: Manifest, audio: AudioConfig) -> AudioConfig:
    """Check each clip's score and frames, as far as the audio needs them; return its config."""
    if audio.score is not None:
        for clip in clips:
            if not clip.notes:
                raise DataError(
                    f"{printable(data.folder)}: {printable(clip.path)} has no notes, and "
                    "audio.score needs them: prepare it from a corpus with scores"
                )
            check_pitches(read_notes(data.folder / clip.notes), audio.score, clip.notes)
    if audio.frames is None:
        return audio
    for clip in clips:  # raises for one that has none, or others
        read_clip_frames(data.folder, clip, audio.frames, count=1)
    if not data.normalize_frames:
        return audio
    frames = with_frame_statistics(data.folder, clips.of_split("train"), audio.frames)
    return dataclasses.replace(audio, frames=frames)


@dataclass(frozen=True)
class TrainingData:
    """Training and validation clips of a prepared folder."""

    reader: ClipReader  # reads them with what conditions them
    train: Manifest
    val: Manifest
    held_out: Manifest  # for the report
    digest: str  # of the complete manifest
    identity: DataIdentity  # which clips these are; resuming and evaluation refuse others
    windows: SequentialSegments | None  # of a validation; `None` without clips for it
    info: TrainingInfo  # what the model card says about the data


def load_training_data(config: RunConfig) -> TrainingData:
    """Read the manifest of a run's prepared folder.

    Raises:
        DataError: The clips have another sample rate than the model, or none is for training.
    """
    folder, audio = config.data.folder, config.audio
    clips = read_manifest(folder)
    rates = {*clips.sample_rates} - {audio.sample_rate}
    if rates:
        raise DataError(
            f"{printable(folder)} holds clips at {sorted(rates)} Hz, the model needs "
            f"{audio.sample_rate}: set audio.sample_rate, or prepare the data again"
        )
    train, val = clips.of_split("train"), clips.of_split("valid")
    if not train:
        raise DataError(f"{printable(folder)} holds no clip of the split train")
    reader = make_clip_reader(config.model, audio, folder)
    windows = None
    if val:
        windows = SequentialSegments(
            reader,
            val,
            context=config.model.receptive_field,
            limit_seconds=config.trainer.val_seconds,
        )
    seconds = int(train.frames.sum()) / audio.sample_rate
    if seconds < LITTLE_SECONDS:
        log.warning(
            "warning: %.1f s of training audio: a model learns that by heart, and little else; "
            "some minutes of one voice are a beginning",
            seconds,
        )
    temperature = config.evaluation.temperature
    info = TrainingInfo(
        data=config.name,
        seconds_of_audio=seconds,
        dataset=clips.identity,
        base_model=base_model(config),
        lineage=config.lineage,
        license=config.license,
        data_license=config.data_license,
        temperature=None if temperature == 1 else temperature,
    )
    held_out = held_out_split(clips)
    return TrainingData(reader, train, val, held_out, clips.digest, clips.identity, windows, info)
