"""Damaged NIfTI, NRRD and MetaImage files for fuzz.py: bodies, headers that contradict themselves, odd files."""

import gzip
import json
import os
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from fuzz import Ended, Maker, Try

CASE = "hippocampus_001"
NOT_NUMBERS = (float("nan"), float("inf"), -float("inf"))


@dataclass(frozen=True)
class Base:
    """An undamaged file and what reading it must give."""

    suffix: str
    content: bytes
    truth: dict[str, Any]


def facts_of(ended: Ended) -> dict[str, Any] | None:
    """What `segwithu check --json` says of the one image: hash, grid and warnings."""
    for event in ended.events:
        if event.get("event") == "checked":
            return event
    return None


def same_image(truth: dict[str, Any]) -> Callable[[Sequence[Ended]], bool]:
    """Accept the undamaged image, or any that comes with a warning."""

    def accepts(runs: Sequence[Ended]) -> bool:
        found = facts_of(runs[-1])
        if found is None:
            return False
        if found.get("warnings"):
            return True
        grid = np.allclose(found["grid"]["spacing_mm"], truth["grid"]["spacing_mm"], rtol=0, atol=1e-4)
        for key in ("origin_lps_mm", "direction_lps", "size_ijk"):
            grid = grid and np.allclose(found["grid"][key], truth["grid"][key], rtol=0, atol=1e-4)
        return bool(grid) and found["voxels_sha256"] == truth["voxels_sha256"]

    return accepts


def prepare(data: Path, folder: Path) -> Maker:
    """Write the bases: one real crop in every format, int16, with an oblique grid."""
    from SegWithUCore.case.case_image import voxel_hash
    from SegWithUCore.io.volume import grid_facts

    folder.mkdir(parents=True)
    image = sitk.Cast(sitk.ReadImage(str(data / "hippocampus" / "images" / f"{CASE}.nii.gz")), sitk.sitkInt16)
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3).GetMatrix())
    image.SetSpacing((1.0, 1.1, 0.9))
    bases = []
    suffixes = (".nii.gz", ".nii", ".nrrd", ".nrrd", ".mha", ".mha")
    for suffix, compressed in zip(suffixes, (True, False) * 3, strict=True):
        path = folder / f"base{int(compressed)}{suffix}"
        sitk.WriteImage(image, str(path), useCompression=compressed)
        again = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
        bases.append(Base(suffix, path.read_bytes(), {"grid": grid_facts(again), "voxels_sha256": voxel_hash(again)}))

    def make(rng: random.Random, work: Path) -> Try:
        base = rng.choice(bases)
        damages: list[Callable[[random.Random, Base, Path], tuple[str, Path]]] = [body, body, header, header, odd]
        damage, path = rng.choice(damages)(rng, base, work)
        return Try(
            "images", f"{base.suffix}: {damage}", [["check", str(path), "--json"]], [path.name], same_image(base.truth)
        )

    return make


def _compressed(base: Base) -> tuple[int, int]:
    """First and last byte (exclusive) of the compressed body; of an uncompressed file (0, 0)."""
    if base.suffix == ".nii.gz":
        return 0, len(base.content)
    if base.suffix == ".nrrd" and b"encoding: gzip" in base.content:
        return base.content.index(b"\n\n") + 2, len(base.content)
    if base.suffix == ".mha" and b"CompressedData = True" in base.content:
        return base.content.index(b"ElementDataFile = LOCAL\n") + len(b"ElementDataFile = LOCAL\n"), len(base.content)
    return 0, 0


def body(rng: random.Random, base: Base, work: Path) -> tuple[str, Path]:
    """A bit, 256 zeroed bytes, a cut, or bytes left over; bits and zeroes only where a checksum covers them."""
    content = bytearray(base.content)
    start, end = _compressed(base)
    ways = ["cut", "left over"] + (["bit", "zeroes", "swap", "hole"] if end else [])
    way = rng.choice(ways)
    if way == "cut":
        length = rng.randrange(1, len(content))
        del content[length:]
        what = f"cut after {length} of {len(base.content)} bytes"
    elif way == "left over":
        content += rng.randbytes(rng.choice([1, 100, 4096]))
        what = f"{len(content) - len(base.content)} bytes left over"
    elif way == "bit":
        place, bit = rng.randrange(start, end), rng.randrange(8)
        content[place] ^= 1 << bit
        what = f"bit {bit} of byte {place} flipped"
    elif way == "zeroes":
        place = rng.randrange(start, end - 256)
        content[place : place + 256] = bytes(256)
        what = f"256 zeroes from byte {place}"
    elif way == "swap":
        a, b = rng.randrange(start, end - 64), rng.randrange(start, end - 64)
        content[a : a + 64], content[b : b + 64] = content[b : b + 64], content[a : a + 64]
        what = f"64 bytes at {a} and {b} exchanged"
    else:
        place = rng.randrange(start, end - 64)
        del content[place : place + 64]
        what = f"64 bytes at {place} missing"
    path = work / f"damaged{base.suffix}"
    path.write_bytes(content)
    return what, path


