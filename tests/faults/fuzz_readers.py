"""Makers of damaged files for `fuzz.py`, one class for each kind of file, and how each is read."""

import hashlib
import io
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import save

from tests.interop.fuzz import TORCH_FILES, in_zip
from tests.interop.fuzz import Fuzzer as ImportedFuzzer
from tests.interop.fuzz_importers import ImporterFuzzer
from tests.mutations import change_json, mutate
from tests.training.small import new_state, run_config, single_process
from wavenet import checkpoint
from wavenet.checkpoint import CONFIG, WEIGHTS, TrainingInfo
from wavenet.config import AudioConfig, FramesConfig, LocalConfig, ScoreConfig, WaveNetConfig
from wavenet.data.audio import read_header, read_samples
from wavenet.data.manifest import MANIFEST, Clip, read_manifest, write_manifest
from wavenet.data.manifest_index import INDEX
from wavenet.features.frame_file import read_frame_file
from wavenet.features.mel import read_mel, write_mel
from wavenet.features.score import cut_notes, piano_roll, read_notes
from wavenet.model import WaveNet
from wavenet.presets import MEL_PRESETS
from wavenet.sampling.state import SamplerState
from wavenet.training.checkpointing import find_checkpoints, read_run_checkpoint, write_checkpoint
from wavenet.training.resume import load_last_checkpoint
from wavenet.training.run import read_run
from wavenet.training.validation import History
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import WavenetError

MAX_MESSAGE = 3000  # characters


class Reader:
    """Makes file `seed` and reads it.

    Args:
        folder: Where the files are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def try_one(self, seed: int) -> str:
        """Return what became of file `seed`: "read" or "refused"."""
        try:
            self.read(random.Random(seed))
        except WavenetError as error:
            text = str(error)
            assert len(text) < MAX_MESSAGE, f"a message of {len(text)} characters"
            assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
            return "refused"
        return "read"

    def read(self, chance: random.Random) -> None:
        """Write a file and read it; an `AssertionError` tells of damage that was accepted."""
        raise NotImplementedError


class Audio(Reader):
    """Recordings in every container that the tests of `wavenet.data.audio` write."""

    FORMS = (
        *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW")),
        *(("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16")),
        *(("AIFF", "PCM_24"), ("AU", "PCM_16"), ("CAF", "ALAC_16"), ("NIST", "PCM_16")),
        *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        signal = np.random.default_rng(0).uniform(-0.9, 0.9, (600, 2))
        self.files = []
        for form, subtype in self.FORMS:
            file = io.BytesIO()
            soundfile.write(file, signal, 8000, subtype=subtype, format=form)
            self.files.append(file.getvalue())

    def read(self, chance: random.Random) -> None:
        path = self.folder / "recording"
        path.write_bytes(mutate(chance.choice(self.files), chance))
        header = read_header(path)
        samples = read_samples(path)
        assert samples.shape == (header.frames, header.channels)
        assert np.isfinite(samples).all()
        if header.frames > 10:
            start = chance.randrange(header.frames - 1)
            assert np.isfinite(read_samples(path, start, 1)).all()


class ManifestFile(Reader):
    """The manifest of a prepared folder, and its index."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        clips = [
            Clip(f"{i}/a.wav", 100 + i, 8000, f"é {i % 3}", "train", f"{i:064x}", f"{i}.ogg", i)
            for i in range(6)
        ]
        write_manifest(folder / MANIFEST, clips)
        self.manifest, self.index = ((folder / name).read_bytes() for name in (MANIFEST, INDEX))
        self.lines = [to_dict(clip) for clip in clips]

    def read(self, chance: random.Random) -> None:
        manifest, index = self.manifest, b""
        kind = chance.random()
        if kind < 0.4:
            manifest = mutate(manifest, chance)
        elif kind < 0.7:
            lines = change_json(self.lines, chance)
            lines = lines if isinstance(lines, list) else [lines]
            manifest = "".join(json.dumps(line) + "\n" for line in lines).encode()
        else:
            index = mutate(self.index, chance)
        (self.folder / MANIFEST).write_bytes(manifest)
        (self.folder / INDEX).unlink(missing_ok=True)
        if index:
            (self.folder / INDEX).write_bytes(index)
        clips = read_manifest(self.folder)
        found = [to_dict(clip) for clip in clips]
        if manifest == self.manifest:
            assert found == self.lines
        for split in ("train", "test"):
            part = read_manifest(self.folder, split)
            assert int(part.frames.sum()) == sum(clip.frames for clip in part)
            assert len(part.names) <= len(part)


