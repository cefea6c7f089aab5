"""Fills in what a run's config takes from its data: speaker names, mel statistics, filters."""

import dataclasses
import logging

from wavenet.config import check_conditioning
from wavenet.data.manifest import read_manifest
from wavenet.data.statistics import with_mel_statistics, with_predictor
from wavenet.features.score import check_pitches, read_notes
from wavenet.training.options import RunConfig
from wavenet.utils.errors import ConfigError, DataError, printable

log = logging.getLogger("wavenet")


def resolve_config(config: RunConfig) -> RunConfig:
    """Return a run's config with speaker names, mel statistics and filters from its data.

    Raises:
        ConfigError: The config asks for conditioning that the data do not have.
        DataError: The data name no speakers, or a score is outside of the config's range.
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
    if audio.score is not None:
        for clip in all_clips:
            if clip.notes:
                check_pitches(read_notes(data.folder / clip.notes), audio.score, clip.notes)
    audio = dataclasses.replace(audio, filter=with_predictor(data.folder, all_clips, audio))
    check_conditioning(model, audio)
    return dataclasses.replace(config, audio=audio, model=model)
