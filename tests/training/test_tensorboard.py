import logging
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.small import CONFIG
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.training.audio_preview import AudioPreview
from wavenet.training.signals import StopFlag, Stopped
from wavenet.training.tensorboard import TensorBoard


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def flush(tensorboard: TensorBoard) -> None:
    """Write what is buffered, as TensorBoard does from time to time."""
    tensorboard._attempt(lambda: tensorboard._open().flush())


def test_scalars_and_audio_reach_tensorboard(tmp_path: Path) -> None:
    tensorboard, hook = TensorBoard(tmp_path, 0), threading.excepthook

    tensorboard.add_scalars({"bits": 1.0}, 1)
    tensorboard.add_audio({"voice": np.zeros(400, np.float32)}, 1, 8000)
    tensorboard.close()

    (events,) = (tmp_path / "tensorboard").glob("events*")
    assert b"voice" in events.read_bytes()
    assert not tensorboard.failed
    assert threading.excepthook is hook


def test_an_unwritable_folder_is_reported_once_and_training_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file is in the way")
    tensorboard = TensorBoard(tmp_path, 0)

    with caplog.at_level("WARNING", "wavenet"):
        for step in range(3):
            tensorboard.add_scalars({"bits": 1.0}, step)
            tensorboard.add_audio({"voice": np.zeros(400, np.float32)}, step, 8000)
        flush(tensorboard)
        tensorboard.close()

    (warning,) = warnings_of(caplog)
    assert "TensorBoard cannot write" in warning
    assert "Training continues" in warning


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the machine has no /dev/full")
def test_a_full_disk_is_reported_once_and_training_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensorboard = TensorBoard(tmp_path, 0)
    tensorboard.add_scalars({"bits": 1.0}, 0)
    flush(tensorboard)
    (events,) = (tmp_path / "tensorboard").glob("events*")
    events.unlink()
    events.symlink_to("/dev/full")

    with caplog.at_level("WARNING", "wavenet"):
        for step in range(1, 5):
            tensorboard.add_scalars({"bits": 1.0}, step)
            flush(tensorboard)
        tensorboard.close()

    (warning,) = warnings_of(caplog)
    assert "No space left on device" in warning


def test_threads_that_fail_at_the_same_moment_report_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(OSError):
        def __str__(self) -> str:
            time.sleep(0.2)
            return "no space"

    def fail() -> None:
        raise Slow

    tensorboard = TensorBoard(tmp_path, 0)
    threads = [threading.Thread(target=tensorboard._attempt, args=(fail,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(warnings_of(caplog)) == 1


def test_a_resumed_run_drops_the_points_past_its_checkpoint(tmp_path: Path) -> None:
    for first, steps in ((0, (1, 2, 3, 4)), (2, (3, 4, 5))):  # killed after 4, saved at 2
        tensorboard = TensorBoard(tmp_path, first)
        for step in steps:
            tensorboard.add_scalars({"bits": step + first / 10}, step)
        tensorboard.close()
        time.sleep(1.1)  # TensorBoard's files are in the order of their seconds

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    points = events.Scalars("bits")
    assert [point.step for point in points] == [1, 2, 3, 4, 5]
    assert [point.value for point in points] == pytest.approx([1.0, 2.0, 3.2, 4.2, 5.2])


@pytest.mark.slow
def test_a_signal_ends_the_preview() -> None:
    stop = StopFlag()
    preview = AudioPreview(np.zeros(400, np.float32), AudioConfig(), {}, stop)
    model = WaveNet(CONFIG)

    assert preview.generate(model).shape == (400,)
    stop.signal = signal.SIGTERM
    with pytest.raises(Stopped):
        preview.generate(model)
