"""Compare an imported nnU-Net with nnU-Net itself: prepared images, logits and segmentations.

    python Testing/Benchmarks/nnunet_equality.py --work DIR --data ../shared/data/hippocampus [--iterations 60]

Needs nnunetv2 (2.8.1 was used) beside this project's own packages; nothing is downloaded. nnU-Net plans and trains a
small network for two short epochs on eight real cases, another one with the plans of its residual encoder, and one of
its configuration 2d; then the plans of the first and the last are varied (spacing, axes, windows, normalisation, a
configuration 3d_lowres) with the same weights, and each variant is imported and run on a case that was not trained on.
The mean of folds is that of networks whose weights differ by noise. After so short a training everything is called
background: the output layer's bias for background is lowered, for both programs alike, until 4 % of the case are
structures, so that there is something to compare. nnU-Net sums windows in float16; `differing_voxels_float32` counts
the voxels that differ where it is made to sum in float32. Exits 1 when logits of one prepared window differ by 1e-4 or
more.
"""

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402

from SegWithUCore.inference.case_result import Job  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.preprocessing import assessed_box, network_input  # noqa: E402
from SegWithUCore.inference.segment import segment  # noqa: E402
from SegWithUCore.io.volume import read_image  # noqa: E402
from SegWithUCore.models.nnunet_import import about_of, read_nnunet_folder, write_nnunet_bundle  # noqa: E402

LOWRES = "3d_lowres"
NAME, NUMBER, CONFIGURATION, SLICES, FOLD = "Dataset901_Hippocampus", 901, "3d_fullres", "2d", "all"
PLANNERS = {"nnUNetPlans": "ExperimentPlanner", "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM"}
TRAININGS = (("nnUNetPlans", CONFIGURATION), ("nnUNetResEncUNetMPlans", CONFIGURATION), ("nnUNetPlans", SLICES))
NOISE = 0.02
"""Of the weights of folds, relative."""
LIMIT = 1e-4
SHARE_OF_STRUCTURES = 0.04
VARIANTS: dict[str, dict[str, Any]] = {
    "as planned": {},
    "other spacing": {"spacing": [1.4, 1.2, 0.8]},
    "thick slices": {"spacing": [4.0, 1.0, 0.8]},
    "axes reordered": {"spacing": [1.3, 1.0, 0.8], "patch_size": [40, 40, 56], "transpose_forward": [2, 0, 1]},
    "many windows": {"patch_size": [24, 24, 16]},
    "CT normalisation": {"normalization_schemes": ["CTNormalization"]},
    "range normalisation": {"normalization_schemes": ["RescaleTo01Normalization"]},
    "3d_lowres": {"spacing": [1.9, 1.7, 1.8], "next_stage": "3d_cascade_fullres", "batch_dice": False},
    "within nonzero voxels": {"use_mask_for_norm": [True], "spacing": [1.4, 1.2, 0.8]},
    "mean of three folds": {"folds": 3},
}
"""Changes of the plans; the case of those within nonzero voxels has a rim of zeros."""
VARIANTS_OF_SLICES: dict[str, dict[str, Any]] = {
    "2d": {},
    "2d, other spacing": {"spacing": [1.3, 0.8]},
    "2d, axes reordered": {"transpose_forward": [1, 0, 2], "patch_size": [32, 40]},
    "2d, mean of three folds": {"folds": 3},
}


