"""Model directories that claim more than they hold: refused in seconds, in little memory."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_here
from wavenet import checkpoint
from wavenet.config import AudioConfig, LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.utils import memory
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import CheckpointError, MachineError

SECONDS, MEMORY_BYTES = 5.0, 1 << 30  # of CPU time, and of memory, for a refusal
SMALL = WaveNetConfig(
    quantization_channels=8,
    dilations=(1, 2),
    residual_channels=4,
    gate_channels=4,
    skip_channels=4,
    head_channels=4,
)
WIDEST = {
    **to_dict(SMALL),
    **dict.fromkeys(("residual_channels", "gate_channels", "skip_channels"), 65536),
    "kernel_size": 1024,
    "head_channels": 65536,
    "num_speakers": 10**7,
    "weight_norm": True,
}
LOCAL = to_dict(LocalConfig(in_channels=80, channels=65536, upsample_scales=(256,)))
MEL = to_dict(MelConfig(sample_rate=8000, n_fft=512, hop_length=256, win_length=512, f_max=4000.0))
Header = dict[str, Any]


def write_model(folder: Path, model: Header, weights: Path) -> Path:
    """Write a model directory around a file of weights, every digest right."""
    (folder / "model").mkdir(parents=True)
    weights.rename(folder / "model" / "model.safetensors")
    plain = to_dict(checkpoint.CheckpointConfig(model=SMALL, audio=AudioConfig()))
    plain |= {"model": model, "sha256": None}
    digest = "0" * 64  # unread: nothing is hashed
    plain["sha256"] = {"weights": digest, "config": checkpoint._digest(plain)}
    (folder / "model" / "config.json").write_text(json.dumps(plain))
    return folder / "model"


def write_weights(path: Path, header: Header | bytes, size: int | None = None) -> Path:
    """Write a header, and zeros without blocks on the disk up to `size` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    if size is not None:
        os.truncate(path, size)
    return path


