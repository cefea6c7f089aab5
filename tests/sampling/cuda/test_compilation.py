"""The sampler's kernel compiled by NVRTC, and what its code uses of a GPU."""

import os

import pytest

from tests.gpu.cubins import ARCHITECTURES, needs_nvrtc, resources
from wavenet.kernels.cuda.compiler import Nvrtc
from wavenet.sampling.cuda.task import program

pytestmark = needs_nvrtc
MAX_REGISTERS = {"float32": 240, "bfloat16": 160}  # 65,536 of a multiprocessor: 8 and 12 warps
MAX_STACK_BYTES = 128
# A compilation takes seconds: without `--full` the oldest architecture and the newest.
CASES = [("float32", "sm_80", True), ("bfloat16", "sm_120", True)]
if "WAVENET_FULL" in os.environ:
    CASES = [
        (weight_dtype, architecture, predicts)
        for weight_dtype in MAX_REGISTERS
        for architecture in ARCHITECTURES
        for predicts in (False, True)
    ]


@pytest.mark.parametrize(("weight_dtype", "architecture", "predicts"), CASES)
def test_the_kernel_compiles_within_its_limits(
    weight_dtype: str, architecture: str, predicts: bool
) -> None:
    kernels = program(weight_dtype, predicts=predicts)
    cubin = Nvrtc().compile(kernels, architecture)

    functions = resources(cubin)
    print(weight_dtype, architecture, functions)
    registers, _ = functions[kernels.kernels[0]]
    assert max(count for count, _ in functions.values()) <= MAX_REGISTERS[weight_dtype]
    assert registers > 32  # the figure is read from the right place
    assert sum(stack for _, stack in functions.values()) <= MAX_STACK_BYTES
