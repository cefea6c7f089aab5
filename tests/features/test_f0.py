import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.commands import environment
from wavenet.config import AudioConfig, F0Config
from wavenet.data.audio import open_wav
from wavenet.data.dataset import ClipReader
from wavenet.data.manifest import Clip
from wavenet.features.f0 import REFERENCE_HZ, f0_features
from wavenet.features.frames import Features

Samples = NDArray[np.float32]
CONFIG = F0Config(sample_rate=8000, hop_length=80)


def tone(frequency_hz: float, samples: int = 4000) -> Samples:
    """Return eight harmonics, each softer than the one below."""
    phase = 2 * np.pi * frequency_hz * np.arange(samples) / 8000
    return np.asarray(sum(0.3 / k * np.sin(k * phase) for k in range(1, 9)), np.float32)


def between(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return frames of which none sees the ends of the tone."""
    return frames[:, 6:-6]


@pytest.mark.parametrize("frequency_hz", [120.0, 220.0])
def test_the_pitch_of_a_tone_is_found_within_20_cents(frequency_hz: float) -> None:
    height, voiced, probability = between(f0_features(tone(frequency_hz), CONFIG))

    assert 1200 * np.abs(height - np.log2(frequency_hz / REFERENCE_HZ)).max() < 20
    assert voiced.all()
    assert probability.min() > 0.5


@pytest.mark.parametrize("size", [0.0, 1e-4])
def test_silence_and_faint_noise_are_unvoiced_and_have_no_pitch(size: float) -> None:
    generator = np.random.default_rng(0)

    height, voiced, _ = f0_features(
        (size * generator.standard_normal(4000)).astype(np.float32), CONFIG
    )

    assert not voiced.any()
    assert not height.any()


def test_voicing_follows_a_tone_that_stops_and_pitch_is_carried_on() -> None:
    silence = np.zeros(2400, np.float32)
    signal = np.concatenate([silence, tone(150.0), silence, tone(200.0), silence])
    generator = np.random.default_rng(0)
    signal += 1e-3 * generator.standard_normal(len(signal)).astype(np.float32)

    height, voiced, _ = f0_features(signal, CONFIG)

    expected = np.repeat([0, 1, 0, 1, 0], [30, 50, 30, 50, 30])
    clear = np.r_[:23, 37:73, 87:103, 117:153, 167:190]  # sees neither start nor end of a tone
    np.testing.assert_array_equal(voiced[clear], expected[clear])
    low, high = np.log2([150 / REFERENCE_HZ, 200 / REFERENCE_HZ])
    np.testing.assert_allclose(height[:20], low, atol=0.02)
    np.testing.assert_allclose(height[-20:], high, atol=0.02)
    gap = height[80:110]
    assert (np.diff(gap) >= -0.02).all()  # a straight line from one to the other
    assert gap[15] == pytest.approx((low + high) / 2, abs=0.03)


@pytest.mark.parametrize("samples", [1, 79, 80, 81, 1000, 4001])
def test_every_sample_has_a_frame(samples: int) -> None:
    frames = f0_features(tone(120.0, samples), CONFIG)

    assert frames.shape == (3, -(-samples // 80))
    assert frames.dtype == np.float32
    assert np.isfinite(frames).all()


def test_no_samples_have_no_frames() -> None:
    assert f0_features(np.zeros(0, np.float32), CONFIG).shape == (3, 0)


def test_a_tone_out_of_range_is_not_voiced_at_its_own_height() -> None:
    narrow = F0Config(sample_rate=8000, hop_length=80, f_min=200.0, f_max=400.0)

    height, voiced, _ = between(f0_features(tone(100.0), narrow))

    assert (REFERENCE_HZ * 2 ** height[voiced > 0] >= 199.0).all()


def test_features_are_those_of_the_recording() -> None:
    audio = AudioConfig(sample_rate=8000, f0=CONFIG)

    frames = Features(audio).from_recording(tone(120.0, 1000))

    assert audio.channels == 3
    np.testing.assert_array_equal(frames[0].numpy(), f0_features(tone(120.0, 1000), CONFIG))


def test_f0_of_an_excerpt_equals_that_of_the_clip(tmp_path: Path) -> None:
    config = F0Config(sample_rate=8000, hop_length=80)
    with open_wav(tmp_path / "a.wav", 8000) as writer:
        t = np.arange(8000) / 8000
        writer.write((0.3 * np.sin(2 * np.pi * (120 + 60 * t) * t)).astype(np.float32))
    clip = Clip("a.wav", 8000, 8000, "", "train", "0" * 64, "a.wav", 0)
    excerpts = ClipReader(tmp_path, AudioConfig(sample_rate=8000, f0=config), lookahead=2)
    whole = excerpts.read(clip, 0, 8000)["frames"]

    middle, end = (excerpts.read(clip, start, 1600)["frames"] for start in (3200, 7200))

    np.testing.assert_array_equal(middle, whole[:, 40:62])
    np.testing.assert_array_equal(end[:, :10], whole[:, 90:100])
    assert end.shape == (3, 22)


TURN = """
import sys
from pathlib import Path
from tests.waiting import wait_until
from wavenet.features.f0 import compiling_in_turn

package, name, others = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
(package / name).touch()
with compiling_in_turn(package):
    print("in", name, flush=True)
    wait_until(lambda: all((package / one).exists() for one in others), "the other does not start")
    sys.path.insert(0, str(package))
    from small import triple, triples
    assert triple(5) == 15
    assert triples([1.0, 2.0]).tolist() == [3, 6]
    print("out", name, sum(triple.stats.cache_hits.values()), flush=True)
"""
SMALL = """
from numba import guvectorize, njit

@njit(cache=True)
def triple(x):
    return 3 * x

@guvectorize("void(float64[:], float64[:])", "(n)->(n)", cache=True)
def triples(x, y):
    for i in range(len(x)):
        y[i] = 3 * x[i]
"""


def test_processes_compile_in_turn_and_the_next_loads(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    own = {**environment(), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    log = tmp_path / "log.txt"

    def start(*names: str) -> subprocess.Popen[bytes]:
        with log.open("a") as output:
            line = [sys.executable, "-c", TURN, str(tmp_path), *names]
            return subprocess.Popen(line, env=own, stdout=output)

    together = [start("a", "b"), start("b", "a")]
    codes = [process.wait() for process in together]
    codes.append(start("c").wait())

    assert codes == [0, 0, 0]
    first, second = sorted("ab", key=lambda name: log.read_text().index(f"in {name}"))
    turns = [(first, 0), (second, 1), ("c", 1)]
    assert log.read_text() == "".join(f"in {name}\nout {name} {n}\n" for name, n in turns)


USE = """
import numpy as np
from wavenet.features.f0 import compiled_librosa
noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
librosa = compiled_librosa()
print("compiled")
librosa.pyin(noise, fmin=60, fmax=400, sr=8000, frame_length=512)
librosa.onset.onset_detect(y=noise, sr=16000, units="time", backtrack=True)
librosa.effects.trim(noise)
librosa.effects.split(noise)
"""


@pytest.mark.slow
def test_all_that_is_used_of_librosa_is_compiled_in_turn() -> None:
    environ = {**environment(), "NUMBA_DEBUG_CACHE": "1"}

    done = subprocess.run(
        [sys.executable, "-c", USE], env=environ, check=True, capture_output=True, text=True
    )

    before, after = done.stdout.split("compiled\n")
    assert "[cache]" in before
    assert not after


@pytest.mark.slow
@pytest.mark.skipif("WAVENET_FULL" not in os.environ, reason="compiles: pytest --full runs it")
def test_parallel_processes_leave_a_working_cache(tmp_path: Path) -> None:
    """They compile anew, in a cache of their own: without turns, two of four such were broken."""
    line = [sys.executable, "-c", USE]
    own = {**environment(), "NUMBA_CACHE_DIR": str(tmp_path)}

    together = [subprocess.Popen(line, env=own) for _ in range(2)]
    codes = [process.wait() for process in together]
    codes.append(subprocess.run(line, env=own, check=False).returncode)

    assert codes == [0, 0, 0]
    assert any(name.endswith(".nbc") for _, _, names in os.walk(tmp_path) for name in names)