def tensor(start: int, stop: int, shape: list[int] | None = None, dtype: str = "F32") -> Header:
    shape = [(stop - start) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def of_size(path: Path, header: Header) -> Path:
    """Write weights whose header fits the size of the file."""
    stop = max(entry["data_offsets"][1] for entry in header.values())
    return write_weights(path, header, 8 + len(json.dumps(header)) + stop)


def hostile(folder: Path, *names: str) -> dict[str, Path]:
    """Write model directories, all or some; return them by what is wrong with them."""
    plain, tera = to_dict(SMALL), 1 << 42
    many = {f"t{i}": tensor(0, 0) for i in range(100_000)}
    twice = b'{"a":%s,"a":%s}' % ((json.dumps(tensor(0, 4)).encode(),) * 2)
    blocks = {f"t{i}": tensor(4 * i, 4 * i + 4) for i in range(5000)}
    predictor = {**plain, "output_distribution": "logistic_mixture", "input_type": "scalar"}
    predictor |= {"quantization_channels": 65536}
    models: dict[str, tuple[Header, Callable[[Path], Path]]] = {
        "claims 4 TB": (plain, lambda path: write_weights(path, {"a": tensor(0, tera)})),
        "is 4 TB": (plain, lambda path: of_size(path, {"a": tensor(0, tera)})),
        "header of 2 TB": (plain, lambda path: header_of(path, tera // 2, tera)),
        "header of 1 GB": (plain, lambda path: header_of(path, 1 << 30, tera)),
        "header past the end": (plain, lambda path: header_of(path, 2**64 - 1, 100)),
        "many empty tensors": (plain, lambda path: write_weights(path, many)),
        "nested header": (plain, lambda path: write_weights(path, b"[" * 4_000_000)),
        "a name twice": (plain, lambda path: write_weights(path, twice, 8 + len(twice) + 4)),
        "overlap": (plain, lambda path: of_size(path, {"a": tensor(0, 8), "b": tensor(4, 12)})),
        "gap": (plain, lambda path: of_size(path, {"a": tensor(0, 4), "b": tensor(8, 12)})),
        "shape of 2**120": (
            plain,
            lambda path: of_size(path, {"a": tensor(0, 4, [2**60, 2**60])}),
        ),
        "largest sizes": (
            {**WIDEST, "dilations": [1] * 1000, "local": LOCAL},
            lambda path: of_size(path, blocks),
        ),
        "1000 blocks of 2 tensors": (
            {**plain, "dilations": [1] * 1000},
            lambda path: of_size(path, {"a": tensor(0, 4), "b": tensor(4, 8)}),
        ),
        "65536 context blocks": (
            {**plain, "local": {**LOCAL, "context_dilations": [1] * 65536}},
            lambda path: of_size(path, blocks),
        ),
        "200,000 scales": (
            {**plain, "local": {**LOCAL, "upsample_scales": [256] + [1] * 200_000}},
            lambda path: of_size(path, blocks),
        ),
        "an FFT of 2**40": (
            {
                **predictor,
                "local": LOCAL,
                "predictor": {"order": 8, "subframes": 1, "mel": {**MEL, "n_fft": 2**40}},
            },
            lambda path: of_size(path, blocks),
        ),
    }
    return {
        name: write_model(folder / str(number), model, weights(folder / "weights"))
        for number, (name, (model, weights)) in enumerate(models.items())
        if not names or name in names
    }


def header_of(path: Path, claimed: int, size: int) -> Path:
    """Write a file of this size whose header claims another."""
    path.write_bytes(claimed.to_bytes(8, "little"))
    os.truncate(path, size)
    return path


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let this process take `MEMORY_BYTES` more within the block, where the system can limit it."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status")
    if status.exists():
        used = int(re.findall(r"VmData:\s+(\d+) kB", status.read_text())[0]) << 10
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_model_that_claims_too_much_is_refused_in_seconds(tmp_path: Path) -> None:
    slow = {}
    for name, folder in hostile(tmp_path).items():
        began = time.process_time()
        with limited_memory(), pytest.raises((CheckpointError, MachineError)) as error:
            checkpoint.load(folder)
        assert len(str(error.value)) < 2000, name
        if time.process_time() - began > SECONDS:
            slow[name] = time.process_time() - began
    assert slow == {}


def test_a_model_of_a_terabyte_is_refused_by_its_size(tmp_path: Path) -> None:
    path = hostile(tmp_path, "is 4 TB")["is 4 TB"]

    with pytest.raises(MachineError, match="needs 4.4 TB of memory, .* are free: use a machine"):
        checkpoint.load(path)
    with limited_memory(), pytest.raises(CheckpointError, match="holds 1 tensors, too few for"):
        checkpoint.verify(path)  # which takes no memory, and hashes nothing that does not fit


def test_largest_predictor_takes_little_memory(tmp_path: Path) -> None:
    mel = MelConfig(
        sample_rate=8000, n_fft=8192, hop_length=256, win_length=512, n_mels=1024, f_max=4000.0
    )
    with pytest.raises(ValueError, match="n_fft must be 8192 at most"):
        PredictorConfig(mel=dataclasses.replace(mel, n_fft=8194))
    assert PredictorConfig(order=1024, mel=mel).order == 1024


@pytest.fixture
def model(tmp_path: Path) -> Path:
    checkpoint.save(WaveNet(SMALL), tmp_path / "model", AudioConfig(sample_rate=8000))
    return tmp_path / "model"


def test_what_memory_is_free_follows_the_limit_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = memory.available_memory()
    assert free is None or free > 1 << 20
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 20, 1 << 20))

    assert memory.available_memory() in (None, 0)


def test_inspect_verifies_the_weights_too(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(model.parent)

    done = run_here("inspect", ("checkpoint=model",), capsys)
    assert done.returncode == 0, done.stderr
    assert "checksums of config and weights: verified" in done.stdout

    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x77")
    done = run_here("inspect", ("checkpoint=model",), capsys)
    assert done.returncode == 4
    assert "checksum differs" in done.stderr


@pytest.mark.parametrize("cut", [4, 100, 400])
def test_a_truncated_weights_file_names_both_sizes(model: Path, cut: int) -> None:
    path = model / "model.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - cut)

    with pytest.raises(CheckpointError, match=f"promises {size:,} bytes, found {size - cut:,};"):
        checkpoint.load(model)


def test_a_byte_changed_anywhere_in_the_weights_is_found(model: Path) -> None:
    path = model / "model.safetensors"
    good = path.read_bytes()

    for at in range(0, len(good), 13):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(model)


def test_a_name_twice_in_the_header_is_refused_with_right_digests(model: Path) -> None:
    path = model / "model.safetensors"
    good = path.read_bytes()
    stop = 8 + int.from_bytes(good[:8], "little")
    header = json.loads(good[8:stop])
    again = json.dumps({"head.output.bias": header["head.output.bias"]})[1:]
    text = (json.dumps(header)[:-1] + "," + again).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + good[stop:])
    plain = json.loads((model / "config.json").read_text())
    plain["sha256"] = None
    weights = hashlib.sha256(path.read_bytes()).hexdigest()
    plain["sha256"] = {"weights": weights, "config": checkpoint._digest(plain)}
    (model / "config.json").write_text(json.dumps(plain))

    with pytest.raises(CheckpointError, match="the key 'head.output.bias' appears twice"):
        checkpoint.load(model)
