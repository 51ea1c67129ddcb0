"""A case folder as the engine writes it, made from a real image and its reference labels.

The maps are plausible, not predicted: the error probability is highest on the label's boundary and falls off with
distance, so that tests know where colours must be.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import center_of_mass, distance_transform_edt, find_objects, label

from SegWithUCore.case.region_files import REGION_LABELS_FILE, REGIONS_FILE, regions_csv
from SegWithUCore.regions.region import Competition, Kind, Region, Shape

NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus"}
COLORS = {1: [216, 101, 79], 2: [80, 160, 220]}
ANATOMICAL = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"}
HIPPOCAMPUS = {"scheme": "SCT", "value": "102290005", "meaning": "Hippocampus"}
BINS = 256
FALLOFF_MM = 1.5
REGION_ABOVE = 0.6
"""Error probability from which voxels make regions."""
REGION_PLANES = 9
"""Every so many voxels along j a plane parts the shell around the hippocampus into regions."""


@dataclass(frozen=True)
class CaseOnDisk:
    """`image` is the input file; `folder` the case folder made from it; arrays have axes k, j, i."""

    image: Path
    folder: Path
    labels: np.ndarray
    error: np.ndarray
    region_labels: np.ndarray | None = None


def make_case(
    data: Path,
    target: Path,
    *,
    oblique: bool = False,
    left_handed: bool = False,
    calibrated: bool = True,
    region: bool = False,
    empty_structure: bool = False,
    regions: bool = False,
    created: str = "2026-11-25T09:30:00+00:00",
) -> CaseOnDisk:
    """Write an input image and a case folder under `target`.

    Args:
        data: the folder of real data.
        oblique: turned by 20 and 10 degrees and, in k, only every second slice.
        left_handed: the first axis runs the other way.
        calibrated: with the error probability map; otherwise figures are null.
        region: the upper half along k was not assessed.
        empty_structure: a third structure without voxels.
        regions: with `regions.csv` and `regions.nii.gz`.
    """
    name = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[0].name
    image = sitk.ReadImage(str(data / "hippocampus" / "images" / name))
    labels = sitk.Cast(sitk.ReadImage(str(data / "hippocampus" / "labels" / name)), sitk.sitkUInt8)
    if oblique:
        image, labels = _turned(image), _turned(labels)
    if left_handed:
        image, labels = (sitk.Flip(each, (True, False, False)) for each in (image, labels))
    folder = target / "case"
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(target / "image.nrrd"))
    array = sitk.GetArrayFromImage(labels)
    assessed = np.ones(array.shape, dtype=bool)
    if region:
        assessed[array.shape[0] // 2 :] = False
    maps = _map_arrays(array, labels.GetSpacing(), assessed, calibrated)
    sitk.WriteImage(labels, str(folder / "segmentation.nii.gz"))
    for map_name, values in maps.items():
        volume = sitk.GetImageFromArray(values)
        volume.CopyInformation(image)
        sitk.WriteImage(volume, str(folder / f"{map_name}.nii.gz"))
    values = [1, 2, *([3] if empty_structure else [])]
    case = _case_json(image, array, maps, values, assessed, created)
    (folder / "case.json").write_text(json.dumps(case, ensure_ascii=False), encoding="utf-8")
    error = maps.get("error_probability", maps["calibration"])
    region_labels = write_some_regions(folder, array, error, image) if regions else None
    return CaseOnDisk(target / "image.nrrd", folder, array, error, region_labels)


def write_some_regions(
    folder: Path, labels: np.ndarray, error: np.ndarray, image: sitk.Image, ids: np.ndarray | None = None
) -> np.ndarray:
    """Write plausible regions into a case folder and return their label volume (axes k, j, i).

    Args:
        ids: the label volume, where a test wants its own.
    """
    if ids is None:
        uncertain = error > REGION_ABOVE
        uncertain[:, ::REGION_PLANES] = False
        ids = label(uncertain)[0].astype(np.uint16)
    volume = sitk.GetImageFromArray(ids)
    volume.CopyInformation(image)
    sitk.WriteImage(volume, str(folder / REGION_LABELS_FILE))
    found = [
        _region(number, ids[box] == number, box, labels[box], error[box], image)
        for number, box in enumerate(find_objects(ids), 1)
    ]
    found.sort(key=lambda region: -region.expected_wrong_mm3)
    ranked = [replace(region, rank=rank) for rank, region in enumerate(found, 1)]
    (folder / REGIONS_FILE).write_text(regions_csv(ranked), encoding="utf-8")
    return ids


def write_many_regions(disk: CaseOnDisk, count: int) -> None:
    """Write so many small regions into a case folder, three voxels each, where errors are likeliest."""
    ids = np.zeros(disk.labels.size, np.uint16)
    places = np.argsort(-disk.error.ravel(), kind="stable")[: 3 * count]
    ids[np.sort(places)] = np.repeat(np.arange(1, count + 1), 3)
    write_some_regions(
        disk.folder, disk.labels, disk.error, sitk.ReadImage(str(disk.image)), ids.reshape(disk.labels.shape)
    )


def _region(
    number: int,
    mask: np.ndarray,
    box: tuple[slice, ...],
    labels: np.ndarray,
    error: np.ndarray,
    image: sitk.Image,
) -> Region:
    """A region from its voxels; arrays are cut to its box (axes k, j, i)."""
    first = np.array([side.start for side in box])
    risk = np.where(mask, error, -1)
    peak = np.array(np.unravel_index(risk.argmax(), risk.shape)) + first
    inside = labels[mask & (labels > 0)]
    value = int(np.bincount(inside).argmax()) if len(inside) else 1
    voxel = float(np.prod(image.GetSpacing()))
    return Region(
        id=number,
        rank=number,
        structure=NAMES[value],
        structure_value=value,
        kind=Kind.BOUNDARY,
        shape=Shape.THIN,
        expected_wrong_mm3=float(error[mask].sum() * voxel),
        volume_mm3=float(mask.sum() * voxel),
        peak=float(risk.max()),
        peak_ras_mm=_ras(image, peak),
        centre_ras_mm=_ras(image, np.array(center_of_mass(np.where(mask, error, 0))) + first),
        size_mm=tuple(float(size * step) for size, step in zip(mask.shape[::-1], image.GetSpacing(), strict=True)),
        competing=(Competition(NAMES[value], "background", 0.625), Competition("background", NAMES[value], 0.25)),
        touches_border=False,
    )


def _ras(image: sitk.Image, kji: np.ndarray) -> tuple[float, float, float]:
    left, posterior, superior = image.TransformContinuousIndexToPhysicalPoint([float(part) for part in kji[::-1]])
    return -left, -posterior, superior


def change_case(folder: Path, **blocks: object) -> None:
    """Replace blocks of a case's `case.json`; None removes one."""
    path = folder / "case.json"
    case = json.loads(path.read_text(encoding="utf-8"))
    case.pop("content_sha256", None)
    for key, block in blocks.items():
        case[key] = block
        if block is None:
            del case[key]
    path.write_text(json.dumps(case), encoding="utf-8")


