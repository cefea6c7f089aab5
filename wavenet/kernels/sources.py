"""The files that compiled code is made from; by their digest, the cache tells versions apart."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from wavenet.utils import shared_constants

_HERE = Path(__file__).parent
SOURCES = (_HERE,)  # folder of the compiled functions of `wavenet.kernels`
# of the sampler's, also the file whose constants become a part of them
SAMPLER_SOURCES = (*SOURCES, _HERE / "sampler", Path(shared_constants.__file__))


@lru_cache
def sources_digest(sources: Sequence[Path]) -> str:
    """Return the digest of Python files and of those in folders."""
    digest = hashlib.sha256()
    files = [
        path.parent.glob(path.name) if path.suffix == ".py" else path.glob("*.py")
        for path in sources  # where a package has no files of sources, there are none to find
    ]
    for path in sorted(itertools.chain(*files)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compiled_files(folder: Path, name: str, sources: Sequence[Path]) -> Iterator[Path]:
    """Return the files of a compiled function, `*` for all, made from the sources as they are."""
    return folder.glob(f"{name}-{sources_digest(sources)}-*")
