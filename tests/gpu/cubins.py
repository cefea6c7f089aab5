"""What a kernel's code uses of a GPU, read from what NVRTC compiled; that needs no GPU."""

import struct
from collections.abc import Iterator

import pytest

from wavenet.kernels.cuda.compiler import Nvrtc
from wavenet.utils.errors import MachineError

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
EIATTR_REGCOUNT, EIATTR_FRAME_SIZE = 0x2F, 0x11  # of the section .nv.info


def nvrtc() -> Nvrtc | None:
    try:
        return Nvrtc()
    except MachineError:
        return None


needs_nvrtc = pytest.mark.skipif(
    nvrtc() is None, reason="needs NVRTC: pip install nvidia-cuda-nvrtc"
)


def resources(cubin: bytes) -> dict[str, tuple[int, int]]:
    """Registers and bytes of stack of each function of a cubin, an ELF file."""
    (table,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names_index = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + size * i) for i in range(count)]

    def content(header: tuple[int, ...]) -> bytes:
        return cubin[header[4] : header[4] + header[5]]

    def text(strings: bytes, place: int) -> str:
        return strings[place : strings.index(b"\0", place)].decode()

    names = content(headers[names_index])
    sections = {text(names, header[0]): header for header in headers}
    symbols, strings = content(sections[".symtab"]), content(sections[".strtab"])
    found: dict[str, dict[int, int]] = {}
    for attribute, symbol, value in attributes(content(sections[".nv.info"])):
        (place,) = struct.unpack_from("<I", symbols, 24 * symbol)
        found.setdefault(text(strings, place), {})[attribute] = value
    return {
        name: (one[EIATTR_REGCOUNT], one.get(EIATTR_FRAME_SIZE, 0))
        for name, one in found.items()
        if EIATTR_REGCOUNT in one
    }


def attributes(info: bytes) -> Iterator[tuple[int, int, int]]:
    """The attributes of symbols in a section `.nv.info`: attribute, symbol, value."""
    place = 0
    while place < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, place)
        place += 4
        if form != 4:  # the value is in the size
            continue
        if size == 8:
            yield (attribute, *struct.unpack_from("<II", info, place))
        place += size
