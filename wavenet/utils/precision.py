"""How a GPU computes products of float32 and bfloat16 numbers.

NVIDIA GPUs from Ampere on multiply float32 numbers several times as fast in TF32, which rounds
factors to 10 bits: a relative error of 1e-3. PyTorch's default is TF32 for convolutions and
float32 for matrix products. Here both have the precision that is asked for. Sums of bfloat16
products are float32: PyTorch's default lets partial sums of long products be bfloat16.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

IEEE = ("ieee", "none")  # both are float32; `none` is PyTorch's default for matrix products


@contextlib.contextmanager
def float32_products(device: torch.device, *, tf32: bool = False) -> Iterator[None]:
    """Compute products of float32 numbers on a GPU in float32 within the block, or in TF32.

    The settings are those of the process, restored after the block.

    Args:
        device: Where the products are computed; nothing changes for other devices than CUDA's.
        tf32: TF32 instead.
    """
    if device.type != "cuda":
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, conv.fp32_precision
    bfloat16_before = matmul.allow_bf16_reduced_precision_reduction
    matmul.allow_bf16_reduced_precision_reduction = False
    wanted = ("tf32",) if tf32 else IEEE
    try:
        for products, precision in zip((matmul, conv), before, strict=True):
            if precision not in wanted:
                products.fp32_precision = wanted[0]
        yield
    finally:
        for products, precision in zip((matmul, conv), before, strict=True):
            if products.fp32_precision != precision:
                products.fp32_precision = precision
        matmul.allow_bf16_reduced_precision_reduction = bfloat16_before
