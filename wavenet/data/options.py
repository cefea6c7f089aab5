"""Where recordings come from, and how they become clips; repairs are off by default."""

from dataclasses import dataclass, replace
from pathlib import Path

from wavenet.config import MAX_SAMPLE_RATE
from wavenet.utils.dataclass_io import Options, check, narrow, option
from wavenet.utils.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Options):
    """How recordings become clips."""

    sample_rate: int = option(
        help="Sample rate of the clips in Hz; that of audio", ge=1, le=MAX_SAMPLE_RATE, derived=True
    )
    corpus: str = option(
        "folder",
        "Layout: folder, asterisk_voices, chorales, cmu_arctic, libritts, ljspeech, vctk or yesno",
    )
    resample: bool = option(False, "Convert recordings of another sample rate")
    mono: bool = option(False, "Mix several channels down to their mean")
    clip: bool = option(
        False, "Limit samples beyond 1.0 to 1.0; up to 2.0, those of OGG and MP3 always are"
    )
    nan_to_num: bool = option(False, "Replace NaN and infinite samples by 0")
    allow_truncated: bool = option(False, "Use the readable part of truncated or damaged files")
    allow_silent: bool = option(False, "Accept recordings whose standard deviation is under 1e-4")
    skip_invalid: bool = option(False, "Leave out files that no other option repairs")
    trim_top_db: float | None = option(
        None, "Trim silence at both ends, this many dB below the loudest part", gt=0
    )
    split_top_db: float | None = option(
        None, "Split recordings at silence, this many dB below the loudest part", gt=0
    )
    min_seconds: float = option(0.1, "Shortest recording, and shortest piece", ge=0)
    valid_fraction: float = option(0.05, "Share of the recordings for validation", ge=0, lt=1)
    test_fraction: float = option(0.05, "Share of the recordings for testing", ge=0, lt=1)
    speaker_from_folder: bool = option(
        False, "The first folder below root, or below that of the split, is the speaker"
    )
    split_from_folder: bool = option(
        False, "The first folder below root is the split: train, valid or test", added=True
    )
    cut_to_frames: bool = option(
        False, "Cut recordings where their frames end, and frames past their end", added=True
    )
    num_workers: int | None = option(
        None, "Recordings at once; null for one per core. Does not change the result", ge=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        held_out = self.valid_fraction + self.test_fraction
        check(held_out < 1, "valid_fraction + test_fraction", "under 1", held_out)


@dataclass(frozen=True, kw_only=True)
class DataOptions(PrepareOptions):
    """Where recordings come from, how they are prepared, and where the prepared clips go."""

    root: str | None = option(None, "Folder of recordings; null if processed_dir exists")
    download: bool = option(False, "Download the corpus into root if that does not exist")
    processed_dir: str | None = option(
        None, "Folder of prepared clips; null for prepared/NAME-RATE-DIGEST"
    )
    frames_dir: str | None = option(
        None, "Folder of the files for audio.frames, named as the recordings; null: beside them"
    )
    split_list: str | None = option(
        None,
        "File with a line 'valid NAME' or 'test NAME' a recording, its path below root; without "
        "lines of train the others train. null: split_from_folder, or drawn by the fractions",
    )
    use_speakers: bool = option(False, "Condition the model on the speakers of the data")
    normalize_mel: bool = option(
        True,
        "Normalize mel bands to mean 0 and deviation 1 over the training clips, unless clamped",
    )
    normalize_frames: bool = option(
        False, "Normalize channels of audio.frames to mean 0 and deviation 1 over the same clips"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_list is not None and self.split_from_folder:
            raise ConfigError(
                "data.split_list and data.split_from_folder both give the splits: set one of them"
            )

    def at(self, folder: Path) -> "DataOptions":
        """Return the same with the prepared folder, and with absolute paths."""
        return replace(
            self,
            root=None if self.root is None else str(self.source.resolve()),
            processed_dir=str(folder.resolve()),
            frames_dir=None if self.frames_dir is None else str(Path(self.frames_dir).resolve()),
            split_list=None if self.split_list is None else str(Path(self.split_list).resolve()),
        )

    @property
    def preparation(self) -> PrepareOptions:
        """What decides the clips, wherever they come from and go."""
        return narrow(PrepareOptions, self)

    @property
    def source(self) -> Path:
        """The folder of recordings."""
        if self.root is None:
            raise ConfigError(
                "missing required key data.root: add data.root=FOLDER, your recordings"
            )
        return Path(self.root)

    @property
    def folder(self) -> Path:
        """The folder of prepared clips, if it is chosen; else a plan has it."""
        if self.processed_dir is None:
            raise ConfigError("data.processed_dir is missing: add data.processed_dir=FOLDER")
        return Path(self.processed_dir)
