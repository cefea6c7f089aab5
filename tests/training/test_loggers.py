"""TensorBoard, a CSV file and Weights & Biases get the same tags, with what was set."""

import csv
import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tests.training.small import build_loop, new_state, run_config
from tests.waiting import wait_until
from wavenet.training.loggers import CsvFile, build_loggers, require_loggers
from wavenet.utils.errors import MachineError

TAGS = {
    "train/bits_per_sample",
    "train/learning_rate",
    "train/gradient_norm",
    "train/samples_per_second",
}


def train(run: Path, *names: str, steps: int = 3) -> None:
    """Train a few steps with loggers."""
    loop = build_loop(run, new_state(), max_steps=steps)
    config = run_config(max_steps=steps, logger=names)
    loop.validation.loggers = build_loggers(config, run, 0)
    loop.run()
    loop.validation.loggers.close()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_tensorboard_and_csv_get_the_same_tags_and_values(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard", "csv")

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {
        (tag, point.step): point.value
        for tag in events.Tags()["scalars"]
        for point in events.Scalars(tag)
    }
    table = {(row["name"], int(row["step"])): float(row["value"]) for row in rows(tmp_path)}
    assert {name for name, _ in table} == TAGS
    assert {step for _, step in table} == {1, 2, 3}
    assert table == pytest.approx(found, rel=1e-5)
    assert all(found["train/gradient_norm", step] > 0 for step in (1, 2, 3))


def test_tensorboard_has_the_hyperparameters(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard")

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["optim.lr"].number_value == pytest.approx(1e-3)
    assert found["model.dilations"].string_value == "[1, 2]"
    assert found["trainer.precision"].string_value == "32-true"


def test_a_resumed_run_drops_the_lines_past_its_checkpoint(tmp_path: Path) -> None:
    first = CsvFile(tmp_path, 0)
    for step in (1, 2, 3):
        first.add_scalars({"train/bits_per_sample": step / 10}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,train/bi")  # a killed process

    CsvFile(tmp_path, 2).add_scalars({"train/bits_per_sample": 0.5}, 3)

    assert [(row["step"], row["value"]) for row in rows(tmp_path)] == [
        *(("1", "0.1"), ("2", "0.2")),
        ("3", "0.5"),
    ]


def test_a_file_that_cannot_be_written_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "handle", records.append)
    monkeypatch.setattr(logging.getLogger("wavenet"), "handlers", [handler])
    (tmp_path / "metrics.csv").mkdir()

    train(tmp_path, "csv")

    (message,) = [one.getMessage() for one in records if one.levelno >= logging.WARNING]
    assert message.startswith("warning: metrics.csv: ")
    assert message.endswith("Training continues without its curves.")


def test_without_a_logger_nothing_is_written(tmp_path: Path) -> None:
    train(tmp_path)

    assert not (tmp_path / "tensorboard").exists()
    assert not (tmp_path / "metrics.csv").exists()


def test_a_missing_package_names_its_extra() -> None:
    try:
        import wandb  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(MachineError, match="wandb"):
            require_loggers(("csv", "wandb"))


def test_weights_and_biases_gets_the_same_tags_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install torch-wavenet[wandb]")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_ERROR_REPORTING", "false")):
        monkeypatch.setenv(name, value)

    train(tmp_path, "csv", "wandb")

    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    wanted = [name.encode() for name in (*TAGS, "optim.lr")]
    wait_until(  # another process writes it
        lambda: all(name in file.read_bytes() for name in wanted), "not all tags are in the file"
    )
