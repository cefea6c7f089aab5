"""Loads and compiles what a training process needs before its first update.

A server imports this once, for seconds; the processes that it forks then start at once.
"""

import importlib

import torch

from tests.training.small import new_state
from wavenet.kernels.cross_entropy import fast_cross_entropy

for name in ("hydra", "soundfile", "torch.utils.tensorboard", "recipes.train", "wavenet.cli.main"):
    importlib.import_module(name)
torch.set_num_threads(1)  # other threads would be missing in a forked process
new_state()  # the optimizer imports PyTorch's compiler
fast_cross_entropy()(torch.zeros(1, 16), torch.zeros(1, dtype=torch.int64))
