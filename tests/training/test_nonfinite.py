"""NaN and infinity in training, put into gradients and weights by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.small import CONFIG, build_loop, new_state, single_process
from wavenet.model import WaveNet
from wavenet.training.state import MAX_SKIPPED_IN_A_ROW, TrainingState, first_nonfinite
from wavenet.utils.errors import ConfigError

NAMES = [name for name, _ in WaveNet(CONFIG).named_parameters()]
BAD_STEP = 2  # updates before the one whose gradient is not finite
NO_CHECKPOINTS: dict[str, Any] = {"save_every_n_steps": 1000, "val_every_n_steps": 1000}


class Snapshots:
    """Copies of the whole state, one after each update."""

    def __init__(self) -> None:
        self.copies: list[dict[str, Tensor]] = []

    def __call__(self, state: TrainingState) -> None:
        self.copies.append({name: t.detach().clone() for name, t in tensors_of(state).items()})


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    assert state.ema_model is not None
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema_model.state_dict().items()}
    for i, moments in enumerate(state.optimizer.state.values()):
        tensors |= {f"{i}.{kind}": tensor for kind, tensor in moments.items()}
    return tensors


def state_with_bad_gradient(
    name: str, value: float, is_bad: Callable[[int], bool]
) -> TrainingState:
    """A state whose gradient of `name` holds `value` at some steps."""
    torch.manual_seed(0)
    state = new_state()

    def replace(gradient: Tensor) -> Tensor:
        if is_bad(state.step):
            gradient = gradient.clone(memory_format=torch.contiguous_format)
            gradient.view(-1)[-1] = value
        return gradient

    dict(state.model.named_parameters())[name].register_hook(replace)
    return state


def test_every_nonfinite_number_is_found_by_name() -> None:
    fine = {"a": torch.ones(3), "none": torch.zeros(0), "huge": torch.full((4,), 3e38)}

    assert first_nonfinite(fine) is None
    assert first_nonfinite({}) is None
    for value in (torch.nan, torch.inf, -torch.inf):
        assert first_nonfinite({**fine, "b": torch.tensor([1.0, value]), "c": -fine["a"]}) == "b"


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_a_nonfinite_gradient_stops_training_and_is_named(tmp_path: Path, value: float) -> None:
    for name in NAMES:
        snapshots = Snapshots()
        state = state_with_bad_gradient(name, value, lambda step: step == BAD_STEP)

        with pytest.raises(ConfigError, match="at step 3") as caught:
            build_loop(tmp_path, state, snapshots, max_steps=5, **NO_CHECKPOINTS).run()

        assert f"gradient of {name} is not finite" in str(caught.value)
        for word in (
            "optim.lr",
            "optim.max_grad_norm",
            "trainer.on_nonfinite=skip",
            "the loss is 2",
        ):
            assert word in str(caught.value)
        found = tensors_of(state)
        assert all(torch.equal(found[key], snapshots.copies[-1][key]) for key in found)


def test_a_skipped_update_changes_no_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        snapshots = Snapshots()
        state = state_with_bad_gradient(name, torch.nan, lambda step: step == BAD_STEP)
        options: dict[str, Any] = {"max_steps": 5, "on_nonfinite": "skip", **NO_CHECKPOINTS}
        caplog.clear()

        with caplog.at_level("WARNING", "wavenet"):
            build_loop(tmp_path / name, state, snapshots, **options).run()

        before, after, later = snapshots.copies[BAD_STEP - 1 : BAD_STEP + 2]
        assert all(torch.equal(before[key], after[key]) for key in after), name
        assert not torch.equal(after[f"model.{NAMES[0]}"], later[f"model.{NAMES[0]}"])
        assert not torch.equal(after[f"ema.{NAMES[0]}"], later[f"ema.{NAMES[0]}"])
        assert state.skipped == 1
        assert f"gradient of {name}" in caplog.text
        assert "skipped (1 so far)" in caplog.text


def test_twenty_skipped_updates_in_a_row_stop_training(tmp_path: Path) -> None:
    often = state_with_bad_gradient(NAMES[0], torch.nan, lambda step: step % 20 != 0)
    always = state_with_bad_gradient(NAMES[0], torch.nan, lambda step: step >= BAD_STEP)
    options: dict[str, Any] = {"max_steps": 45, "on_nonfinite": "skip", **NO_CHECKPOINTS}

    build_loop(tmp_path / "often", often, **options).run()
    with pytest.raises(ConfigError, match="20 updates in a row were skipped"):
        build_loop(tmp_path / "always", always, **options).run()

    assert often.skipped == 42
    assert always.skipped == MAX_SKIPPED_IN_A_ROW


def test_the_count_of_skipped_updates_is_saved(tmp_path: Path) -> None:
    state = state_with_bad_gradient(NAMES[0], torch.nan, lambda step: step != 1)
    build_loop(tmp_path, state, max_steps=4, on_nonfinite="skip", **NO_CHECKPOINTS).run()
    other = new_state()

    other.load_state_dict(state.state_dict(single_process()), single_process())

    assert (other.skipped, other.skipped_in_a_row) == (3, 2)


@pytest.mark.parametrize("which", ["weights", "ema", "moments"])
def test_a_nonfinite_model_is_never_saved_over_a_good_one(tmp_path: Path, which: str) -> None:
    state, run, name = new_state(), tmp_path / "run", NAMES[-1]

    def make_nonfinite(state: TrainingState) -> None:
        if state.step != 3:  # where a checkpoint is due
            return
        weight = dict(state.model.named_parameters())[name]
        assert state.ema_model is not None
        tensors: dict[str, Any] = {
            "weights": weight.data,
            "ema": dict(state.ema_model.named_parameters())[name],
            "moments": state.optimizer.state[weight]["exp_avg_sq"],
        }
        tensors[which].view(-1)[0] = torch.inf

    loop = build_loop(
        run,
        state,
        make_nonfinite,
        max_steps=6,
        save_every_n_steps=3,
        save_best=False,
        val_every_n_steps=2,
    )
    found = {"weights": name, "ema": f"EMA of {name}", "moments": f"exp_avg_sq of {name}"}[which]
    with pytest.raises(ConfigError, match=f"^{found} is not finite at step 3"):
        loop.run()

    assert not (run / "checkpoints").exists()
    good = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert run / "model" / "model.safetensors" in good
    with pytest.raises(ConfigError, match=f"^{found} is not finite"):
        loop.validation.export(state)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == good