def header(rng: random.Random, base: Base, work: Path) -> tuple[str, Path]:
    """A field of the header that contradicts the rest, or cannot be true."""
    if base.suffix.startswith(".nii"):
        what, content = _nifti_header(rng, base)
    elif base.suffix == ".nrrd":
        what, content = _text_header(rng, base, b"\n\n", NRRD_LINES)
    else:
        what, content = _text_header(rng, base, b"ElementDataFile = LOCAL\n", META_LINES)
    path = work / f"header{base.suffix}"
    path.write_bytes(content)
    return what, path


def _nifti_header(rng: random.Random, base: Base) -> tuple[str, bytes]:
    content = bytearray(gzip.decompress(base.content) if base.suffix == ".nii.gz" else base.content)
    size = struct.unpack_from("<8h", content, 40)[1]
    fields: list[tuple[str, str, int, Sequence[Any]]] = [
        ("sizeof_hdr", "<i", 0, (0, 347, 349, 540, -1)),
        ("dim[0]", "<h", 40, (0, 1, 2, 4, 8, -3, 32000)),
        ("dim[1]", "<h", 42, (0, -1, size + 1, size - 1, 30000)),
        ("dim[3]", "<h", 46, (0, -1, 2000, 30000)),
        ("datatype", "<h", 70, (0, 1, 2, 16, 64, 128, 512, 1536, 9999)),
        ("bitpix", "<h", 72, (0, 8, 32, -16)),
        ("pixdim[0]", "<f", 76, (*NOT_NUMBERS, 5.0)),
        ("pixdim[1]", "<f", 80, (0.0, -1.0, 2.0, 1e-30, 1e30, *NOT_NUMBERS)),
        ("pixdim[3]", "<f", 88, (0.0, -1.0, 3.0, *NOT_NUMBERS)),
        ("vox_offset", "<f", 108, (0.0, -352.0, 348.0, 350.0, 353.0, 1e20, *NOT_NUMBERS)),
        ("scl_slope", "<f", 112, NOT_NUMBERS),
        ("scl_inter", "<f", 116, NOT_NUMBERS),
        ("qoffset_x", "<f", 268, (1e30, *NOT_NUMBERS)),
        ("srow_x[0]", "<f", 280, (0.0, 5.0, *NOT_NUMBERS)),
        ("srow_x[3]", "<f", 292, (1e30, *NOT_NUMBERS)),
        ("srow_z", "<4f", 312, ((0.0, 0.0, 0.0, 0.0),)),
        ("magic", "<4s", 344, (b"ni1\0", b"n+2\0", b"\0\0\0\0", b"n+1!")),
    ]
    name, kind, offset, values = rng.choice(fields)
    value = rng.choice(values)
    struct.pack_into(kind, content, offset, *(value if isinstance(value, tuple) else (value,)))
    packed = gzip.compress(bytes(content), 1) if base.suffix == ".nii.gz" else bytes(content)
    return f"{name} = {value}", packed


