"""An nnU-Net training in small: raw data set, splits, and a result folder with random networks of several folds."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunet_results import checkpoint, dataset, nnunets_network, plans, settings

SIZE = 16
NAME = "Dataset004_Blobs"


def write_training(
    folder: Path, splits: Sequence[tuple[Sequence[str], Sequence[str]]], folds: Sequence[int] = (0,)
) -> tuple[Path, Path]:
    """Write what nnU-Net leaves of a training.

    Args:
        splits: cases trained with and cases that validate, by fold.
        folds: those that were trained.

    Returns:
        The result folder and the raw data set.
    """
    raw = folder / "nnUNet_raw" / NAME
    for number, case in enumerate(dict.fromkeys(case for train, val in splits for case in (*train, *val))):
        write_case(raw, case, number)
    place = folder / "nnUNet_preprocessed" / NAME
    place.mkdir(parents=True)
    listed = [{"train": list(train), "val": list(val)} for train, val in splits]
    (place / "splits_final.json").write_text(json.dumps(listed), encoding="utf-8")
    return write_results(folder / "nnUNet_results" / NAME, folds, splits), raw


def write_results(
    folder: Path, folds: Sequence[int], splits: Sequence[tuple[Sequence[str], Sequence[str]]] = ()
) -> Path:
    """Write the result folder, with empty files for the validation predictions of each fold."""
    data = plans()
    settings(data)["patch_size"] = [SIZE] * 3
    result = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    result.mkdir(parents=True)
    (result / "plans.json").write_text(json.dumps(data), encoding="utf-8")
    (result / "dataset.json").write_text(json.dumps(dataset()), encoding="utf-8")
    for fold in folds:
        place = result / f"fold_{fold}"
        place.mkdir()
        torch.save(checkpoint(nnunets_network(data, seed=fold), data), place / "checkpoint_final.pth")
        if splits:
            (place / "validation").mkdir()
            for case in splits[fold][1]:
                (place / "validation" / f"{case}.nii.gz").touch()
    return result


def write_case(raw: Path, case: str, number: int) -> None:
    """Write an image with two bright boxes, whose places depend on the number, and their labels."""
    rng = np.random.default_rng(number)
    labels = np.zeros((SIZE,) * 3, np.uint8)
    z, y, x = rng.integers(2, 6, 3)
    labels[z : z + 6, y : y + 5, x : x + 5] = 1
    labels[z : z + 6, y : y + 5, x + 5 : x + 9] = 2
    image = labels * 3 + rng.normal(size=labels.shape)
    for kind, array, name in (("images", image.astype(np.float32), f"{case}_0000"), ("labels", labels, case)):
        (raw / f"{kind}Tr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), raw / f"{kind}Tr" / f"{name}.nii.gz")


def names(count: int, first: int = 1) -> list[str]:
    """Names of cases, each a patient of its own."""
    return [f"blob{number:03d}" for number in range(first, first + count)]
