"""Threads that share a stream's samples, stop sharing them, and begin again."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.architectures import SMALL, conditions_for
from tests.sampling.parity import noisy
from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.kernels.sampler.arrays import ThreadShare
from wavenet.kernels.sampler.sharing import ALONE, MAX_BACKOFF, NUM_PHASES, TOLERANCE
from wavenet.sampling import make_sampler
from wavenet.sampling.cpu import CpuSampler
from wavenet.sampling.cpu.packed_state import PackedState
from wavenet.utils.cores import available_cores

pytestmark = pytest.mark.skipif(available_cores() < 2, reason="one core here: nothing is shared")

PLAIN = WaveNetConfig(
    dilations=(1, 2, 4, 30, 97), residual_channels=40, gate_channels=90, skip_channels=200
)
LOCAL = LocalConfig(in_channels=5, channels=20, upsample_scales=(20,), lookahead=1)
MEL = MelConfig(sample_rate=8000, n_fft=128, hop_length=20, win_length=80, n_mels=5, f_max=4000.0)
CONFIGS = {
    "plain": PLAIN,
    "conditioned": replace(PLAIN, local=LOCAL, num_speakers=3, kernel_size=3),
    "predicted": replace(
        PLAIN,
        local=LOCAL,
        output_distribution="logistic_mixture",
        quantization_channels=65536,
        input_type="mu-law",
        predictor=PredictorConfig(order=20, mel=MEL),
    ),
}
ALWAYS, SWITCHING = 2**30, -1  # tolerances: nothing ends sharing, or every shared sample does


@pytest.mark.parametrize("weight_dtype", ["float32", "int8"])
@pytest.mark.parametrize("tolerance", [ALWAYS, SWITCHING], ids=["always", "switching"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_sharing_that_stops_and_resumes_changes_no_bit(
    weight_dtype: str, tolerance: int, kind: str
) -> None:
    config, chunk = CONFIGS[kind], 200
    guidance_scale = 2.0 if config.num_speakers else 1.0
    alone = make_sampler(noisy(config), "cpu", weight_dtype=weight_dtype)
    shared = make_sampler(noisy(config), "cpu", num_threads=2, weight_dtype=weight_dtype)
    how: dict[str, Any] = {"seed": 3, "guidance_scale": guidance_scale}
    how |= conditions_for(config, 1, 20_000)
    states = [sampler.init_state(1, **how) for sampler in (alone, shared)]
    pace = _pace(states[1].model)
    pace[..., ALONE], pace[..., TOLERANCE], pace[..., MAX_BACKOFF] = 1, tolerance, 0
    wanted = 1 if tolerance == ALWAYS else 5

    for _ in range(100):  # until the second thread has had a core often enough
        expected, signal = (
            sampler.generate_next(state, chunk)
            for sampler, state in zip((alone, shared), states, strict=True)
        )
        assert torch.equal(signal, expected)
        if pace[..., NUM_PHASES].sum() >= wanted:
            break

    assert pace[..., NUM_PHASES].sum() >= wanted


@pytest.mark.parametrize("comes", ["never", "late"])
def test_thread_without_a_core_is_not_waited_for(comes: str) -> None:
    model = noisy(SMALL)
    sampler = make_sampler(model, "cpu", num_threads=2)
    assert isinstance(sampler, CpuSampler)
    kernel, finished = sampler.kernel, threading.Event()

    def without_helper(share: ThreadShare, *model: object) -> None:
        if share.rank == 0:
            kernel(share, *model)
            finished.set()
        elif comes == "late":
            finished.wait()
            kernel(share, *model)

    sampler.kernel = without_helper
    signal = sampler.generate(500, seed=1)

    assert torch.equal(signal, make_sampler(model, "cpu").generate(500, seed=1))


def test_copy_of_a_state_keeps_what_was_measured() -> None:
    sampler = make_sampler(noisy(SMALL), "cpu", num_threads=2)
    state = sampler.init_state(1, seed=0)
    sampler.generate_next(state, 100)

    measured = _pace(state.model)

    assert measured.any()
    assert np.array_equal(_pace(state.clone().model), measured)


def _pace(state: object) -> Any:
    assert isinstance(state, PackedState)
    return state.pace
