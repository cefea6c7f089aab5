"""Checkpoints of other projects, read without running anything they hold.

`load` makes a `WaveNet` of them. `read_torch` reads what `torch.save` wrote: state dicts, training
checkpoints and whole modules. `read_tensorflow` reads a TensorFlow V2 checkpoint without
TensorFlow.
"""

from wavenet.interop.importing import load
from wavenet.interop.source import Imported
from wavenet.interop.state_dicts import state_dict_of
from wavenet.interop.tensorflow import read_tensorflow
from wavenet.interop.torch_file import read_torch

__all__ = ["Imported", "load", "read_tensorflow", "read_torch", "state_dict_of"]
