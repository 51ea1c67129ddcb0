"""Headers for fuzz.py that say where and how large an image is in odd ways, or nearly do; and values beyond float32.

The files are written here byte by byte, so what they say is known. What a file leaves open, or says in a form that
readers take differently, must be refused or remarked.
"""

import hashlib
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from fuzz import Ended, Maker, Try, run_command

SPACING, ORIGIN = np.array([1.0, 1.5, 2.0]), np.array([10.0, -20.0, 30.0])
AXES = np.eye(3)
UNITS: dict[str, float | None] = {
    "mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "nm": 1e-6, "in": 25.4, "µm": 1e-3, "furlong": None,
}  # fmt: skip
"""Millimetres; None: nobody knows."""
TENS = ("10", "1e1", "10.", "+10", "1.0e+01")
NO_TENS = (
    "1_0",
    "\u0661\u0660",
    "\uff11\uff10",
    "1__0",
    "1d1",
    "10f",
    "0xA",
    "1,0",
    "ten",
    "1e1_0",
    "1_0.0",
    "\u096710",
)
"""Not numbers, or numbers in Python's eyes alone."""


@dataclass(frozen=True)
class File:
    """A file and what it says.

    Attributes:
        what: was done to it, in words.
        suffix, content: of the file.
        spacing, origin: mm, LPS, with axes along x, y, z; None where the file leaves it open.
        right: nothing is odd about it: a refusal is too strict.
        array: its voxels (x, y, z); None where float32 cannot hold them.
    """

    what: str
    suffix: str
    content: bytes
    spacing: np.ndarray | None
    origin: np.ndarray | None
    right: bool = False
    array: np.ndarray | None = None


def prepare(data: Path, folder: Path) -> Maker:
    """Read an ordinary file of each format, for the remarks that it gets."""
    folder.mkdir(parents=True)
    controls = {}
    for suffix, content in ((".nrrd", nrrd()), (".mha", meta()), (".nii", nifti())):
        path = folder / f"plain{suffix}"
        path.write_bytes(content)
        controls[suffix] = run_command(["check", str(path), "--json"], 120, folder)
        plain = File("", suffix, content, SPACING, ORIGIN, array=voxels())
        if not _as_said(plain, controls[suffix])([controls[suffix]]):
            raise RuntimeError(f"The ordinary {path} is not read: {controls[suffix].out}")

    def make(rng: random.Random, work: Path) -> Try:
        file = rng.choice(WAYS)(rng)
        file = replace(file, array=voxels()) if file.array is None and file.spacing is not None else file
        path = work / f"image{file.suffix}"
        path.write_bytes(file.content)
        accepts = _as_said(file, controls[file.suffix])
        call = ["check", str(path), "--json"]
        return Try("headers", f"{file.suffix}: {file.what}", [call], [path.name], accepts, right=file.right)

    return make


def _as_said(file: File, control: Ended) -> Callable[[Sequence[Ended]], bool]:
    """Accept what the file says, or any remark that an ordinary file does not get."""

    def accepts(runs: Sequence[Ended]) -> bool:
        found = runs[-1].event("checked")
        if runs[-1].notes - control.notes:
            return True
        if file.spacing is None or file.origin is None or file.array is None:
            return False
        values = np.ascontiguousarray(file.array.transpose(2, 1, 0), "<f4")
        same = np.allclose(found["grid"]["spacing_mm"], file.spacing, rtol=1.01e-3, atol=0)
        same = same and np.allclose(found["grid"]["origin_lps_mm"], file.origin, rtol=1e-5, atol=1e-4)
        same = same and np.allclose(found["grid"]["direction_lps"], AXES.ravel(), atol=1e-4)
        return bool(same) and found["voxels_sha256"] == hashlib.sha256(values.tobytes()).hexdigest()

    return accepts


def voxels() -> np.ndarray:
    """Small lopsided voxels (x, y, z)."""
    return np.random.default_rng(5).integers(0, 900, (10, 12, 8)).astype(np.int16)


def _words(numbers: Sequence[float]) -> list[str]:
    return [f"{number:.12g}" for number in numbers]


def nrrd(
    changes: Mapping[str, str | None] | None = None, array: np.ndarray | None = None, kind: str = "short"
) -> bytes:
    """A raw NRRD file; changed fields, of which None is left out."""
    array = voxels() if array is None else array
    x, y, z = _words(SPACING)
    fields: dict[str, str | None] = {
        "type": kind, "dimension": "3", "sizes": " ".join(map(str, array.shape)), "space": "left-posterior-superior",
        "space directions": f"({x},0,0) (0,{y},0) (0,0,{z})", "space origin": f"({','.join(_words(ORIGIN))})",
        "kinds": "domain domain domain", "endian": "little", "encoding": "raw",
    }  # fmt: skip
    fields |= changes or {}
    header = "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None)
    return f"NRRD0005\n{header}\n".encode() + array.transpose(2, 1, 0).tobytes()


