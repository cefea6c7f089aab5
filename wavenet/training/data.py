"""The prepared clips of a run, as training and validation read them."""

from dataclasses import dataclass

import numpy as np

from wavenet.checkpoint import TrainingInfo
from wavenet.data.dataset import ClipReader, SequentialSegments
from wavenet.data.manifest import Clip, Manifest, read_manifest
from wavenet.evaluation.nll import WINDOW_SAMPLES, make_clip_reader
from wavenet.training.options import RunConfig
from wavenet.utils.data_identity import DataIdentity
from wavenet.utils.errors import DataError, printable


@dataclass(frozen=True)
class TrainingData:
    """Training and validation clips of a prepared folder.

    Attributes:
        reader: Reads them with what conditions them.
        train: Clips that segments are drawn from.
        val: Clips that validate.
        digest: Of the whole manifest.
        identity: Which clips these are; resuming and evaluation refuse others.
        windows: What a validation covers; `None` without validation clips.
        info: What the model card says about the data.
    """

    reader: ClipReader
    train: Manifest
    val: Manifest
    digest: str
    identity: DataIdentity
    windows: SequentialSegments | None
    info: TrainingInfo

    @property
    def longest_val_clip(self) -> Clip | None:
        """The longest validation clip, if there is one."""
        return self.val[int(np.argmax(self.val.frames))] if self.val else None


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
            segment_length=WINDOW_SAMPLES,
            context=config.model.receptive_field,
            limit_seconds=config.trainer.val_seconds,
        )
    seconds = int(train.frames.sum()) / audio.sample_rate
    info = TrainingInfo(data=config.name, seconds_of_audio=seconds, dataset=clips.identity)
    return TrainingData(reader, train, val, clips.digest, clips.identity, windows, info)
