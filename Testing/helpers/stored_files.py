"""NRRD and MetaImage files as others write them: header lines by hand over real voxels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from hippocampi import ct_phantom

MILD = (0.2, -0.3, 0.4)
"""Angles of a tilted head, in radians."""


def real_volume(data_folder: Path) -> sitk.Image:
    """A part of a crop on the scale of a CT, 19 x 17 x 11 voxels of int16, tilted, with three spacings."""
    image = ct_phantom(data_folder)[11:30, 15:32, 3:14]
    image.SetDirection(sitk.Euler3DTransform((0, 0, 0), *MILD).GetMatrix())
    image.SetOrigin((-12.25, 33.1, 7.7))
    image.SetSpacing((0.7, 0.9, 2.5))
    return image


def stored_bytes(image: sitk.Image, order: str = "<") -> bytes:
    """Voxels as files hold them, fastest axis first."""
    array = sitk.GetArrayFromImage(image)
    return array.astype(array.dtype.newbyteorder(order)).tobytes()


NRRD_LINES = ("type: short", "dimension: 3", "sizes: 19 17 11", "endian: little", "encoding: raw")
META_LINES = ("ObjectType = Image", "NDims = 3", "DimSize = 19 17 11", "ElementType = MET_SHORT")


def nrrd(path: Path, lines: Sequence[str], body: bytes, **changed: str) -> Path:
    """Write an NRRD file; `changed` replaces fields (`sizes="1 2 3"`), the given lines follow."""
    kept = [line for line in NRRD_LINES if line.split(":")[0] not in changed]
    kept += [f"{name}: {value}" for name, value in changed.items() if value]
    path.write_bytes("\n".join(["NRRD0004", *kept, *lines, "", ""]).encode() + body)
    return path


def metaimage(path: Path, lines: Sequence[str], body: bytes, data_file: str = "LOCAL", **changed: str) -> Path:
    """Write a MetaImage file; `changed` replaces fields (`NDims="99"`), the given lines follow."""
    kept = [line for line in META_LINES if line.split(" ")[0] not in changed]
    kept += [f"{name} = {value}" for name, value in changed.items()]
    path.write_bytes("\n".join([*kept, *lines, f"ElementDataFile = {data_file}", ""]).encode() + body)
    return path


def assert_same_image(read: sitk.Image, known: sitk.Image) -> None:
    """Voxels, their type and the grid agree; directions within what dividing by a length rounds."""
    assert read.GetPixelID() == known.GetPixelID()
    assert (read.GetSize(), read.GetOrigin()) == (known.GetSize(), known.GetOrigin())
    np.testing.assert_allclose(read.GetSpacing(), known.GetSpacing(), rtol=1e-15)
    np.testing.assert_allclose(read.GetDirection(), known.GetDirection(), atol=1e-15)
    assert np.array_equal(sitk.GetArrayViewFromImage(read), sitk.GetArrayViewFromImage(known))