def meta(
    changes: Mapping[str, str | None] | None = None, array: np.ndarray | None = None, kind: str = "SHORT"
) -> bytes:
    """A raw MetaImage file, likewise."""
    array = voxels() if array is None else array
    fields: dict[str, str | None] = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": " ".join(_words(ORIGIN)),
        "ElementSpacing": " ".join(_words(SPACING)), "DimSize": " ".join(map(str, array.shape)),
    }  # fmt: skip
    fields |= changes or {}
    fields |= {"ElementType": f"MET_{kind}", "ElementDataFile": "LOCAL"}
    header = "".join(f"{name} = {value}\n" for name, value in fields.items() if value is not None)
    return header.encode() + array.transpose(2, 1, 0).tobytes()


def nifti(array: np.ndarray | None = None, codes: tuple[int, int] = (1, 1)) -> bytes:
    """A NIfTI-1 file by nibabel."""
    affine = np.diag([*(SPACING * [-1, -1, 1]), 1.0])
    affine[:3, 3] = ORIGIN * [-1, -1, 1]
    image = nibabel.Nifti1Image(voxels() if array is None else array, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    content: bytes = image.to_bytes()
    return content


def _nrrd_units(rng: random.Random) -> File:
    units = [rng.choice(list(UNITS))] * 3 if rng.random() < 0.8 else [rng.choice(list(UNITS)) for _ in range(3)]
    said, spacing, origin = _scaled(rng, [UNITS[unit] for unit in units])
    directions = " ".join(f"({','.join(_words(row))})" for row in np.diag(said[0]))
    fields = {"space units": " ".join(f'"{unit}"' for unit in units), "space directions": directions,
              "space origin": f"({','.join(_words(said[1]))})"}  # fmt: skip
    return File(f"space units {units}", ".nrrd", nrrd(fields), spacing, origin, units == ["mm"] * 3)


def _scaled(
    rng: random.Random, factors: Sequence[float | None]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray | None, np.ndarray | None]:
    """Numbers for the header, and what they are in mm: of usual size either in the file or in truth."""
    if None in factors:
        return (SPACING, ORIGIN), None, None
    mm = np.array(factors, float)
    said = (SPACING / mm, ORIGIN / mm) if rng.random() < 0.5 else (SPACING, ORIGIN)
    return said, said[0] * mm, said[1] * mm


def _meta_units(rng: random.Random) -> File:
    unit = rng.choice(list(UNITS))
    said, spacing, origin = _scaled(rng, [UNITS[unit]] * 3)
    fields = {"DistanceUnits": unit, "ElementSpacing": " ".join(_words(said[0])), "Offset": " ".join(_words(said[1]))}
    return File(f"DistanceUnits {unit}", ".mha", meta(fields), spacing, origin, unit == "mm")


def _left_out(rng: random.Random) -> File:
    """A file that does not say where or how large its voxels are."""
    if rng.random() < 0.5:
        way = rng.choice(["no origin", "no space", "space dimension", "no directions", "scanner"])
        changes: dict[str, dict[str, str | None]] = {
            "no origin": {"space origin": None},
            "no space": {"space": None},
            "space dimension": {"space": None, "space dimension": "3"},
            "no directions": {"space directions": None},
            "scanner": {"space": rng.choice(["scanner-xyz", "3D-right-handed", "3D-left-handed"])},
        }
        return File(way, ".nrrd", nrrd(changes[way]), None, None)
    key = rng.choice(["Offset", "TransformMatrix", "ElementSpacing"])
    return File(f"no {key}", ".mha", meta({key: None}), None, None)


def _keys(rng: random.Random) -> File:
    """Keys in other letters; where they are read as they are meant, that is right."""
    if rng.random() < 0.3:
        key = rng.choice(["space origin", "space directions", "space"])
        other = rng.choice([key.title(), key.upper(), key.replace(" ", "_"), key.replace(" ", "")])
        content = nrrd().replace(f"\n{key}:".encode(), f"\n{other}:".encode())
        return File(f"key {other}", ".nrrd", content, SPACING, ORIGIN, other == key)
    key = rng.choice(["Offset", "TransformMatrix", "ElementSpacing"])
    other = rng.choice([key.lower(), key.upper(), key.swapcase(), key.capitalize()])
    content = meta().replace(f"\n{key} =".encode(), f"\n{other} =".encode())
    return File(f"key {other}", ".mha", content, SPACING, ORIGIN, other == key)


def _alias(rng: random.Random) -> File:
    key, other = rng.choice([("Offset", "Position"), ("Offset", "Origin"), ("TransformMatrix", "Rotation"),
                             ("TransformMatrix", "Orientation")])  # fmt: skip
    content = meta().replace(f"\n{key} =".encode(), f"\n{other} =".encode())
    return File(f"{other} in place of {key}", ".mha", content, SPACING, ORIGIN, right=False)


def _numbers(rng: random.Random) -> File:
    """Ten, as the first number of the origin or as a voxel size, written in many ways."""
    text, right = (rng.choice(TENS), True) if rng.random() < 0.3 else (rng.choice(NO_TENS), False)
    size = rng.random() < 0.5
    spacing, origin = (np.array([10.0, 1.5, 2.0]), ORIGIN) if size else (SPACING, ORIGIN)
    x, *rest = _words(spacing if size else origin)
    if rng.random() < 0.5:
        fields = {"space directions": f"({text},0,0) (0,{rest[0]},0) (0,0,{rest[1]})"} if size else {
            "space origin": f"({text},{','.join(rest)})"}  # fmt: skip
        file = File("", ".nrrd", nrrd(fields), spacing, origin, right)
    else:
        fields = {"ElementSpacing" if size else "Offset": " ".join([text, *rest])}
        file = File("", ".mha", meta(fields), spacing, origin, right)
    known = (spacing, origin) if right else (None, None)
    where = "voxel size" if size else "origin"
    return replace(file, what=f"{where} {text!r} for {x}", spacing=known[0], origin=known[1])


def _nifti_units(rng: random.Random) -> File:
    code, factor = rng.choice([(1, 1000.0), (2, 1.0), (3, 1e-3)])
    said, spacing, origin = _scaled(rng, [factor] * 3)
    content = bytearray(nifti())
    struct.pack_into("<3f", content, 80, *said[0])
    struct.pack_into("<3f", content, 268, *(said[1] * [-1, -1, 1]))
    for row, sign in enumerate((-1, -1, 1)):
        values = [0.0, 0.0, 0.0, sign * said[1][row]]
        values[row] = sign * said[0][row]
        struct.pack_into("<4f", content, 280 + 16 * row, *values)
    content[123] = code | 8
    return File(f"xyzt_units {code}", ".nii", bytes(content), spacing, origin, code == 2)


def _sform_size(rng: random.Random) -> File:
    """Voxels of another size by the sform than by pixdim: what nibabel and FSL take is the sform."""
    off = rng.choice([5e-5, 3e-4, 2e-3, 4e-3, 8e-3, 9.5e-3, 1.5e-2, 0.1]) * rng.choice([1, -1])
    axes = rng.sample(range(3), rng.choice([1, 3]))
    codes = rng.choice([(0, 1), (1, 1), (1, 2), (0, 2), (2, 4), (1, 4)])
    content, spacing = bytearray(nifti(codes=codes)), SPACING.copy()
    for axis in axes:
        spacing[axis] *= 1 + off
        struct.pack_into("<f", content, 280 + 20 * axis, spacing[axis] * (-1, -1, 1)[axis])
    right = abs(off) < 5e-4
    known = (spacing, ORIGIN) if right else (None, None)
    return File(f"sform {off:+.2%} off pixdim, codes {codes}", ".nii", bytes(content), *known, right)


def _wide(rng: random.Random) -> File:
    """Grey levels on a large offset, which float32 may not tell apart."""
    dtype, nrrd_kind, meta_kind = rng.choice([(np.int32, "int", "INT"), (np.uint32, "uint", "UINT"),
                                              (np.float64, "double", "DOUBLE")])  # fmt: skip
    offset, span = rng.choice([0, 1e4, 1e6, 1e7, 5e7, 1e8, 1e9, 2e9]), rng.choice([3, 117, 900])
    array = (voxels() % span + offset).astype(dtype)
    suffix, content = rng.choice([(".nrrd", nrrd(None, array, nrrd_kind)), (".mha", meta(None, array, meta_kind)),
                                  (".nii", nifti(array))])  # fmt: skip
    lost = float(np.abs(array.astype(np.float32).astype(float) - array.astype(float)).max())
    known = (SPACING, ORIGIN) if lost <= 0.5 else (None, None)
    kept = array if lost <= 0.5 else None
    what = f"{np.dtype(dtype).name} from {offset:g} to {offset + span:g}"
    return File(what, suffix, content, *known, lost == 0, kept)


WAYS: Sequence[Callable[[random.Random], File]] = (
    *(_nrrd_units, _nrrd_units, _meta_units, _left_out, _left_out, _keys, _alias),
    *(_numbers, _numbers, _nifti_units, _sform_size, _sform_size, _wide),
)
