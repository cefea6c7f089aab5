"""Loads and compiles what a training process needs before its first update.

A server imports this once, for seconds; the processes that it forks then start at once.
"""

import gc
import importlib

import torch
from hydra import compose, initialize_config_dir

from tests.commands import ROOT
from tests.training.small import new_state
from wavenet.cli.compose import register_configs
from wavenet.kernels.cross_entropy import fast_cross_entropy

for name in ("soundfile", "torch.utils.tensorboard", "recipes.train", "wavenet.cli.main"):
    importlib.import_module(name)
torch.set_num_threads(1)  # other threads would be missing in a forked process
new_state()  # the optimizer imports PyTorch's compiler
register_configs(ROOT / "conf")
with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
    compose("train", overrides=["recipe=folder"])  # reads Hydra's plugins
for dtype in (torch.float32, torch.bfloat16):
    fast_cross_entropy()(torch.zeros(1, 16, dtype=dtype), torch.zeros(1, dtype=torch.int64))
gc.set_threshold(20_000, 20, 20)  # as in `conftest.py`
gc.freeze()  # a collection in a forked process would read, and so copy, all of this
