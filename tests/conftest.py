"""One thread a test: small products are fastest so, and a busy machine changes nothing."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("wavenet", deadline=None)  # speed is for benchmarks
hypothesis.settings.load_profile("wavenet")
