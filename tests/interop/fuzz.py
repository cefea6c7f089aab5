"""Damaged and hostile checkpoints of other projects: every one is read or refused.

The golden files are changed: their bytes; the pickle inside, with the checksums of the container
made to match, so that the reader of pickles sees it; or it is replaced by random opcodes.
`tests.faults.fuzz` runs it.
"""

import io
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from tests.interop.tables import table_blocks
from tests.mutations import mutate
from wavenet.interop import read_tensorflow, read_torch, state_dict_of
from wavenet.interop.crc32c import masked_crc32c
from wavenet.utils.errors import CheckpointError

GOLDEN = Path(__file__).parent / "golden"
TORCH_FILES = (
    *("r9y9_mol.pth", "r9y9_gauss.pth", "r9y9_011_mol_speakers.pth", "kb_checkpoint-final.pkl"),
    *("kb_model.conf", "vh_snapshot", "vh_snapshot.legacy", "nv_wavenet_1000.legacy"),
)
SMALL_TORCH_FILES = ("r9y9_gauss.pth", "kb_model.conf", "vh_snapshot.legacy")
CHECKPOINT = "ibab_gc.ckpt-100"
INDEX, DATA = ".index", ".data-00000-of-00001"


def random_pickle(chance: random.Random) -> bytes:
    """Return opcodes in any order, with arguments of any value."""
    stream = bytearray(b"\x80\x02")
    names = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage")
    for _ in range(chance.randrange(1, 60)):
        opcode = chance.choice(pickletools.opcodes)
        stream += opcode.code.encode("latin-1")
        if opcode.name == "GLOBAL":
            stream += "\n".join(chance.choice(names).split()).encode() + b"\n"
        elif opcode.arg is not None and opcode.arg.n > 0:
            stream += chance.randrange(4).to_bytes(opcode.arg.n, "little")
        elif opcode.arg is not None:
            length = chance.randrange(4)
            stream += length.to_bytes(chance.choice((1, 4, 8)), "little") + b"abc\n"[:length]
    return bytes(stream + b".")


def in_zip(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a zip file with its pickle changed: a new entry replaces the old one in the list."""
    entry, pickle = pickle_of_zip(data)
    pickle = change(pickle)
    end = data.rindex(b"PK\x05\x06")
    size, start = struct.unpack_from("<II", data, end + 12)
    record = data.index(entry.filename.encode(), start) - 46
    listed = bytearray(data[start : start + size])  # without the records of zip64
    numbers = struct.pack("<III", zlib.crc32(pickle), len(pickle), len(pickle))
    listed[record - start + 16 : record - start + 28] = numbers
    listed[record - start + 42 : record - start + 46] = struct.pack("<I", start)
    local = data[entry.header_offset :][: 30 + len(entry.filename)]
    local = local[:14] + numbers + struct.pack("<HH", len(entry.filename), 0) + local[30:]
    footer = struct.pack("<II", size, start + len(local) + len(pickle))
    added = local + pickle + listed + data[end : end + 12] + footer + data[end + 20 :]
    return data[:start] + added


@lru_cache
def pickle_of_zip(data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    """Return the entry of the pickle, and the pickle."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        return entry, archive.read(entry)


def in_legacy(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a legacy file with its fourth pickle, the one with the contents, changed."""
    start, stop = contents_of_legacy(data)
    return data[:start] + change(data[start:stop]) + data[stop:]


@lru_cache
def contents_of_legacy(data: bytes) -> tuple[int, int]:
    """Return where the fourth pickle starts and stops."""
    file, ends = io.BytesIO(data), []
    for _ in range(4):
        for _ in pickletools.genops(file):
            pass
        ends.append(file.tell())
    return ends[2], ends[3]


def in_index(data: bytes, chance: random.Random) -> bytes:
    """Return an index of TensorFlow with one of its blocks changed, and its checksum matching."""
    changed = bytearray(data)
    offset, size = chance.choice(table_blocks(data))
    for _ in range(chance.choice((1, 2, 4))):
        changed[offset + chance.randrange(size + 1)] = chance.randrange(256)
    crc = masked_crc32c(bytes(changed[offset : offset + size + 1]))
    changed[offset + size + 1 : offset + size + 5] = struct.pack("<I", crc)
    return bytes(changed)


class Fuzzer:
    """Makes files and reads them; the same seed makes the same file.

    Args:
        folder: Where the files are written, one at a time.
        torch_files: Names of golden files.
    """

    def __init__(self, folder: Path, torch_files: tuple[str, ...]) -> None:
        self.folder = folder
        self.torch_files = [(GOLDEN / name).read_bytes() for name in torch_files]
        self.bundle = {end: (GOLDEN / f"{CHECKPOINT}{end}").read_bytes() for end in (INDEX, DATA)}

    def try_one(self, seed: int) -> str:
        """Return what became of file `seed`: "read" or "refused"."""
        chance = random.Random(seed)
        try:
            if chance.random() < 0.2:
                self.try_tensorflow(chance)
            else:
                self.try_torch(chance)
        except CheckpointError:
            return "refused"
        return "read"

    def try_torch(self, chance: random.Random) -> None:
        sizes = [
            1 / max(len(data), 30_000) for data in self.torch_files
        ]  # small ones are read faster
        (data,) = chance.choices(self.torch_files, sizes)
        inside = in_zip if data.startswith(b"PK") else in_legacy
        kind = chance.random()
        if kind < 0.4:
            data = mutate(data, chance)
        elif kind < 0.8:
            data = inside(data, lambda pickle: mutate(pickle, chance))
        else:
            data = inside(data, lambda _: random_pickle(chance))
        path = self.folder / "file"
        path.write_bytes(data)
        weights = state_dict_of(read_torch(path))
        for tensor in weights.values():
            tensor.to(torch.float64).sum()  # touches every number

    def try_tensorflow(self, chance: random.Random) -> None:
        files = dict(self.bundle)
        if chance.random() < 0.6:
            files[INDEX] = in_index(files[INDEX], chance)
        else:
            end = chance.choice((INDEX, DATA))
            files[end] = mutate(files[end], chance)
        for end, data in files.items():
            (self.folder / f"model{end}").write_bytes(data)
        for tensor in read_tensorflow(self.folder / "model").values():
            tensor.to(torch.float64).sum()
