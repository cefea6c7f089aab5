"""NaN and infinity in training, put into gradients and weights by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from tests.training.small import CONFIG, fit
from wavenet import checkpoint
from wavenet.config import AudioConfig
from wavenet.model import WaveNet
from wavenet.training.checkpointing import Saves
from wavenet.training.distributed.gradient_sync import Updates
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import ProcessGroup
from wavenet.training.module import MOST_SKIPPED, TrainingModule
from wavenet.training.nonfinite import first_nonfinite
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.signals import StopFlag
from wavenet.training.validation import History
from wavenet.utils.errors import ConfigError

NAMES = [name for name, _ in WaveNet(CONFIG).named_parameters()]
BAD_STEP = 2  # updates before the one that is spoilt


class Watch(pl.Callback):
    """Keeps a copy of everything after each update."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        state = dict(module.state_dict())
        for i, moments in enumerate(trainer.optimizers[0].state.values()):
            state.update({f"{i}.{kind}": tensor for kind, tensor in moments.items()})
        self.seen.append({name: tensor.detach().clone() for name, tensor in state.items()})


def spoilt(name: str, value: float, steps: Callable[[int], bool], **options: Any) -> TrainingModule:
    """A module whose gradient of `name` holds `value` at some steps."""
    torch.manual_seed(0)
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=100, **options)

    def spoil(gradient: Tensor) -> Tensor:
        if steps(module.global_step):
            gradient = gradient.clone(memory_format=torch.contiguous_format)
            gradient.view(-1)[-1] = value
        return gradient

    dict(module.model.named_parameters())[name].register_hook(spoil)
    return module


def test_every_kind_of_number_that_is_not_finite_is_found_by_name() -> None:
    fine = {"a": torch.ones(3), "none": torch.zeros(0), "huge": torch.full((4,), 3e38)}

    assert first_nonfinite(fine) is None
    assert first_nonfinite({}) is None
    for value in (torch.nan, torch.inf, -torch.inf):
        assert first_nonfinite({**fine, "b": torch.tensor([1.0, value]), "c": -fine["a"]}) == "b"


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_gradient_that_is_not_finite_stops_training_and_is_named(
    tmp_path: Path, value: float
) -> None:
    for name in NAMES:
        module, watch = spoilt(name, value, lambda step: step == BAD_STEP), Watch()

        with pytest.raises(ConfigError, match="at step 3") as caught:
            fit(module, tmp_path, 5, watch)

        assert f"gradient of {name} is not finite" in str(caught.value)
        for word in (
            "optim.lr",
            "optim.max_grad_norm",
            "trainer.on_nonfinite=skip",
            "the loss is 2",
        ):
            assert word in str(caught.value)
        state = module.state_dict()
        assert all(torch.equal(state[key], watch.seen[-1][key]) for key in state)


def test_an_update_that_is_left_out_changes_no_bit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES:
        watch = Watch()
        module = spoilt(name, torch.nan, lambda step: step == BAD_STEP, on_nonfinite="skip")
        caplog.clear()

        with caplog.at_level("WARNING", "wavenet"):
            fit(module, tmp_path, 5, watch)

        before, after, later = watch.seen[BAD_STEP - 1 : BAD_STEP + 2]
        assert all(torch.equal(before[key], after[key]) for key in after), name
        assert not torch.equal(after[f"model.{NAMES[0]}"], later[f"model.{NAMES[0]}"])
        assert not torch.equal(after[f"average.{NAMES[0]}"], later[f"average.{NAMES[0]}"])
        assert module.skipped == 1
        assert f"gradient of {name}" in caplog.text
        assert "left out (1 so far)" in caplog.text


def test_twenty_updates_left_out_in_a_row_stop_training(tmp_path: Path) -> None:
    often = spoilt(NAMES[0], torch.nan, lambda step: step % 20 != 0, on_nonfinite="skip")
    always = spoilt(NAMES[0], torch.nan, lambda step: step >= BAD_STEP, on_nonfinite="skip")

    fit(often, tmp_path, 45)
    with pytest.raises(ConfigError, match="20 updates in a row were left out"):
        fit(always, tmp_path, 45)

    assert often.skipped == 42
    assert always.skipped == MOST_SKIPPED


def test_the_count_of_updates_left_out_is_saved(tmp_path: Path) -> None:
    module = spoilt(NAMES[0], torch.nan, lambda step: step != 1, on_nonfinite="skip")
    fit(module, tmp_path, 4)
    contents: dict[str, Any] = {}
    other = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=100)

    module.on_save_checkpoint(contents)
    other.on_load_checkpoint(contents)

    assert (other.skipped, other.skipped_in_a_row) == (3, 2)


@pytest.mark.parametrize("which", ["weights", "average", "moments"])
def test_a_model_that_is_not_finite_is_never_saved_over_a_good_one(
    tmp_path: Path, which: str
) -> None:
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=100)
    run, stop = tmp_path / "run", StopFlag()
    updates = Updates(ProcessGroup(Launch()), stop)
    history = History(run, AudioConfig(), checkpoint.TrainingInfo(), None, 2, updates, after=None)
    saves = Saves(run, TrainerOptions(save_every_n_steps=3), history, stop)
    name = NAMES[-1]

    class Spoil(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step != spoil_at:
                return
            weight = dict(module.model.named_parameters())[name]
            assert module.average is not None
            moments = trainer.optimizers[0].state[weight]
            tensors = {
                "weights": weight.data,
                "average": dict(module.average.named_parameters())[name],
                "moments": moments["exp_avg_sq"],
            }
            tensors[which].view(-1)[0] = torch.inf

    named = {"weights": name, "average": f"average of {name}", "moments": f"exp_avg_sq of {name}"}
    spoil_at = 3  # where a save is due
    with pytest.raises(ConfigError, match=f"^{named[which]} is not finite at step 3"):
        fit(module, tmp_path, 6, history, Spoil(), saves)

    assert not (run / "checkpoints").exists()
    good = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run / "model" / "model.safetensors" in good
    with pytest.raises(ConfigError, match=f"^{named[which]} is not finite"):
        history.export(module, 4)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == good
