"""The kernel's program, and the argument of a launch, `struct Task` of kernels/warps.cu."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wavenet.kernels.cuda.compiler import Program
from wavenet.kernels.cuda.launch import Launch, task_type
from wavenet.sampling.cuda.packing import LANES

KERNELS = {False: "sample_warps", True: "sample_predicted_warps"}  # whether the model predicts
TENSORS = (
    *("gates", "residuals", "skips", "hidden", "output"),
    *("gate_biases", "residual_biases", "biases", "table", "rows_of_codes", "values", "blocks"),
    *("shared_conditioning", "local_conditioning", "seeds", "noise", "forced"),
    *("gated", "queues", "history", "last", "codes", "params"),
    *("coefficients", "part_of_sample", "scales", "samples", "predicted"),
)
INTEGERS = (
    *("length", "warps", "num_blocks", "taps", "input_taps", "input_rows", "history_row"),
    *("residual", "gated_width", "skip", "head", "params_width", "local", "shared"),
    *("first_uniform", "num_uniforms", "guided"),
    *("top_k", "num_params", "num_mixtures", "is_gaussian"),
    *("order", "first_place"),
)
FLOATS = (
    *("guidance_scale", "temperature", "inverse_temperature", "top_p", "probability_floor"),
    *("min_log_scale", "residual_scale"),
)
Task = task_type(TENSORS, INTEGERS, FLOATS)


def program(weight_dtype: str, *, predicts: bool = False) -> Program:
    """Return what is compiled for a weight dtype, and for a linear predictor if there is one."""
    macros = {"BFLOAT16": weight_dtype == "bfloat16", "PREDICTOR": predicts}
    return Program(
        name=f"sampler-{weight_dtype}" + ("-predictor" if predicts else ""),
        main_file=Path(__file__).parent / "kernels" / "warps.cu",
        kernels=(KERNELS[predicts],),
        macros=tuple(name for name, is_defined in macros.items() if is_defined),
        user="backend=cuda",
        instead=": use backend=cpu or graph",
        dynamic_shared=True,
    )


def sampler_launch(
    tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], shared_bytes: int
) -> Launch:
    """Return a launch.

    Args:
        tensors: The tensors of `TENSORS` that there are, on the kernel's device; contiguous.
        numbers: All of `INTEGERS` and `FLOATS`.
        shared_bytes: Shared memory of a warp.
    """
    kernel = KERNELS[numbers["order"] > 0]
    return Launch(kernel, Task, tensors, numbers, numbers["warps"], LANES, shared_bytes)