class RunFile(Reader):
    """The config of a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        identity = {"digest": "0" * 64, "train": 1, "valid": 1, "test": 1}
        self.keys = {**to_dict(run_config()), "dataset": identity}

    def read(self, chance: random.Random) -> None:
        data = json.dumps(self.keys).encode()
        if chance.random() < 0.4:
            data = mutate(data, chance)
        else:
            data = json.dumps(change_json(self.keys, chance)).encode()
        (self.folder / "run.json").write_bytes(data)
        read_run(self.folder)


class Arrays(Reader):
    """Arrays of features, `.npy` and `.safetensors`; with headers that claim other sizes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        array = np.random.default_rng(0).standard_normal((8, 20)).astype(np.float32)
        file = io.BytesIO()
        np.save(file, array)
        self.files = {".npy": file.getvalue(), ".safetensors": self.tensors(array)}

    def tensors(self, array: Any) -> bytes:
        return save({"frames": torch.from_numpy(array)})

    def use(self, path: Path) -> None:
        config = FramesConfig(sample_rate=8000, hop_length=80, channels=8)
        assert np.isfinite(read_frame_file(path, config)).all()

    def read(self, chance: random.Random) -> None:
        suffix = chance.choice((*self.files,))
        data = self.files[suffix]
        kind = chance.random()
        if kind < 0.5:
            data = mutate(data, chance)
        elif suffix == ".npy":
            text = chance.choice(
                (
                    *("(8, 20)", "(8, 10**9)", "(1<<40,)", "(8, 1000000000)", "(-1, 160)", "()"),
                    *("(8, 20, 1)", "(0, 0)", "(" * 90, "[8, 20]", "(8.0, 20)", "(1000000000000,)"),
                )
            )
            dtype = chance.choice(("<f4", ">f8", "|O", "<c8", "<U9", "|V4", "<f2", "?", "<M8", "x"))
            header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {text}, }}\n"
            data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
            data += self.files[suffix][128:] * chance.choice((1, 1, 2))
        else:
            data = with_changed_header(data, chance)
        path = self.folder / f"array{suffix}"
        path.write_bytes(data)
        self.use(path)


class Mels(Arrays):
    """Mel spectrograms."""

    CONFIG = MEL_PRESETS["8khz"]

    def tensors(self, array: Any) -> bytes:
        path = self.folder / "good.safetensors"
        write_mel(path, torch.from_numpy(np.resize(array, (self.CONFIG.n_mels, 2))), self.CONFIG)
        return path.read_bytes()

    def use(self, path: Path) -> None:
        assert bool(read_mel(path, self.CONFIG, "model").isfinite().all())


class Scores(Reader):
    """Scores, and their piano rolls."""

    def read(self, chance: random.Random) -> None:
        lines = [f"{i / 10:.3f},{i / 10 + 0.3:.3f},{40 + i}" for i in range(20)]
        if chance.random() < 0.5:
            words = ("nan", "inf", "-1", "1e300", "9" * 5000, "0x10", " 60", "", "1_0", "٣", "60.5")
            at, cells = chance.randrange(20), lines[0].split(",")
            cells[chance.randrange(3)] = chance.choice(words)
            lines[at] = chance.choice((",", ",", ";")).join(cells)
        data = "\n".join(lines).encode()
        path = self.folder / "score.csv"
        path.write_bytes(mutate(data, chance) if chance.random() < 0.6 else data)
        notes = read_notes(path)
        config = ScoreConfig(sample_rate=8000, hop_length=80)
        roll = piano_roll(cut_notes(notes, 0.1, 3.0), 0, 300, config)
        assert np.isfinite(roll).all()


