"""Training on a CUDA device, compared with the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import SMALL
from tests.gpu.test_pretended_training import CASES, MEL, batch_of, config_of
from tests.training.small import build_loop, single_process
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.data.dataset import SequentialSegments
from wavenet.data.manifest import read_manifest
from wavenet.data.options import PrepareOptions
from wavenet.data.preparation.prepare import make_plan, prepare_clips
from wavenet.distributions import SamplingConfig
from wavenet.evaluation.nll import make_clip_reader, sampler_bits_per_sample, total_nll
from wavenet.features.mel import LogMel
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.training.acceleration import accelerate
from wavenet.training.checkpointing import find_checkpoints, read_run_checkpoint
from wavenet.training.loader import Batch
from wavenet.training.loop import Objective, TrainingLoop
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.state import TrainingState

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = torch.device("cuda")
RANDOM = ("dropout", "conditioning_dropout")  # drawn by the device's own generator
TOLERANCE = {"32-true": 1e-4, "tf32": 1e-2, "bf16-mixed": 5e-2}  # of a loss, relative


def build(
    config: WaveNetConfig, run: Path, device: torch.device = DEVICE, **options: Any
) -> TrainingLoop:
    torch.manual_seed(0)
    state = TrainingState(WaveNet(config), OptimOptions(), device)
    trainer = {"max_steps": 2000, **options}
    accelerate(state.model, TrainerOptions(**trainer))
    loop = build_loop(run, state, **trainer)
    audio = AudioConfig(sample_rate=8000, mel=MEL if config.local is not None else None)
    loop.objective = Objective(state.model, audio)
    return loop


def batches(model: WaveNet, count: int) -> list[Batch]:
    """Batches of noise."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(count):
        batch = batch_of(model)
        for name in batch.keys() & {"waveform", "around"}:
            batch[name] = torch.rand(batch[name].shape, generator=generator) - 0.5
        made.append(batch)
    return made


def losses_of(loop: TrainingLoop, count: int) -> list[float]:
    segments = iter(batches(loop.state.model, count))
    for _ in range(count):
        loop.update(segments)
    return loop.read_results(late=False)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("case", [case for case in CASES if case != "vector"])
