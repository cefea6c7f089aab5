"""Generation: one interface, a backend for each kind of machine.

`reference` is `model.step` in a loop and defines what every other backend must put out.
"""

from wavenet.errors import ConfigError, printable
from wavenet.model import WaveNet
from wavenet.sampling.reference import ReferenceSampler
from wavenet.sampling.sampler import Sampler, SamplerState

BACKENDS: dict[str, type[Sampler]] = {
    backend.name: backend
    for backend in (ReferenceSampler,)  # slowest first
}

__all__ = ["BACKENDS", "ReferenceSampler", "Sampler", "SamplerState", "make_sampler"]


def make_sampler(model: WaveNet, backend: str = "auto") -> Sampler:
    """Return a sampler of a copy of `model` as it is now.

    Args:
        model: What to draw from; later changes of its weights do not reach the sampler.
        backend: A name of `BACKENDS`, or `auto` for the fastest that runs here.

    Raises:
        ConfigError: No backend has that name.
    """
    if backend == "auto":
        backend = list(BACKENDS)[-1]
    if backend not in BACKENDS:
        known = ", ".join(["auto", *BACKENDS])
        raise ConfigError(f"no sampler backend {printable(backend)!r}: choose one of {known}")
    return BACKENDS[backend](model)
