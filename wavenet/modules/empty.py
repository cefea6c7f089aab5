"""New modules without memory: their weights on the meta device, without initial values."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class EmptyWeights(TorchFunctionMode):
    """Puts new weights on the meta device and leaves out their initial values.

    `torch.device("meta")` would compute those, for which torch imports SymPy: 1 s and 130 MB.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = "meta"
        elif func in (nn.init.normal_, nn.init.kaiming_uniform_, torch.Tensor.normal_):
            return options.get("tensor", args[0] if args else None)
        elif func is torch.norm_except_dim and args[0].is_meta:
            v, _, dim = args
            return v.new_empty([size if axis == dim else 1 for axis, size in enumerate(v.shape)])
        return func(*args, **options)