def test_losses_follow_those_of_the_cpu(tmp_path: Path, case: str, precision: str) -> None:
    exact = {**vars(config_of(case)), **dict.fromkeys(RANDOM, 0.0)}
    loops = [
        build(WaveNetConfig(**exact), tmp_path, device, precision=used)
        for device, used in ((torch.device("cpu"), "32-true"), (DEVICE, precision))
    ]

    expected, found = (losses_of(loop, 5) for loop in loops)

    assert found == pytest.approx(expected, rel=TOLERANCE[precision])


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("case", ["repeat", "gaussian", "kernel-3"])
def test_an_update_does_not_wait_for_the_gpu(tmp_path: Path, case: str, precision: str) -> None:
    loop = build(config_of(case), tmp_path, precision=precision)
    pinned = [
        {name: tensor.pin_memory() for name, tensor in batch.items()}
        for batch in batches(loop.state.model, 6)
    ]
    segments = iter(pinned)
    for _ in range(3):
        loop.update(segments)
    loop.read_results(late=True)

    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.update(segments)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert len(loop.read_results(late=False)) == 4


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    config = config_of("repeat")  # with dropout and null speakers
    options: dict[str, Any] = {"save_every_n_steps": 3, "val_every_n_steps": 9, "max_steps": 6}
    uninterrupted = build(config, tmp_path / "one", **options)
    uninterrupted.loader = iter(batches(uninterrupted.state.model, 6))  # type: ignore[assignment]
    uninterrupted.run()
    loop = build(config, tmp_path / "two", **options)
    loop.loader = iter(batches(loop.state.model, 6)[:3])  # type: ignore[assignment]
    with pytest.raises(StopIteration):
        loop.run()
    torch.manual_seed(7)
    torch.rand(5, device=DEVICE)

    resumed = build(config, tmp_path / "two", **options)
    (path,) = find_checkpoints(tmp_path / "two")
    resumed.state.load_state_dict(read_run_checkpoint(path, resumed.state), single_process())
    resumed.loader = iter(batches(resumed.state.model, 6)[3:])  # type: ignore[assignment]
    resumed.run()

    assert resumed.state.step == uninterrupted.state.step == 6
    pairs = zip(resumed.state.parameters(), uninterrupted.state.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_gpu_skips_an_update_whose_gradient_is_not_finite(tmp_path: Path) -> None:
    loop = build(SMALL, tmp_path, on_nonfinite="skip")
    losses_of(loop, 2)
    before = [weight.detach().clone() for weight in loop.state.parameters()]
    (bad,) = batches(loop.state.model, 1)
    bad["count"] = torch.tensor(0.0)

    loop.update(iter([bad]))
    loop.read_results(late=False)

    assert (loop.state.skipped, loop.state.step) == (1, 3)
    assert all(map(torch.equal, before, loop.state.parameters()))


def test_sums_of_bfloat16_gradients_are_float32(tmp_path: Path) -> None:
    config = WaveNetConfig(**{**vars(SMALL), "residual_channels": 64, "gate_channels": 128})
    grads = []
    for dtype, precision in ((torch.float64, "32-true"), (torch.float32, "bf16-mixed")):
        loop = build(config, tmp_path, precision=precision)
        loop.state.model.to(dtype)
        generator = torch.Generator().manual_seed(2)
        waveform = torch.rand(4, 20_000, generator=generator, dtype=dtype) - 0.5
        ones = torch.ones(waveform.shape, dtype=torch.bool)
        loop.backward({"waveform": waveform, "mask": ones, "count": ones.sum()})
        grads.append([weight.grad.double() for weight in loop.state.model.stack.parameters()])  # type: ignore[union-attr]

    for exact, found in zip(*grads, strict=True):
        assert float((found - exact).norm()) < 0.15 * float(exact.norm())


@pytest.mark.parametrize("tf32", [False, True])
def test_mels_and_conditioning_are_float32_whatever_the_process_set(tf32: bool) -> None:
    torch.manual_seed(0)
    model, mel = WaveNet(config_of("nearest")).eval(), LogMel(MEL)
    waveform = torch.rand(2, 16 * 40) - 0.5
    expected: list[Tensor] = []
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    for device in (torch.device("cpu"), DEVICE):
        matmul.fp32_precision = "tf32" if tf32 else before
        try:
            expected.append(mel.to(device)(waveform.to(device)).cpu())
            sampler = make_sampler(model.to(device), "reference")
            frames = expected[0].to(device)
            expected.append(sampler.teacher_forced(waveform.to(device), local=frames).cpu())
        finally:
            matmul.fp32_precision = before

    for exact, found in zip(expected[:2], expected[2:], strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("to_cuda", [True, False])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_state_continues_on_the_other_device(to_cuda: bool, backend: str) -> None:
    torch.manual_seed(0)
    model = WaveNet(config_of("repeat"))
    frames, speaker = torch.randn(2, MEL.n_mels, 80), torch.tensor([0, 2])
    greedy = SamplingConfig(temperature=0)
    cpu = make_sampler(model, backend)
    gpu = make_sampler(WaveNet(model.config).to(DEVICE), "reference")
    gpu.model.load_state_dict(cpu.model.state_dict())
    first, second = (cpu, gpu) if to_cuda else (gpu, cpu)
    state, whole = (one.init_state(2, local=frames, speaker=speaker) for one in (first, second))

    signal = first.generate_next(state, 30, greedy).cpu()
    signal = torch.cat([signal, second.generate_next(state, 30, greedy).cpu()], dim=1)

    expected = second.generate_next(whole, 60, greedy).cpu()
    assert float((signal == expected).float().mean()) > 0.9  # a tie may fall to another class


def test_validation_on_the_gpu_gives_the_bits_of_the_cpu(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    prepare_clips(make_plan(recordings, folder, PrepareOptions(sample_rate=8000)))
    torch.manual_seed(0)
    model = WaveNet(config_of("nearest"))
    reader = make_clip_reader(model.config, AudioConfig(sample_rate=8000, mel=MEL), folder)
    windows = SequentialSegments(reader, read_manifest(folder), context=20)
    expected = total_nll(model, windows).bits_per_sample

    found = total_nll(model.to(DEVICE), windows).bits_per_sample

    assert found == pytest.approx(expected, rel=1e-4)
    sampler = make_sampler(model, "reference")
    bits = sampler_bits_per_sample(sampler, model.distribution, windows)
    assert bits == pytest.approx(expected, rel=1e-3)


def test_a_draw_copies_no_table(tmp_path: Path) -> None:
    distribution = WaveNet(SMALL).to(DEVICE).distribution
    codes = torch.arange(16, device=DEVICE)
    exact = WaveNet(SMALL).distribution.decode(torch.arange(16))
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = distribution.decode(codes)
        distribution.encode(values)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert torch.equal(values.cpu(), exact)
