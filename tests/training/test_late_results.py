"""Results that are read one update late, as on a GPU, against those that are read at once."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.small import build_loop, noise_batches, single_process
from tests.training.test_nonfinite import BAD_STEP, NAMES, state_with_bad_gradient
from wavenet.training.checkpointing import find_checkpoints, read_checkpoint
from wavenet.training.distributed.launcher import Launch
from wavenet.training.distributed.process_group import PeerLostError, ProcessGroup
from wavenet.training.loader import Batch
from wavenet.training.loop import TrainingLoop
from wavenet.training.update_result import UpdateResult
from wavenet.utils.errors import ConfigError

SKIPPED = (BAD_STEP, 5, 6)
STEPS = 11  # no multiple of what makes a result due
OPTIONS: dict[str, Any] = {
    "max_steps": 2000,  # a point of the curve every fourth update
    "on_nonfinite": "skip",
    "save_every_n_steps": 7,
    "val_every_n_steps": 9,
}


def build(run: Path, *, late: bool, **options: Any) -> TrainingLoop:
    state = state_with_bad_gradient(NAMES[0], torch.nan, lambda step: step in SKIPPED)
    state.reads_late = late
    return build_loop(run, state, **{**OPTIONS, **options})


def train(run: Path, *, late: bool) -> dict[str, Any]:
    """Train until a signal comes while an update is made; return the last checkpoint."""
    loop = build(run, late=late)

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(noise_batches()):
            if number == STEPS - 1:
                loop.sync.own_stop.signal = signal.SIGTERM
            yield batch

    loop.loader = batches()  # type: ignore[assignment]
    loop.run()
    assert not loop.results
    path = find_checkpoints(run)[-1]
    assert path.stem == f"step-{STEPS:08d}"
    return read_checkpoint(path)


@pytest.mark.filterwarnings("ignore")
def test_results_that_are_read_late_change_nothing(tmp_path: Path) -> None:
    at_once, late = (train(tmp_path / str(late), late=late) for late in (False, True))

    assert at_once["skipped"] == late["skipped"] == (3, 0)
    assert at_once["history"] == late["history"]
    assert [step for step, _ in late["history"]["train"]] == [4, 8]
    for name, weight in at_once["model"].items():
        assert torch.equal(weight, late["model"][name])
    for moments, others in zip(
        at_once["optimizer"]["state"].values(), late["optimizer"]["state"].values(), strict=True
    ):
        assert all(torch.equal(tensor, others[kind]) for kind, tensor in moments.items())
    torch.testing.assert_close(at_once["ema_model"], late["ema_model"])


def test_a_nonfinite_gradient_that_is_seen_late_has_changed_no_weight(tmp_path: Path) -> None:
    loop = build(tmp_path, late=True, on_nonfinite="stop")
    segments = iter(noise_batches())
    for _ in range(BAD_STEP):
        loop.update(segments)
    before = [weight.detach().clone() for weight in loop.state.parameters()]
    loop.update(segments)
    assert len(loop.read_results(late=True)) == BAD_STEP

    with pytest.raises(ConfigError, match=f"gradient of {NAMES[0]} .* at step {BAD_STEP + 1}, wh"):
        loop.read_results(late=False)

    assert all(map(torch.equal, before, loop.state.parameters()))


class NeverReached:
    """An event behind a collective that a lost process does not join."""

    def query(self) -> bool:
        return False


def test_a_collective_of_a_gpu_that_never_ends_is_a_lost_process() -> None:
    group = ProcessGroup(Launch(rank=1, size=2), torch.device("cuda"), 0.01, object())  # type: ignore[arg-type]

    with pytest.raises(PeerLostError, match=r"process 1 of 2 lost .*ddp_timeout_seconds=0.01 s"):
        group.wait(NeverReached())  # type: ignore[arg-type]


def test_a_result_names_the_first_nonfinite_gradient() -> None:
    gradients = {"none": torch.zeros(0), "a": torch.ones(3), "b": torch.tensor([1.0, -torch.inf])}
    result = UpdateResult(1, gradients, [torch.tensor(2.0), torch.tensor(4.0)], torch.tensor(5.0))
    result.wait(single_process())

    assert result.nonfinite == "b"
    assert result.losses == [2.0, 4.0]
    assert result.gradient_norm == 5.0
    assert float(result.skip()) == 1.0
    assert (
        float(UpdateResult(1, {"a": torch.ones(3)}, [torch.ones(())], torch.ones(())).skip()) == 0.0
    )
