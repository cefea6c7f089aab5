"""Gated activation of the training pass for NVIDIA GPUs: one kernel forward, one backward.

In PyTorch these are 5 and 14 kernels, each of which reads and writes all rows. A thread has four
columns, or one where rows are not aligned: because of a width, or of where a tensor begins.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavenet.kernels.cuda.compiler import Program
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.kernels.cuda.launch import Launch, Launcher, task_type
from wavenet.modules import GatedActivation
from wavenet.utils.errors import MachineError

log = logging.getLogger("wavenet")
THREADS, ROWS = 128, 8  # of a block; of a thread
COLUMNS = 4  # of a thread
MAX_ACROSS = 32  # threads side by side in a row
ROW_BYTES = 16  # what rows that this allocates are a multiple of, for matrix products
DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
Task = task_type(
    ("y", "bias", "grad_z", "z", "grad_y", "sums"),
    ("rows", "half", "z_stride", "grad_z_stride", "tiles", "across"),
)
PROGRAM = Program(
    name="gates",
    main_file=Path(__file__).parent / "gated_activation.cu",
    kernels=tuple(
        f"gate_{way}_{dtype}{suffix}"
        for way in ("forward", "backward")
        for dtype in DTYPES.values()
        for suffix in ("", "_narrow")
    ),
    user="the fused gate",
)
_loaded: dict[torch.device, Launcher | None] = {}


class CudaGatedActivation(GatedActivation):
    """`GatedActivation` in float32, bfloat16 and float16, computed in float32 and rounded once.

    Nothing waits for the GPU, so a CUDA graph may capture it. No bit depends on the order in which
    threads run.

    Args:
        rows: Number of samples in all items of the batch.
        half: Width of the output.
        like: A tensor of the precision and device to use.
        kernels: Those of `PROGRAM`, on that device.
    """

    def __init__(self, rows: int, half: int, like: Tensor, kernels: Launcher) -> None:
        super().__init__(rows, half, like)
        self.kernels = kernels
        self.grad_y = like.new_empty(0)  # allocated by the first backward

    def forward(self, y: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        tensors = {"y": y, "z": z}
        self._launch("forward", tensors, bias, Grid.of(tensors, self.rows, self.half))
        return z

    def backward(
        self, y: Tensor, bias: Tensor | None, grad_z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not len(self.grad_y):
            self.grad_y = torch.empty_like(y)
            unit = ROW_BYTES // y.element_size()
            self.z = y.new_empty(self.rows, self.half // unit * unit + unit)
            self.z[:, self.half] = 1
        tensors = {"y": y, "z": self.z, "grad_z": grad_z, "grad_y": self.grad_y}
        grid = Grid.of(tensors, self.rows, self.half)
        sums = y.new_empty(grid.parts, 2 * self.half, dtype=torch.float32)
        shared_bytes = grid.lanes * grid.across * 2 * grid.columns * sums.element_size()
        self._launch("backward", {**tensors, "sums": sums}, bias, grid, shared_bytes)
        return self.grad_y, self.grad_y.t(), self.z[:, : self.half + 1].t(), sums

    def _launch(
        self,
        way: str,
        tensors: dict[str, Tensor],
        bias: Tensor | None,
        grid: "Grid",
        shared_bytes: int = 0,
    ) -> None:
        if not self.rows:
            return
        if bias is not None:
            tensors["bias"] = bias.float().contiguous()
        grad_z = tensors.get("grad_z")
        numbers = {
            "rows": self.rows,
            "half": self.half,
            "z_stride": tensors["z"].stride(0),
            "grad_z_stride": 0 if grad_z is None else grad_z.stride(0),
            "tiles": grid.tiles,
            "across": grid.across,
        }
        name = f"gate_{way}_{DTYPES[tensors['y'].dtype]}{'_narrow' if grid.columns == 1 else ''}"
        blocks = grid.parts * grid.tiles
        self.kernels.launch(Launch(name, Task, tensors, numbers, blocks, THREADS, shared_bytes))


@dataclass(frozen=True)
class Grid:
    """Which threads have which numbers.

    Attributes:
        columns: Of a thread.
        across: Threads of a block side by side in a row.
        tiles: Blocks side by side in a row.
        parts: Blocks one below the other.
    """

    columns: int
    across: int
    tiles: int
    parts: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], rows: int, half: int) -> "Grid":
        """Return the grid for rows of `half` columns, as far as the tensors are aligned."""
        assert tensors["y"].is_contiguous()
        places = [half]
        for tensor in tensors.values():
            assert tensor.stride(1) == 1
            places += [tensor.stride(0), tensor.data_ptr() // tensor.element_size()]
        columns = 1 if any(place % COLUMNS for place in places) else COLUMNS
        tiles = -(-half // (columns * MAX_ACROSS))
        across = -(-half // (columns * tiles))
        return cls(columns, across, tiles, -(-rows // (THREADS // across * ROWS)))

    @property
    def lanes(self) -> int:
        """Rows that a block has at a time."""
        return THREADS // self.across


def gate_kernels(device: torch.device) -> Launcher | None:
    """Return the kernels on a GPU, loaded at first use; `None`, and a line in the log, without."""
    if device not in _loaded:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return None  # a graph can capture launches, not what loads code
        try:
            _loaded[device] = CudaKernels(PROGRAM, device)
        except MachineError as error:
            log.info("using PyTorch's gated activation on %s: %s", device, error)
            _loaded[device] = None
    return _loaded[device]


def cuda_gated_activation(rows: int, half: int, like: Tensor) -> GatedActivation:
    """Return the fused gated activation for a tensor on a GPU, or PyTorch's where it cannot run."""
    kernels = gate_kernels(like.device) if like.dtype in DTYPES else None
    if kernels is None:
        return GatedActivation(rows, half, like)
    return CudaGatedActivation(rows, half, like, kernels)