def main() -> int:
    """Train, compare every variant, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's files")
    parser.add_argument("--data", type=Path, required=True, help="images, labels and split.csv")
    parser.add_argument("--iterations", type=int, default=60, help="of each of the two epochs")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing/Benchmarks/results/nnunet_equality.json")
    arguments = parser.parse_args()
    for part in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{part}"] = str(arguments.work / part)
    os.environ |= {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}
    with (arguments.data / "split.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    train = [row["case"] for row in rows if row["role"] == "train"][:8]
    test = next(row["case"] for row in rows if row["role"] == "test")
    image, networks = arguments.data / "images" / f"{test}.nii.gz", []
    for plans, configuration in TRAININGS:
        trained = arguments.work / "results" / NAME / f"nnUNetTrainer__{plans}__{configuration}"
        if not (trained / f"fold_{FOLD}" / "checkpoint_final.pth").is_file():
            _make_data_set(arguments.data, train, arguments.work / "raw" / NAME)
            _train(arguments.work / "preprocessed" / NAME, arguments.iterations, plans, configuration)
        networks.append(_with_structures(trained, image, arguments.work / "lowered" / trained.name))
    results = {}
    for trained, variants in zip(networks, (VARIANTS, {"residual encoder": {}}, VARIANTS_OF_SLICES), strict=True):
        for name, changes in variants.items():
            given = _with_rim(image, arguments.work / "rim.nii.gz") if "use_mask_for_norm" in changes else image
            results[name] = _compared(trained, changes, given, arguments.work / "variant")
            print(f"{name:22}", json.dumps(results[name]), flush=True)
    packages = {package: version(package) for package in ("nnunetv2", "dynamic-network-architectures", "torch")}
    facts = {"packages": packages, "case": test, "iterations": 2 * arguments.iterations, "variants": results}
    arguments.output.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0 if all(result["logits_largest_difference"] < LIMIT for result in results.values()) else 1


def _make_data_set(data: Path, cases: list[str], target: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for case in cases:
        shutil.copy(data / "images" / f"{case}.nii.gz", target / "imagesTr" / f"{case}_0000.nii.gz")
        labels = sitk.Cast(sitk.ReadImage(str(data / "labels" / f"{case}.nii.gz")), sitk.sitkUInt8)
        sitk.WriteImage(labels, str(target / "labelsTr" / f"{case}.nii.gz"))
    labels_of = {"background": 0, "anterior": 1, "posterior": 2}
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels_of, "numTraining": len(cases), "file_ending": ".nii.gz"}
    (target / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")


def _train(preprocessed: Path, iterations: int, name: str, configuration: str) -> None:
    """Plan, preprocess and train by nnU-Net's own code, with a quarter of its features."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    extract_fingerprints([NUMBER], num_processes=1, check_dataset_integrity=False)
    plan_experiments([NUMBER], experiment_planner_class_name=PLANNERS[name])
    preprocess([NUMBER], plans_identifier=name, configurations=(configuration,), num_processes=(1,))
    plans = json.loads((preprocessed / f"{name}.json").read_text(encoding="utf-8"))
    settings = plans["configurations"][configuration]
    settings["batch_size"] = 2 if configuration == CONFIGURATION else 12
    network = settings["architecture"]["arch_kwargs"]
    network["features_per_stage"] = [features // 4 for features in network["features_per_stage"]]
    plans["continue_training"] = False
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augment in this process
    dataset = json.loads((preprocessed / "dataset.json").read_text(encoding="utf-8"))
    trainer = nnUNetTrainer(plans, configuration, FOLD, dataset, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, iterations, 1
    shutil.copy(preprocessed / "dataset_fingerprint.json", trainer.output_folder_base)
    trainer.run_training()


def _with_structures(trained: Path, image: Path, folder: Path) -> Path:
    """A copy of the result folder whose network finds structures in `SHARE_OF_STRUCTURES` of the image."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    shutil.rmtree(folder, ignore_errors=True)
    copy = Path(shutil.copytree(trained, folder / trained.name))
    predictor = _predictor(copy)
    array, properties = SimpleITKIO().read_images([str(image)])
    prepared = torch.from_numpy(_prepared_by_nnunet(predictor, array, dict(properties)))
    logits = predictor.predict_logits_from_preprocessed_data(prepared).float()
    gap = (logits[0] - logits[1:].amax(0)).flatten().quantile(SHARE_OF_STRUCTURES)
    path = copy / f"fold_{FOLD}" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)  # written by this program
    last = max(name for name in content["network_weights"] if name.startswith("decoder.seg_layers."))
    assert last.endswith(".weight")
    content["network_weights"][last.replace(".weight", ".bias")][0] -= gap
    torch.save(content, path)
    return copy


def _predictor(folder: Path, folds: tuple[str | int, ...] = (FOLD,)) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds, "checkpoint_final.pth")
    return predictor


def _with_rim(image: Path, target: Path) -> Path:
    """The case in a rim of zeros, more than half of the volume."""
    sitk.WriteImage(sitk.ConstantPad(sitk.ReadImage(str(image)), [9, 4, 6], [3, 8, 7], 0), str(target))
    return target


def _compared(trained: Path, changes: Mapping[str, Any], image: Path, folder: Path) -> dict[str, Any]:
    """Import a variant and compare it with nnU-Net's predictor on one case."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    shutil.rmtree(folder, ignore_errors=True)
    own = trained.name.rpartition("__")[2]
    name, folds = LOWRES if "next_stage" in changes else own, int(changes.get("folds", 0))
    theirs = folder / trained.name.replace(own, name)
    shutil.copytree(trained, theirs)
    plans = json.loads((theirs / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"][name] = {**plans["configurations"][own]}
    for key, value in changes.items():
        (plans if key in plans else plans["configurations"][name])[key] = value
    content = torch.load(theirs / f"fold_{FOLD}" / "checkpoint_final.pth", weights_only=False)  # of this program
    content["init_args"]["configuration"] = name
    torch.save(content, theirs / f"fold_{FOLD}" / "checkpoint_final.pth")
    torch.manual_seed(0)
    for number in range(folds):
        (theirs / f"fold_{number}").mkdir()
        weights = {
            name: part * (1 + NOISE * torch.randn_like(part)) for name, part in content["network_weights"].items()
        }
        torch.save({**content, "network_weights": weights}, theirs / f"fold_{number}" / "checkpoint_final.pth")
    if "transpose_forward" in changes:
        plans["transpose_backward"] = [int(i) for i in np.argsort(changes["transpose_forward"])]
    (theirs / "plans.json").write_text(json.dumps(plans), encoding="utf-8")

    predictor = _predictor(theirs, tuple(range(folds)) or (FOLD,))
    array, properties = SimpleITKIO().read_images([str(image)])
    prepared = _prepared_by_nnunet(predictor, array, dict(properties))
    reference = predictor.predict_single_npy_array(array, dict(properties), None, None, False)
    with mock.patch.object(torch, "half", torch.float32):
        exact = predictor.predict_single_npy_array(array, dict(properties), None, None, False)
    predictor.use_mirroring = True
    mirrored = predictor.predict_single_npy_array(array, dict(properties), None, None, False)

    imported = read_nnunet_folder(theirs, "mean" if folds else FOLD)
    about = about_of(imported, {})
    model = Model(write_nnunet_bundle(imported, about, folder / "bundle"), torch.device("cpu"))
    part = read_image(image)
    ours = network_input([assessed_box([part], model.bundle.input).crop(part)], model.bundle.input)[0]
    found = _segmented(model, image, folder / "case")
    return {
        "prepared_largest_difference": _difference(ours, prepared),
        "logits_largest_difference": _logits_difference(predictor, model, prepared),
        "dice": _dice(found, reference),
        "differing_voxels": int((found != reference).sum()),
        "differing_voxels_float32": int((found != exact).sum()),
        "dice_with_mirroring": _dice(found, mirrored),
        "voxels": [int((reference == label).sum()) for label in (1, 2)],
        **_with_linear_resampling(model, part, prepared),
    }


def _prepared_by_nnunet(predictor: Any, array: np.ndarray, properties: dict[str, Any]) -> np.ndarray:
    settings = predictor.configuration_manager
    preprocessor = settings.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case_npy(
        array, None, properties, predictor.plans_manager, settings, predictor.dataset_json
    )
    prepared: np.ndarray = np.asarray(data, np.float32)
    return prepared


def _logits_difference(predictor: Any, model: Model, prepared: np.ndarray) -> float:
    """Largest difference between the two networks' logits on one window, which nnU-Net prepared."""
    window = np.zeros((prepared.shape[0], *model.bundle.input.window_zyx), np.float32)
    part = tuple(slice(0, min(a, b)) for a, b in zip(prepared.shape, window.shape, strict=True))
    window[part] = prepared[part]
    with torch.inference_mode():
        image = torch.from_numpy(window)[None]
        is_of_slices = image.shape[2] == 1 and len(predictor.configuration_manager.patch_size) == 2
        theirs = torch.zeros(())
        for weights in predictor.list_of_parameters:
            predictor.network.load_state_dict(weights)
            one = predictor.network.eval()(image[:, :, 0] if is_of_slices else image)
            theirs = theirs + (one[:, :, None] if is_of_slices else one) / len(predictor.list_of_parameters)
        ours = model.network.split(model.network.window_output(image))[0]
    assert float(theirs.std()) > 0.1, "logits without contrast prove nothing"
    return float((ours - theirs).abs().max())


def _segmented(model: Model, image: Path, target: Path) -> np.ndarray:
    segment(Job("case", [image], target), model)
    labels: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(target / "segmentation.nii.gz")))
    return labels


def _with_linear_resampling(model: Model, image: sitk.Image, prepared: np.ndarray) -> dict[str, float]:
    """How far plain linear resampling, which other bundles use, would be from nnU-Net's splines: mean difference."""
    from dataclasses import replace

    spec = model.bundle.input
    if spec.spacing_mm is None or np.allclose(image.GetSpacing(), spec.spacing_mm) or spec.orientation != "xyz":
        return {}
    part = assessed_box([image], spec).crop(image)
    linear = network_input([part], replace(spec, nnunet=None))[0]
    if linear.shape != prepared.shape:
        return {}
    splines = network_input([part], spec)[0]
    return {
        "mean_difference_splines": float(np.abs(splines - prepared).mean()),
        "mean_difference_linear": float(np.abs(linear - prepared).mean()),
    }


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")


def _dice(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Dice of each structure, 1 where both are empty."""
    pairs = [(a == label, b == label) for label in (1, 2)]
    return [round(float(2 * (p & q).sum() / max(1, p.sum() + q.sum())) if (p | q).any() else 1.0, 5) for p, q in pairs]


if __name__ == "__main__":
    sys.exit(main())
