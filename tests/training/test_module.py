import itertools

import pytest
import torch

from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.training.module import TrainingModule, masked_mean, rate_factor
from wavenet.training.options import OptimOptions

CONFIG = WaveNetConfig(
    quantization_channels=8, dilations=(1, 2), residual_channels=4, gate_channels=4
)


def test_the_loss_counts_samples_of_the_mask_alone() -> None:
    values = torch.tensor([[1.0, 2.0, 100.0], [3.0, 100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])

    assert masked_mean(values, mask, torch.tensor(3.0)) == 2.0


def test_the_loss_of_a_crop_is_that_of_its_target_samples() -> None:
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=10)
    waveform = torch.rand(2, 30) * 2 - 1
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[:, 10:] = True

    loss = module.training_step({"waveform": waveform, "mask": mask, "count": mask.sum()}, 0)

    torch.testing.assert_close(loss, module.model.nll(waveform)[:, 10:].mean())


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_the_rate_rises_then_follows_its_schedule(schedule: str) -> None:
    optim = OptimOptions(warmup_steps=10, lr_schedule=schedule, min_lr_ratio=0.1)  # type: ignore[arg-type]
    factor = rate_factor(optim, 110)
    rates = [factor(step) for step in range(111)]

    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert rates[110] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert all(after <= before for before, after in itertools.pairwise(rates[10:]))


def test_without_averaging_the_model_itself_is_exported() -> None:
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(ema_decay=None), max_steps=10)

    assert module.exported is module.model


def test_the_average_is_not_trained() -> None:
    module = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=10)

    assert module.exported is not module.model
    assert not any(p.requires_grad for p in module.exported.parameters())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at it
@pytest.mark.slow
def test_compiling_around_the_stack_changes_neither_loss_nor_gradient() -> None:
    torch.manual_seed(0)
    plain = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=10)
    torch.manual_seed(0)
    compiled = TrainingModule(WaveNet(CONFIG), OptimOptions(), max_steps=10, compiled=True)
    batch = {
        "waveform": torch.rand(1, 40) * 2 - 1,
        "mask": torch.ones(1, 40, dtype=torch.bool),
        "count": torch.tensor(40.0),
    }

    losses = [module.training_step(batch, 0) for module in (plain, compiled)]
    for loss in losses:
        loss.backward()

    torch.testing.assert_close(losses[1], losses[0])
    pairs = zip(plain.model.parameters(), compiled.model.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other.grad, one.grad)
    assert compiled.average is not None
    waveform = batch["waveform"]
    torch.testing.assert_close(compiled.average.nll(waveform), plain.model.nll(waveform))