def _turned(image: sitk.Image) -> sitk.Image:
    image = image[:, :, ::2]
    turn = sitk.Euler3DTransform((0, 0, 0), np.deg2rad(10), 0, np.deg2rad(20))
    direction = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(image.GetDirection()).reshape(3, 3)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((12.5, -40.25, 7.0))
    return image


def _map_arrays(
    labels: np.ndarray, spacing_ijk: tuple[float, ...], assessed: np.ndarray, calibrated: bool
) -> dict[str, np.ndarray]:
    inside = labels > 0
    sampling = spacing_ijk[::-1]
    distance = np.where(
        inside, distance_transform_edt(inside, sampling=sampling), distance_transform_edt(~inside, sampling=sampling)
    )
    risk = np.exp(-np.maximum(distance - 1, 0) / FALLOFF_MM)
    ranking = (np.log(risk + 1e-6)).astype(np.float32)
    calibration = (4 * risk).astype(np.float32)
    ranking[~assessed] = ranking[assessed].min() - 1
    calibration[~assessed] = -1
    maps = {"calibration": calibration, "ranking": ranking}
    if calibrated:
        error = (0.9 * risk).astype(np.float32)
        error[~assessed] = -1
        maps["error_probability"] = error
    return maps


def _case_json(
    image: sitk.Image,
    labels: np.ndarray,
    maps: dict[str, np.ndarray],
    values: list[int],
    assessed: np.ndarray,
    created: str,
) -> dict[str, object]:
    calibrated = "error_probability" in maps
    voxel = float(np.prod(image.GetSpacing()))
    return {
        "format": "segwithu-case",
        "format_version": 1,
        "name": "hippocampus",
        "created": created,
        "input": {
            "channels": [{"name": "T1", "file": "../image.nrrd", "voxels_sha256": "0" * 64}],
            "grid": {
                "size_ijk": list(image.GetSize()),
                "spacing_mm": list(image.GetSpacing()),
                "origin_lps_mm": list(image.GetOrigin()),
                "direction_lps": list(image.GetDirection()),
            },
        },
        "roi": None,
        "assessed": {"index_ijk": [0, 0, 0], "size_ijk": list(image.GetSize())},
        "not_assessed_value": -1.0,
        "model": {
            "name": "hippocampus-test",
            "version": "1",
            "head": "context",
            "weights_sha256": "1" * 64,
            "calibration_sha256": "2" * 64 if calibrated else None,
            "calibrated": calibrated,
            "calibration_cases": 27 if calibrated else None,
            "calibrated_with_image": False,
        },
        "ood": {"warnings": []},
        "structures": [_structure(value, labels, maps, voxel) for value in values],
        "maps": {name: _map_json(name, array, labels, assessed) for name, array in maps.items()},
        "flags": [{"rule": "ood", "structure": NAMES[1], "message": "volume outside the training range — “check”"}],
        "timings_s": {},
    }