NRRD_LINES: dict[bytes, Sequence[bytes]] = {
    b"type:": (b"type: double", b"type: uchar", b"type: block", b"type: nonsense", b""),
    b"dimension:": (b"dimension: 2", b"dimension: 4", b"dimension: 99", b"dimension: -1", b""),
    b"sizes:": (b"sizes: 0 1 1", b"sizes: 9999 9999 9999", b"sizes: 3 3", b"sizes: -1 5 5", b"sizes: nan 1 1", b""),
    b"space directions:": (
        b"space directions: (1,0,0) (0.3,1,0) (0,0,1)",
        b"space directions: (nan,0,0) (0,1,0) (0,0,1)",
        b"space directions: (0,0,0) (0,1,0) (0,0,1)",
        b"space directions: (1e300,0,0) (0,1,0) (0,0,1)",
        b"space directions: (1,0,0) (1,0,0) (0,0,1)",
        b"space directions: none none none",
        b"space directions: (1,0) (0,1)",
    ),
    b"space origin:": (b"space origin: (nan,0,0)", b"space origin: (1e300,0,0)", b"space origin: (1,2)"),
    b"encoding:": (b"encoding: ascii", b"encoding: hex", b"encoding: nonsense", b"encoding: bzip2", b""),
    b"endian:": (b"endian: middle", b""),
    b"space:": (b"space: nonsense", b"space: scanner-xyz-time"),
}
META_LINES: dict[bytes, Sequence[bytes]] = {
    b"NDims": (b"NDims = 99", b"NDims = 2", b"NDims = -3", b"NDims = x", b""),
    b"DimSize": (b"DimSize = 0 1 1", b"DimSize = 9999 9999 9999", b"DimSize = 3 3", b"DimSize = -4 5 5", b""),
    b"ElementType": (b"ElementType = MET_DOUBLE", b"ElementType = MET_NONSENSE", b""),
    b"ElementSpacing": tuple(b"ElementSpacing = %b 1 1" % value for value in (b"-1", b"0", b"nan", b"1e30")),
    b"TransformMatrix": (
        b"TransformMatrix = 1 0 0 0.3 1 0 0 0 1",
        b"TransformMatrix = 1 0 0 1 0 0 0 0 1",
        b"TransformMatrix = nan 0 0 0 1 0 0 0 1",
        b"TransformMatrix = 1 0 0 0 1",
        b"",
    ),
    b"Offset": (b"Offset = nan 0 0", b"Offset = 1e300 0 0"),
    b"CompressedDataSize": (b"CompressedDataSize = 5", b"CompressedDataSize = 999999999"),
    b"CompressedData ": (b"CompressedData = False", b"CompressedData = True"),
    b"ElementDataFile": (*(b"ElementDataFile = " + file for file in (b"/etc/passwd", b"../x.raw", b"LIST")), b""),
}


def _text_header(rng: random.Random, base: Base, end: bytes, lines: dict[bytes, Sequence[bytes]]) -> tuple[str, bytes]:
    cut = base.content.index(end) + len(end)
    head, rest = base.content[:cut], base.content[cut:]
    present = {key: values for key, values in lines.items() if any(row.startswith(key) for row in head.split(b"\n"))}
    key = rng.choice(sorted(present))
    value = rng.choice(present[key])
    rows = [value if row.startswith(key) else row for row in head.split(b"\n")]
    if not value:  # the whole line is gone
        rows = [row for row in head.split(b"\n") if not row.startswith(key)]
    return (value or b"no " + key).decode(), b"\n".join(rows) + rest


def odd(rng: random.Random, base: Base, work: Path) -> tuple[str, Path]:
    """Files that are no regular images of this name."""
    path = work / f"odd{base.suffix}"
    way = rng.choice(
        ["pipe", "folder", "empty", "text", "other", "zeroes", "link", "outside", "bomb", "name", "claims"]
    )
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "text":
        path.write_text("This is a letter.\n" * 40)
    elif way == "other":
        path = work / ("odd.mha" if base.suffix != ".mha" else "odd.nrrd")
        path.write_bytes(base.content)
    elif way == "zeroes":
        path.symlink_to("/dev/zero")
    elif way == "link":
        path.symlink_to(work / "gone.nrrd")
    elif way == "outside":
        path = _detached(rng, work)
    elif way == "bomb":
        path = work / "bomb.nii.gz"
        raw = gzip.decompress(base.content) if base.suffix == ".nii.gz" else bytes(352)
        path.write_bytes(gzip.compress(raw + bytes(1 << 28), 1))
    elif way == "claims":
        path = work / "claims.nrrd"
        path.write_bytes(
            b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2000 2000 2000\nencoding: gzip\n\n" + zlib.compress(b"x")
        )
    else:
        path = Path(os.fsdecode(os.fsencode(work) + b"/M\xfcller" + base.suffix.encode()))
        path.write_bytes(base.content[: len(base.content) // 2])
        return "name that is no UTF-8, cut", path
    return way, path


def _detached(rng: random.Random, work: Path) -> Path:
    target = rng.choice(["/etc/passwd", "../../letter.raw", str(work / "pipe.raw"), "pipe.raw", "link.raw"])
    os.mkfifo(work / "pipe.raw")
    (work / "link.raw").symlink_to("/etc/passwd")
    if rng.random() < 0.5:
        path = work / "outside.nhdr"
        path.write_text(f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {target}\n")
    else:
        path = work / "outside.mhd"
        path.write_text(f"NDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {target}\n")
    return path


def as_json(value: Any) -> str:
    """JSON text with bare NaN, as careless programs write it."""
    return json.dumps(value, allow_nan=True)
