import dataclasses
import hashlib
import os
import pickle  # noqa: TID251 the test of a pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import numpy as np
import pytest
import torch

from tests.architectures import SMALL
from tests.commands import ROOT
from tests.forks import FunctionProcess
from wavenet.config import WaveNetConfig
from wavenet.distributions import SamplingConfig
from wavenet.kernels.sampler.arrays import ThreadShare
from wavenet.model import WaveNet
from wavenet.sampling import make_sampler
from wavenet.sampling.cpu import CpuSampler
from wavenet.sampling.cpu.packing import model_sizes
from wavenet.sampling.cpu.threads import thread_shares
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import CheckpointError, ConfigError


@pytest.mark.parametrize("num_threads", [0, available_cores() + 1])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_more_threads_than_cores_are_refused_with_their_number(
    backend: str, num_threads: int
) -> None:
    with pytest.raises(ConfigError, match=f"1 to {available_cores()}, the available cores"):
        make_sampler(WaveNet(SMALL), backend, num_threads=num_threads)


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
def test_a_part_of_a_thread_and_weights_without_values_are_refused(backend: str) -> None:
    threads = cast(int, 1.5)

    with pytest.raises(ValueError, match="num_threads must be a whole number, got 1.5"):
        make_sampler(WaveNet(SMALL), backend, num_threads=threads)
    with pytest.raises(ConfigError, match="its weights have no values"):
        make_sampler(WaveNet(SMALL).to("meta"), backend)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_damaged_weights_are_refused_by_name(number: float) -> None:
    model = WaveNet(SMALL)
    with torch.no_grad():
        model.get_parameter("stack.blocks.1.conv.weight")[0, 0, 0] = number

    with pytest.raises(CheckpointError, match=r"stack\.blocks\.1\.conv\.weight"):
        make_sampler(model, "cpu")


@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_sampler_is_pickled_without_addresses_of_code(weight_norm: bool) -> None:
    model = WaveNet(dataclasses.replace(SMALL, weight_norm=weight_norm))
    sampler = CpuSampler(model, weight_dtype="int8")

    content = pickle.dumps(sampler)
    copy = pickle.loads(content)  # noqa: S301

    assert b"functions" not in content
    assert copy.weight_dtype == "int8"
    assert torch.equal(copy.generate(50, seed=3), sampler.generate(50, seed=3))


def test_overflow_is_an_error() -> None:
    model = WaveNet(SMALL)
    with torch.no_grad():
        for name in ("hidden.weight", "hidden.bias", "output.weight"):
            model.get_parameter(f"head.{name}").fill_(3e38)

    with pytest.raises(CheckpointError, match="NaN or infinity"):
        make_sampler(model, "cpu").generate(3)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("streams", [1, 2, 3, 5, 32])
def test_thread_shares_cover_every_stream_and_column_once(num_threads: int, streams: int) -> None:
    sizes = model_sizes(WaveNet(WaveNetConfig(dilations=(1, 2), head_channels=40)), "float32")

    found = thread_shares(sizes, streams, num_threads)

    assert len(found) == num_threads
    led = [share for share in found if share.rank == 0]
    covered = [share.first_stream + s for share in led for s in range(share.num_streams)]
    assert sorted(covered) == list(range(streams))
    for share in found:
        assert not share.columns[..., 0].any()
        for columns in share.columns:  # alone, shared
            assert columns[:, -1].tolist() == [sizes.skip, sizes.head, sizes.params]
        assert (np.diff(share.columns) >= 0).all()
        assert share.columns.shape == (2, 3, share.num_threads + 1)
    rows = [share.scratch_row + s for share in found for s in range(share.num_streams)]
    assert sorted(rows) == list(range(max(streams, num_threads)))


def test_auto_falls_back_to_graph_without_numba(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)

    sampler = make_sampler(WaveNet(SMALL))

    assert sampler.name == "graph"
    assert "using the graph sampler" in caplog.text
    assert "pip install 'torch-wavenet[generate]'" in caplog.text


MACHINES = """
import hashlib, torch
from wavenet import WaveNet, WaveNetConfig, make_sampler
torch.manual_seed(0)
config = WaveNetConfig(
    quantization_channels=32, dilations=(1, 2, 9), residual_channels=40, gate_channels=20
)
sampler = make_sampler(WaveNet(config), "cpu")
signal = sampler.generate(40, batch_size=7)
digest = hashlib.sha256(signal.numpy().tobytes()).hexdigest()
print(digest)
"""


@pytest.mark.slow
def test_machine_without_wide_vectors_generates_the_same_bytes() -> None:
    here: dict[str, str] = {}
    exec(MACHINES, here)  # noqa: S102
    done = subprocess.run(
        [sys.executable, "-c", MACHINES],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_CPU_NAME": "generic",
            "NUMBA_CPU_FEATURES": "",
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == here["digest"]
    assert len(here["digest"]) == hashlib.sha256().digest_size * 2


@pytest.mark.skipif(available_cores() < 2, reason="one core here: no team")
def test_interruption_leaves_no_waiting_thread() -> None:
    sampler = make_sampler(WaveNet(SMALL), "cpu", num_threads=2)
    assert isinstance(sampler, CpuSampler)
    kernel = sampler.kernel
    before = set(threading.enumerate())

    def interrupted(share: ThreadShare, *model: object) -> None:
        if share.rank == 0:
            raise KeyboardInterrupt
        kernel(share, *model)

    sampler.kernel = interrupted
    with pytest.raises(KeyboardInterrupt):
        sampler.generate(10)

    helpers = set(threading.enumerate()) - before
    for helper in helpers:
        helper.join(timeout=600)
    assert not any(helper.is_alive() for helper in helpers)


def status_of_a_fork_that_generates() -> int:
    """Generate on two threads, then in a child of this process; return the child's status."""
    torch.set_num_threads(2)
    sampler = make_sampler(WaveNet(SMALL), "cpu")
    sampler.generate(5_000, batch_size=4)
    child = os.fork()
    if not child:
        sampler.generate(5_000, batch_size=4)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.slow
def test_a_forked_child_generates_too() -> None:
    assert FunctionProcess(status_of_a_fork_that_generates).result() == 0


def test_another_top_k_compiles_nothing() -> None:
    sampler = make_sampler(WaveNet(SMALL), "cpu")
    assert isinstance(sampler, CpuSampler)
    before = len(sampler.kernel.signatures)

    sampler.generate(np.int32(3), sampling=SamplingConfig(top_k=np.int16(10**4)))  # type: ignore[arg-type]

    assert len(sampler.kernel.signatures) == before


@pytest.mark.skipif(available_cores() < 2, reason="one core here: no team")
def test_two_threads_may_use_one_sampler() -> None:
    sampler = make_sampler(WaveNet(SMALL), "cpu", num_threads=2)
    expected = [sampler.generate(300, seed=seed) for seed in range(4)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: sampler.generate(300, seed=seed), range(4)))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