def _structure(value: int, labels: np.ndarray, maps: dict[str, np.ndarray], voxel: float) -> dict[str, object]:
    inside = labels == value
    error = maps.get("error_probability")
    return {
        "value": value,
        "name": NAMES.get(value, f"empty structure {value}"),
        "color": COLORS.get(value, [200, 200, 60]),
        "category": ANATOMICAL,
        "type": HIPPOCAMPUS,
        "voxels": int(inside.sum()),
        "volume_mm3": float(inside.sum() * voxel),
        "expected_wrong_mm3": None if error is None else float(np.clip(error[inside], 0, None).sum() * voxel),
        "uncertain_share": None if error is None or not inside.any() else float((error[inside] > 0.5).mean()),
        "uncertain_mm3": None if error is None else float((error[inside] > 0.5).sum() * voxel),
    }


def _map_json(name: str, array: np.ndarray, labels: np.ndarray, assessed: np.ndarray) -> dict[str, object]:
    seen = array[assessed]
    low, high = (0.0, 1.0) if name == "error_probability" else (float(seen.min()), float(seen.max()))
    counts = {
        str(value): np.histogram(array[assessed & (labels == value)], BINS, (low, high))[0].tolist()
        for value in np.unique(labels)
    }
    return {
        "file": f"{name}.nii.gz",
        "title": {"error_probability": "Error probability"}.get(name, f"{name.capitalize()} map"),
        "quantity": name.replace("_", " "),
        "unit": "1",
        "window": [low, high],
        "lower_threshold": {"error_probability": 0.2, "ranking": -2.0, "calibration": 1.0}[name],
        "not_assessed": float(array[~assessed][0]) if not assessed.all() else float(seen.min()) - 1,
        "histograms": {"low": low, "high": high, "counts": counts},
    }
