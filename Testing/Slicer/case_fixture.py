"""A case folder as the engine writes it, made from a real image and its reference labels.

The maps are plausible, not predicted: the error probability is highest on the label's boundary and falls off with
distance, so that tests know where colours must be.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt

NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus"}
COLORS = {1: [216, 101, 79], 2: [80, 160, 220]}
ANATOMICAL = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"}
HIPPOCAMPUS = {"scheme": "SCT", "value": "102290005", "meaning": "Hippocampus"}
BINS = 256
FALLOFF_MM = 1.5


@dataclass(frozen=True)
class CaseOnDisk:
    """`image` is the input file; `folder` the case folder made from it; arrays have axes k, j, i."""

    image: Path
    folder: Path
    labels: np.ndarray
    error: np.ndarray


def make_case(
    data: Path,
    target: Path,
    *,
    oblique: bool = False,
    calibrated: bool = True,
    region: bool = False,
    empty_structure: bool = False,
    created: str = "2026-11-25T09:30:00+00:00",
) -> CaseOnDisk:
    """Write an input image and a case folder under `target`.

    Args:
        data: the folder of real data.
        oblique: turned by 20 and 10 degrees and, in k, only every second slice.
        calibrated: with the error probability map; otherwise figures are null.
        region: the upper half along k was not assessed.
        empty_structure: a third structure without voxels.
    """
    name = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[0].name
    image = sitk.ReadImage(str(data / "hippocampus" / "images" / name))
    labels = sitk.Cast(sitk.ReadImage(str(data / "hippocampus" / "labels" / name)), sitk.sitkUInt8)
    if oblique:
        image, labels = _turned(image), _turned(labels)
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
    return CaseOnDisk(target / "image.nrrd", folder, array, maps.get("error_probability", maps["calibration"]))


def change_case(folder: Path, **blocks: object) -> None:
    """Replace blocks of a case's `case.json`; None removes one."""
    path = folder / "case.json"
    case = json.loads(path.read_text(encoding="utf-8"))
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
        "region_of_interest": None,
        "not_assessed_value": -1.0,
        "model": {"name": "hippocampus-test", "version": "1", "calibrated": calibrated},
        "fingerprint": {"warnings": []},
        "structures": [_structure(value, labels, maps, voxel) for value in values],
        "maps": {name: _map_json(name, array, labels, assessed) for name, array in maps.items()},
        "flags": [{"structure": 1, "sentence": "volume outside the training range — “check”"}],
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
