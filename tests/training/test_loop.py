import dataclasses
import itertools
import logging
from pathlib import Path

import pytest
import torch

from tests.training.small import CONFIG, build_loop, new_state, run_config, single_process
from wavenet.checkpoint import TrainingInfo
from wavenet.config import AudioConfig, LocalConfig
from wavenet.model import WaveNet
from wavenet.presets import MEL_PRESETS
from wavenet.training.checkpointing import find_checkpoints, read_run_checkpoint
from wavenet.training.distributed.gradient_sync import GradientSync
from wavenet.training.loop import Objective, masked_mean
from wavenet.training.optim import hold_schedule, learning_rate, schedule_line, update_ema
from wavenet.training.options import OptimOptions
from wavenet.training.signals import StopFlag
from wavenet.training.state import TrainingState
from wavenet.training.validation import History, Validation


def test_a_resumed_loop_ends_with_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    uninterrupted = new_state()
    build_loop(tmp_path / "uninterrupted", uninterrupted, max_steps=6).run()
    torch.manual_seed(0)
    loop = build_loop(tmp_path / "parts", new_state(), max_steps=6, save_every_n_steps=3)
    segments = iter(loop.loader)
    for _ in range(3):
        loop.update(segments)
        loop.read_results(late=False)
    loop.checkpoints.save_if_due(loop.state, stop=False)

    resumed = new_state()
    (path,) = find_checkpoints(tmp_path / "parts")
    resumed.load_state_dict(read_run_checkpoint(path, resumed), single_process())
    build_loop(tmp_path / "parts", resumed, max_steps=6).run()

    assert resumed.step == uninterrupted.step == 6
    pairs = zip(resumed.parameters(), uninterrupted.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_accumulated_batches_give_the_gradient_of_their_mean_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = new_state()
    loop = build_loop(tmp_path, state, global_batch_size=2, accumulate_grad_batches=2)
    batches = [batch for batch, _ in zip(loop.loader, range(2), strict=False)]

    for batch in batches:
        loop.backward(batch)

    found = [weight.grad for weight in state.model.parameters()]
    mean_loss = torch.stack([loop.objective(batch) for batch in batches]).mean()
    expected = torch.autograd.grad(mean_loss, list(state.model.parameters()))
    torch.testing.assert_close(found, list(expected))


def test_masked_mean_ignores_samples_outside_the_mask() -> None:
    values = torch.tensor([[1.0, 2.0, 100.0], [3.0, 100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])

    assert masked_mean(values, mask, torch.tensor(3.0)) == 2.0


def test_loss_of_a_segment_is_that_of_its_target_samples() -> None:
    model = WaveNet(CONFIG)
    waveform = torch.rand(2, 30) * 2 - 1
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[:, 10:] = True

    loss = Objective(model, None)({"waveform": waveform, "mask": mask, "count": mask.sum()})

    torch.testing.assert_close(loss, model.nll(waveform)[:, 10:].mean())


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_learning_rate_warms_up_then_follows_its_schedule(schedule: str) -> None:
    optim = OptimOptions(lr=2.0, warmup_steps=10, lr_schedule=schedule, min_lr_ratio=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(optim, step, 110) / 2.0 for step in range(111)]

    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert rates[110] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert all(after <= before for before, after in itertools.pairwise(rates[10:]))


def test_a_held_schedule_keeps_the_rates_of_the_first_steps() -> None:
    optim = OptimOptions(lr=2.0, warmup_steps=10, min_lr_ratio=0.1)
    held = hold_schedule(optim, 110, 300)

    assert hold_schedule(optim, 110, 110) == optim
    assert hold_schedule(held, 300, 500) == held, "that of the first run"
    assert [learning_rate(held, step, 300) for step in range(110)] == [
        learning_rate(optim, step, 110) for step in range(110)
    ]
    assert [learning_rate(held, step, 300) for step in (110, 200, 299)] == [0.2] * 3


@pytest.mark.parametrize("lr_schedule_steps", [None, 20, 50])
@pytest.mark.parametrize("max_steps", [1, 20, 100, 101])
def test_a_run_that_ended_in_its_warmup_follows_the_schedule_of_its_new_steps(
    max_steps: int, lr_schedule_steps: int | None
) -> None:
    before = OptimOptions(lr=2.0, min_lr_ratio=0.1, lr_schedule_steps=lr_schedule_steps)

    now = hold_schedule(before, max_steps, 200)

    rates = [learning_rate(before, step, max_steps) for step in range(max_steps)]
    rates += [learning_rate(now, step, 200) for step in range(max_steps, 200)]
    assert rates == [
        learning_rate(OptimOptions(lr=2.0, min_lr_ratio=0.1), s, 200) for s in range(200)
    ]
    assert hold_schedule(before, max_steps, max_steps) == before


@pytest.mark.parametrize("max_steps", [1, 20, 100, 101, 150, 200])
@pytest.mark.parametrize("lr_schedule_steps", [None, 1, 50, 101, 150, 200, 300])
def test_no_number_of_steps_makes_a_resumed_learning_rate_jump(
    max_steps: int, lr_schedule_steps: int | None
) -> None:
    """It is resumed twice; no step of these schedules changes the rate by 0.1."""
    optim = OptimOptions(lr=2.0, lr_schedule_steps=lr_schedule_steps)
    rates: list[float] = []
    ends = (max_steps, max_steps + 60, max_steps + 300)
    for steps, longer in itertools.pairwise((*ends, 1000)):
        rates += [learning_rate(optim, step, steps) for step in range(len(rates), steps)]
        optim = hold_schedule(optim, steps, longer)

    assert max(abs(after - before) for before, after in itertools.pairwise(rates)) < 0.1


@pytest.mark.parametrize(
    ("lr_schedule_steps", "max_steps", "new_max_steps", "line"),
    [
        (None, 20, 20, ""),
        (
            None,
            20,
            50,
            "is 0.42 now and 0.99 at the end, it was 0.4: its schedule now has 50 steps",
        ),
        (
            None,
            20,
            130,
            "is 0.42 now and 0.2 at the end, it was 0.4: its schedule now has 130 steps",
        ),
        (20, 20, 130, "now has 130 steps, before 20, which ended in the warm-up"),
        (300, 20, 130, "keeps its schedule of 300 steps, 0.42 now and 1.9 at the end"),
        (None, 900, 999, "optim.lr_schedule_steps=999 stretches it, 0.42 now"),
    ],
)
def test_a_run_resumed_in_its_warmup_says_its_rates(
    lr_schedule_steps: int | None, max_steps: int, new_max_steps: int, line: str
) -> None:
    before = OptimOptions(lr=2.0, min_lr_ratio=0.1, lr_schedule_steps=lr_schedule_steps)
    now = hold_schedule(before, max_steps, new_max_steps)

    found = schedule_line(before, now, 20, max_steps, new_max_steps)

    assert bool(found) is bool(line)
    assert line in (found or "")


def test_without_ema_the_model_itself_is_evaluated() -> None:
    state = new_state(OptimOptions(ema_decay=None))

    assert state.eval_model is state.model


def test_ema_moves_towards_the_weights_by_its_decay_smaller_at_first() -> None:
    ema, weights = (torch.nn.Linear(1, 1, bias=False).requires_grad_(False) for _ in range(2))
    ema.weight.fill_(0.0)
    weights.weight.fill_(1.0)

    update_ema(ema, weights, ema_decay=0.9, step=0)
    assert float(ema.weight) == pytest.approx(0.9)  # decay 1 / 10

    update_ema(ema, weights, ema_decay=0.9, step=1000)
    assert float(ema.weight) == pytest.approx(0.91)


def test_ema_is_not_trained() -> None:
    state = new_state()

    assert state.eval_model is not state.model
    assert not any(p.requires_grad for p in state.eval_model.parameters())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler accesses it
@pytest.mark.slow
def test_torch_compile_changes_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    plain = new_state()
    torch.manual_seed(0)
    compiled = new_state()
    batch = {
        "waveform": torch.rand(1, 40) * 2 - 1,
        "mask": torch.ones(1, 40, dtype=torch.bool),
        "count": torch.tensor(40.0),
    }

    losses = [
        Objective(plain.model, None)(batch),
        Objective(compiled.model, None, torch_compile=True)(batch),
    ]
    for loss in losses:
        loss.backward()

    torch.testing.assert_close(losses[1], losses[0])
    pairs = zip(plain.model.parameters(), compiled.model.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other.grad, one.grad)
    assert compiled.ema_model is not None
    waveform = batch["waveform"]
    torch.testing.assert_close(compiled.ema_model.nll(waveform), plain.model.nll(waveform))


@pytest.mark.parametrize(("preset", "ending"), [(None, "model"), ("16khz", "model input=FILE")])
def test_the_first_model_comes_with_a_command_that_generates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, preset: str | None, ending: str
) -> None:
    mel = None if preset is None else MEL_PRESETS[preset]
    local = LocalConfig(in_channels=80, channels=2, upsample_scales=(10, 16)) if mel else None
    model = dataclasses.replace(CONFIG, local=local)
    sync = GradientSync(single_process(), StopFlag())
    config = dataclasses.replace(run_config(), model=model, audio=AudioConfig(mel=mel))
    state = TrainingState(WaveNet(model), OptimOptions())
    state.step = 1

    with caplog.at_level(logging.INFO, "wavenet"):
        Validation(tmp_path, config, History(), sync, TrainingInfo()).export_unvalidated(state)

    assert f"a first model to listen to: wavenet-generate {tmp_path}/{ending}" in caplog.messages
