"""New modules without memory: their weights on the meta device, without initial values.

Constants that a module computes with keep their values there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Self = TypeVar("Self", bound=nn.Module)


class KeepsConstants(nn.Module):
    """Base of modules whose buffers that are not saved are constants.

    They follow the weights to another device, but not to another dtype, nor to the meta device,
    from which a model directory's weights would come back without them.
    """

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        buffers, names = self._buffers, self._non_persistent_buffers_set
        constants = {name: buffers[name] for name in names}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in constants.items():
            moved = buffers[name]
            if values is not None and moved is not None:
                buffers[name] = values if moved.is_meta else values.to(moved.device)
        return self


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
