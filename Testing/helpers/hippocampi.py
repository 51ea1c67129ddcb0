"""More cases than the six of `Testing/data`, and a volume such as a CT: for tests to which only the number matters."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_hippocampi(data_folder: Path, target: Path, count: int) -> list[str]:
    """Write `images` and `labels` of the six hippocampi and, after them, of the same with noise; returns the names."""
    source = data_folder / "hippocampus"
    known = sorted(path.name.removesuffix(".nii.gz") for path in (source / "images").glob("*.nii.gz"))
    names = []
    for part in ("images", "labels"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scan, name = number // len(known), known[number % len(known)]
        names.append(f"again_{scan}_{name}" if scan else name)
        noise = np.random.default_rng(number)
        for part in ("images", "labels"):
            image = sitk.ReadImage(str(source / part / f"{name}.nii.gz"))
            if scan and part == "images":
                array = sitk.GetArrayFromImage(image)
                noisy = sitk.GetImageFromArray((array + noise.integers(0, 4, array.shape)).astype(array.dtype))
                noisy.CopyInformation(image)
                image = noisy
            sitk.WriteImage(image, str(target / part / f"{names[-1]}.nii.gz"))
    return names


def write_split(data_folder: Path, target: Path, **counts: int) -> Path:
    """Write so many cases of each role, in order, the six hippocampi first; returns their split table."""
    names = write_hippocampi(data_folder, target, sum(counts.values()))
    roles = [role for role, count in counts.items() for _ in range(count)]
    rows = [f"{name},{role}\n" for name, role in zip(names, roles, strict=True)]
    (target / "split.csv").write_text("".join(["case,role\n", *rows]), encoding="utf-8")
    return target / "split.csv"


def ct_phantom(data_folder: Path) -> sitk.Image:
    """A real crop scaled as a CT is, int16 from below -900 to above 100: 41 x 47 x 32 voxels of 3 mm, axes R, A, S."""
    crop = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / "hippocampus_075.nii.gz"))
    image = sitk.GetImageFromArray(sitk.GetArrayFromImage(crop).T.astype(np.int16).copy() * 12 - 1024)
    image.SetSpacing((3.0, 3.0, 3.0))
    image.SetOrigin((177.956, -11.319, 94.302))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image
