"""What a file is that holds no model we read, and what to do with it."""

import re

TENSORFLOW_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")

# First bytes of a file, what it is, what to do.
FOREIGN_FILES = (
    (rb"\s*<(?:!doctype|html)", "is a web page, not a model", "download the file itself"),
    (
        rb"version https://git-lfs",
        "is a Git LFS pointer, not a model",
        "run git lfs pull, or download the file itself",
    ),
    (
        rb"\x89HDF\r\n\x1a\n",
        "is an HDF5 file, which is not read",
        "load it with h5py and save its arrays with numpy.save or torch.save",
    ),
    (
        rb"(?s).{257}ustar",
        "is a tar file, as torch wrote before 0.1.10, or an archive",
        "load it with torch.load and save its state_dict() with torch.save, or unpack it first",
    ),
    (
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf",
        "is a compressed file",
        "unpack it first",
    ),
    (
        rb"(?s).{7}\x00\{",
        "is a safetensors file, not one that torch.save wrote",
        "give the model directory it belongs to, or the torch file it was made from",
    ),
    (rb"\x93NUMPY", "is an array of numpy, not a model", "give it as mean= or std="),
    (
        rb"(?s)(?:x[\x01\x5e\x9c\xda]|\x80[\x02-\x05].*(?:joblib|sklearn)\.)",
        "is a joblib or scikit-learn pickle, which is not read",
        "load it where it was made and save its arrays, such as scaler.mean_, with numpy.save",
    ),
    (
        rb"\x80[\x02-\x05]",
        "is a pickle that torch.save did not write",
        "load it where it was made and save a state dict with torch.save",
    ),
    (rb"\s*[{\[]", "is a JSON text, not weights", "give it as config="),
)


def describe_foreign(head: bytes, tail: bytes) -> str:
    """Return the rest of a sentence that starts with the name of the file.

    Args:
        head: The first bytes of a file that is no torch file, 512 or more if it has them.
        tail: Its last 8 bytes.
    """
    if not head:
        return "is empty: download or copy it again"
    if tail == TENSORFLOW_MAGIC:
        return (
            "is a table of TensorFlow: give the prefix of a V2 checkpoint, its .index file's "
            "name without .index"
        )
    for pattern, what, remedy in FOREIGN_FILES:
        if re.match(pattern, head, re.IGNORECASE):
            return f"{what}: {remedy}"
    return (
        "is no file that torch.save wrote, or its start is damaged: download or copy it again, "
        "or name the checkpoint of the model"
    )
