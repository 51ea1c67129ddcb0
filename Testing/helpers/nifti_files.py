"""NIfTI files byte by byte, so that headers can say what no library would write."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
FIELDS = {
    "sizeof_hdr": (0, "i"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow": (280, "12f"),
    "magic": (344, "4s"),
    "intent_code": (68, "h"),
}
"""Where the fields of NIfTI-1 stand, and what they are."""
SHAPE = (7, 6, 5)
"""k, j, i of `voxels`."""


def voxels(kind: str = "i2") -> np.ndarray:
    """A volume (k, j, i) of noise that uses most of what a type holds."""
    random, dtype = np.random.default_rng(7), np.dtype(kind)
    if dtype.kind == "f":
        return random.normal(100, 30, SHAPE).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, SHAPE, dtype=dtype, endpoint=True)


def nifti_bytes(
    array: np.ndarray | None = None, order: str = "<", pair: bool = False, rest: bytes = b"", **fields: Any
) -> bytes:
    """A NIfTI-1 file, of 1 mm and with a qform at the origin; `fields` (by `FIELDS`) replace what it says.

    Args:
        array: (k, j, i).
        pair: the header alone.
        rest: what follows the voxels.
    """
    array = voxels() if array is None else array
    said: dict[str, Any] = {
        "sizeof_hdr": 348,
        "dim": (array.ndim, *array.shape[::-1]),
        "datatype": TYPES[array.dtype.str[1:]],
        "bitpix": 8 * array.dtype.itemsize,
        "pixdim": (1, 1, 1, 1),
        "vox_offset": 0 if pair else 352,
        "scl_slope": 1,
        "xyzt_units": 2,
        "qform_code": 1,
        "magic": b"ni1\0" if pair else b"n+1\0",
    } | fields
    header = bytearray(348 if pair else 352)
    for name, value in said.items():
        at, form = FIELDS[name]
        values = [value] if isinstance(value, int | float | bytes) else np.ravel(value).tolist()
        count = struct.calcsize(form) // struct.calcsize(form[-1]) if form != "4s" else 1
        struct.pack_into(order + form, header, at, *(values + [0 if name == "pixdim" else 1] * (count - len(values))))
    return bytes(header) if pair else bytes(header) + array.astype(array.dtype.newbyteorder(order)).tobytes() + rest


def write_nifti(path: Path, array: np.ndarray | None = None, **fields: Any) -> Path:
    """Write such a file, compressed where its name says so."""
    content = nifti_bytes(array, **fields)
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path


def rotation(*degrees: float) -> np.ndarray:
    """A matrix that turns around x, then y, then z."""
    x, y, z = np.radians(degrees)
    around_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    around_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    around_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return around_z @ around_y @ around_x


def srow(
    turn: np.ndarray | None = None, offset: Sequence[float] = (0, 0, 0), spacing: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """The matrix (3, 4) of an sform."""
    return np.c_[(np.eye(3) if turn is None else turn) * np.asarray(spacing), np.asarray(offset)]


def quaternion(turn: np.ndarray) -> np.ndarray:
    """The three numbers of a rotation's unit quaternion that a header keeps, the first one not negative."""
    values, vectors = np.linalg.eigh(
        np.array(
            [
                [turn[0, 0] - turn[1, 1] - turn[2, 2], 0, 0, 0],
                [turn[1, 0] + turn[0, 1], turn[1, 1] - turn[0, 0] - turn[2, 2], 0, 0],
                [turn[2, 0] + turn[0, 2], turn[2, 1] + turn[1, 2], turn[2, 2] - turn[0, 0] - turn[1, 1], 0],
                [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1], np.trace(turn)],
            ]
        )
    )
    b, c, d, a = vectors[:, values.argmax()]
    return np.array([b, c, d]) * (1 if a >= 0 else -1)