class ModelDirectory(Reader):
    """Model directories: bytes of both files, and sizes and keys with checksums that match."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.good = folder / "good"
        config = WaveNetConfig(
            quantization_channels=8,
            dilations=(1, 2),
            residual_channels=4,
            gate_channels=4,
            weight_norm=True,
            local=LocalConfig(
                in_channels=8, channels=4, upsample_scales=(8, 10), context_dilations=(1,)
            ),
        )
        audio = AudioConfig(
            sample_rate=8000, frames=FramesConfig(sample_rate=8000, hop_length=80, channels=8)
        )
        checkpoint.save(WaveNet(config), self.good, audio, TrainingInfo(data="demo", steps=7))
        self.files = {name: (self.good / name).read_bytes() for name in (CONFIG, WEIGHTS)}
        self.keys = json.loads(self.files[CONFIG])
        self.weights = checkpoint.load(self.good).model.state_dict()

    def read(self, chance: random.Random) -> None:
        files, kind = dict(self.files), chance.random()
        if kind < 0.5:
            name = chance.choice((CONFIG, WEIGHTS, WEIGHTS))
            files[name] = mutate(files[name], chance)
        else:
            keys = {**self.keys, "sha256": None}
            if kind < 0.75:
                keys = change_json(keys, chance)
            else:
                files[WEIGHTS] = with_changed_header(files[WEIGHTS], chance)
            if isinstance(keys, dict):
                keys["sha256"] = None
                config = checkpoint._digest(keys)
                weights = hashlib.sha256(files[WEIGHTS]).hexdigest()
                keys["sha256"] = {"weights": weights, "config": config}
            files[CONFIG] = json.dumps(keys).encode()
        path = self.folder / "model"
        path.mkdir(exist_ok=True)
        for name, data in files.items():
            (path / name).write_bytes(data)
        found = checkpoint.load(path).model.state_dict()
        changed = files[WEIGHTS] != self.files[WEIGHTS]
        assert not changed or kind >= 0.75, "damaged weights were accepted"
        if kind < 0.75:
            assert all(torch.equal(found[name], weight) for name, weight in self.weights.items())


class TrainingCheckpoint(Reader):
    """Training checkpoints: bytes, and the pickle inside with checksums that match."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        state = new_state()
        contents = {
            **state.state_dict(single_process()),
            "history": History().state_dict(),
            "data_digest": "",
        }
        contents["optimizer"]["state"] = {}
        path = folder / "run" / "checkpoints" / "step-00000001.ckpt"
        write_checkpoint(contents, path)
        self.good, self.path = path.read_bytes(), path
        self.weights = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
        self.state = state

    def read(self, chance: random.Random) -> None:
        raw = chance.random() < 0.6
        for path in self.path.parent.iterdir():
            path.unlink()
        change = partial(mutate, chance=chance)
        self.path.write_bytes(change(self.good) if raw else in_zip(self.good, change))
        if raw:
            weights = read_run_checkpoint(self.path, self.state)["model"]
            good = all(torch.equal(weights[name], one) for name, one in self.weights.items())
            assert good, "damaged weights were accepted"
            return
        load_last_checkpoint(self.folder / "run", self.state, History(), "", single_process())
        assert find_checkpoints(self.folder / "run") == [self.path]


class States(Reader):
    """States of samplers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from wavenet.sampling import make_sampler

        model = new_state().model
        state = make_sampler(model, backend="reference").init_state(1)
        path = folder / "good.safetensors"
        state.save(path)
        self.good = path.read_bytes()

    def read(self, chance: random.Random) -> None:
        data = mutate(self.good, chance)
        if chance.random() < 0.5:
            data = with_changed_header(self.good, chance)
        path = self.folder / "state.safetensors"
        path.write_bytes(data)
        SamplerState.load(path)


def with_changed_header(data: bytes, chance: random.Random) -> bytes:
    """Return a safetensors file with one value of its header changed, or a key twice."""
    stop = 8 + int.from_bytes(data[:8], "little")
    plain = json.loads(data[8:stop])
    if chance.random() < 0.1:
        name = chance.choice(list(plain))
        again = json.dumps({name: plain[name]})[1:]
        text = (json.dumps(plain)[:-1] + "," + again).encode()
    else:
        text = json.dumps(change_json(plain, chance)).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[stop:]


def _imported(folder: Path) -> ImportedFuzzer:
    return ImportedFuzzer(folder, TORCH_FILES)


READERS: dict[str, Callable[[Path], Any]] = {
    "audio": Audio,
    "manifest": ManifestFile,
    "run": RunFile,
    "frames": Arrays,
    "mel": Mels,
    "score": Scores,
    "model": ModelDirectory,
    "training": TrainingCheckpoint,
    "state": States,
    "imported": _imported,
    "importers": ImporterFuzzer,
}
