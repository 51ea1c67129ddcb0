"""Two balls and masks of a source that always misses their upper parts, for models of masks."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZE, RADIUS = 40, 11.0


def write_case(folder: Path, number: int) -> tuple[str, str, str]:
    """Two bright balls; the mask of this source misses the upper part of both, and adds an island in some cases."""
    random = np.random.default_rng(number)
    z, y, x = np.mgrid[:SIZE, :SIZE, : 2 * SIZE]
    centres = np.add(random.uniform(-2, 2, (2, 3)), [[20, 20, 20], [20, 20, 60]])
    truth, mask = np.zeros((2, *z.shape), np.uint8)
    for value, (cz, cy, cx) in zip((5, 9), centres, strict=True):
        ball = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < RADIUS**2
        truth[ball] = value
        mask[ball & (z < cz + 7)] = value
    mask[3:6, 3:6, 38:41] = 5 * (number % 2)
    image = (truth > 0) * 100.0 + random.normal(0, 20, z.shape)
    names = [str(folder / f"{kind}_{number}.nii.gz") for kind in ("image", "mask", "reference")]
    for name, array in zip(names, (image.astype(np.float32), mask, truth), strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(array), name)
    return names[0], names[1], names[2]


def table_of(rows: list[tuple[str, str, str]], file: Path) -> Path:
    """A table of cases."""
    file.write_text("image,mask,reference\n" + "".join(f"{','.join(row)}\n" for row in rows), encoding="utf-8")
    return file
