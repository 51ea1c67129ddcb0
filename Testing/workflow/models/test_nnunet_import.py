"""An imported nnU-Net gives nnU-Net's own logits, works in every command, and what cannot be imported is named."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunet_results import (
    CONFIGURATION,
    dataset,
    nnunets_network,
    of_slices,
    plans,
    residual_encoder,
    settings,
    write_result_folder,
)
from segwithu_command import Command, entries, one_sentence, real_image, refused
from training_runs import Workshop

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_network import load_network
from SegWithUCore.models.nnunet_import import read_nnunet_folder, write_nnunet_bundle
from SegWithUCore.network.segwithu import recorded_taps

ABOUT = dict.fromkeys(("name", "version", "task", "licence_weights", "licence_data", "citation"), "test")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_result_folder(tmp_path_factory.mktemp("nnunet"))


def window(seed: int = 1) -> torch.Tensor:
    return torch.randn((1, 1, 40, 56, 40), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("change", [lambda data: data, residual_encoder], ids=["plain", "residual encoder"])
def test_logits_equal_those_of_the_network_that_nnunet_builds(
    change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    data = change(plans())
    theirs = nnunets_network(data)
    folder = read_nnunet_folder(write_result_folder(tmp_path, data, theirs))
    network = load_network(write_nnunet_bundle(folder, ABOUT, tmp_path / "bundle"))
    with torch.inference_mode():
        expected = theirs(window())[0]
        logits = network.split(network.window_output(window()))[0]
    assert float(expected.std()) > 0.1
    assert float((logits - expected).abs().max()) < 1e-4


def test_a_network_of_slices_runs_slice_by_slice_and_leaves_their_distance(
    segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    data = of_slices(plans())
    theirs = nnunets_network(data)
    folder = read_nnunet_folder(write_result_folder(tmp_path / "trained", data, theirs))
    bundle = write_nnunet_bundle(folder, ABOUT, tmp_path / "bundle")
    assert (bundle.input.window, bundle.input.spacing_mm) == ((32, 24, 1), (1.2, 1.0, 1.0))
    network = load_network(bundle)
    slices = torch.randn((1, 1, 3, 24, 32), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for number in range(3):
            expected = theirs(slices[:, :, number])[0]
            logits = network.split(network.window_output(slices[:, :, number : number + 1]))[0][:, :, 0]
            assert float(expected.std()) > 0.1
            assert float((logits - expected).abs().max()) < 1e-4
    whole = sitk.ReadImage(str(real_image(data_folder)))
    thick = whole[:, :, ::4]
    for name, image in (("thick", thick), ("one", thick[:, :, 2:3])):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
        outcome = segwithu.segment(tmp_path / f"{name}.nii.gz", model=tmp_path / "bundle", output=tmp_path / "out")
        assert outcome.code == 0, outcome.err
        found = sitk.ReadImage(str(tmp_path / "out" / name / "segmentation.nii.gz"))
        assert (found.GetSize(), found.GetSpacing()) == (image.GetSize(), image.GetSpacing())


def test_mean_of_folds_is_the_mean_of_their_logits(segwithu: Command, tmp_path: Path) -> None:
    data = plans()
    folder = write_result_folder(tmp_path / "trained", data)
    networks = [nnunets_network(data, seed=seed) for seed in range(3)]
    for number in (1, 2):
        write_result_folder(tmp_path / str(number), data, networks[number])
        (tmp_path / str(number) / folder.name / "fold_0").rename(folder / f"fold_{number}")
    (folder / "fold_all").mkdir()  # of a training on all cases: no fold
    outcome = segwithu("import-nnunet", folder, "--fold", "mean", "--output", tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    assert any("mean of 3 folds" in line for line in outcome.messages)
    bundle = read_bundle(tmp_path / "bundle")
    assert "folds 0, 1, 2" in bundle.about["task"]
    network = load_network(bundle)
    with torch.inference_mode():
        expected = torch.stack([each(window())[0] for each in networks]).mean(0)
        logits = network.split(network.window_output(window()))[0]
    assert float((logits - expected).abs().max()) < 1e-4

    (folder / "fold_3").mkdir()  # not trained to its end
    one_sentence(
        segwithu("import-nnunet", folder, "--fold", "mean", "-o", tmp_path / "other"), "fold_3", "does not exist"
    )
    assert not (tmp_path / "other").exists()


def test_compiled_names_give_the_same_weights(result: Path, tmp_path: Path) -> None:
    whole = read_nnunet_folder(result)
    network = nnunets_network(plans())
    renamed = {f"module._orig_mod.{name}": tensor for name, tensor in network.state_dict().items()}
    other = read_nnunet_folder(write_result_folder(tmp_path, plans(), network, network_weights=renamed))
    assert list(other.weights) == list(whole.weights)
    assert all(torch.equal(tensor, whole.weights[name]) for name, tensor in other.weights.items())


def test_taps_are_decoder_blocks_and_what_the_output_layer_is_fed(result: Path) -> None:
    folder = read_nnunet_folder(result)
    assert folder.model.taps == ("decoder.stages.0", "decoder.stages.1", "decoder.seg_layers.2")
    network = nnunets_network(plans())
    with torch.inference_mode(), recorded_taps(network, folder.model.taps) as taps:
        network(window())
    shapes = [tuple(taps[name].shape[1:]) for name in folder.model.taps]
    assert shapes == [(32, 10, 14, 10), (16, 20, 28, 20), (4, 40, 56, 40)]


def test_imported_model_says_what_it_is_and_segments(
    segwithu: Command, result: Path, data_folder: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    outcome = segwithu("import-nnunet", result, "--output", bundle, "--name", "hippo", "--licence-data", "CC-BY-SA-4.0")
    assert outcome.code == 0, outcome.err
    assert any("--orientation" in line for line in outcome.messages)
    read = read_bundle(bundle)
    assert (read.name, read.calibration, read.about["licence_data"]) == ("hippo", None, "CC-BY-SA-4.0")
    assert read.about["licence_weights"].startswith("unknown")
    assert [(label.value, label.name) for label in read.labels] == [
        (0, "background"),
        (1, "anterior"),
        (2, "posterior"),
    ]
    assert (read.input.orientation, read.input.window, read.input.spacing_mm) == ("xyz", (40, 48, 40), (1, 1, 1))
    assert segwithu("models", "verify", bundle, "--load").out == "hippo: whole\n"
    assert "untrained" in segwithu("models", "show", bundle).out
    assert "untrained" in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert segwithu.segment(real_image(data_folder), model=bundle, output=tmp_path / "out").code == 0
    case = tmp_path / "out" / "hippocampus_319"
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(case / "segmentation.nii.gz"))).any()
    assert not (case / "error_probability.nii.gz").exists()


def test_voxels_outside_the_nonzero_box_are_not_assessed(
    segwithu: Command, result: Path, data_folder: Path, tmp_path: Path
) -> None:
    image = sitk.ConstantPad(sitk.ReadImage(str(real_image(data_folder))), [3, 4, 5], [6, 0, 2], 0)
    sitk.WriteImage(image, str(tmp_path / "padded.nii.gz"))
    segwithu("import-nnunet", result, "--output", tmp_path / "bundle")
    for name, path in (("plain", real_image(data_folder)), ("padded", tmp_path / "padded.nii.gz")):
        output = tmp_path / name
        assert segwithu.segment(path, "--name", "case", model=tmp_path / "bundle", output=output).code == 0
    facts = json.loads((tmp_path / "padded" / "case" / "case.json").read_text(encoding="utf-8"))
    assert facts["assessed"]["index_ijk"] == [3, 4, 5]
    for name, outside in (("segmentation", 0), ("calibration", -1)):
        plain, padded = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / where / "case" / f"{name}.nii.gz")))
            for where in ("plain", "padded")
        )
        inside = padded[5:-2, 4:, 3:-6]
        np.testing.assert_allclose(inside, plain, atol=1e-5)
        assert (padded == outside).sum() >= padded.size - plain.size


@pytest.mark.slow
def test_head_is_trained_and_calibrated_on_an_imported_backbone(
    segwithu: Command, result: Path, data_folder: Path, tmp_path: Path
) -> None:
    shop = Workshop(data_folder, tmp_path)
    assert segwithu("import-nnunet", result, "--output", tmp_path / "imported").code == 0
    about = {**read_bundle(tmp_path / "imported").about, "notes": "trained here"}
    recipe = tmp_path / "head.json"
    recipe.write_text(json.dumps({"about": about, "backbone": {"model": str(tmp_path / "imported")}}), encoding="utf-8")
    call = ("head", "run", "--recipe", str(recipe), "--epochs", "1")
    assert shop.train(*call, cases="select") == 2  # the same cases in both roles are refused
    assert shop.train(*call) == 0
    call = ("--run", tmp_path / "run", "--cases", f"{shop.table}:calibration", "--output", tmp_path / "bundle")
    assert segwithu("calibrate", *call).code == 0
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.calibration is not None
    assert bundle.ood_reference is not None
    assert "untrained" not in bundle.about["notes"]
    network, imported = load_network(bundle), read_nnunet_folder(result)
    state = network.backbone.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in imported.weights.items())


@pytest.mark.parametrize(
    ("reader", "given", "forward", "axes"),
    [
        ("SimpleITKIO", None, [0, 1, 2], "xyz"),
        ("NibabelIO", None, [2, 0, 1], "yzx"),
        ("SimpleITKIO", "LPS", [0, 1, 2], "LPS"),
        ("SimpleITKIO", "LPS", [1, 0, 2], "LSP"),
        ("NibabelIOWithReorient", "LPS", [0, 1, 2], "RAS"),
        ("SimpleITKIOWithReorient", None, [2, 1, 0], "SAR"),
    ],
)
def test_axes_follow_reader_and_transposition(
    reader: str, given: str | None, forward: list[int], axes: str, tmp_path: Path
) -> None:
    data = plans() | {"image_reader_writer": reader, "transpose_forward": forward}
    settings(data)["patch_size"] = [16, 24, 32]
    folder = read_nnunet_folder(write_result_folder(tmp_path, data), orientation=given)
    assert folder.model.input.orientation == axes
    assert folder.model.input.window_zyx == (16, 24, 32)


def test_a_coarse_configuration_is_a_network_of_its_own(segwithu: Command, tmp_path: Path) -> None:
    """3d_lowres, whose result the cascade would go on with: the segmentation is that of the input's grid."""
    data, name = plans(), "3d_lowres"
    spacing = [1.9, 1.7, 1.8]
    data["configurations"][name] = {
        "inherits_from": CONFIGURATION, "spacing": spacing, "next_stage": "3d_cascade_fullres"
    }  # fmt: skip
    initial = {"plans": data, "configuration": name, "fold": 0, "dataset_json": dataset()}
    folder = write_result_folder(tmp_path, data, init_args=initial)
    folder = folder.rename(folder.with_name(folder.name.replace(CONFIGURATION, name)))
    outcome = segwithu("import-nnunet", folder, "--output", tmp_path / "bundle")
    assert outcome.code == 0, outcome.err
    assert read_bundle(tmp_path / "bundle").input.spacing_mm == tuple(spacing[::-1])
    image = tmp_path / "case.nii.gz"
    values = np.random.default_rng(0).normal(0, 1, (20, 30, 26)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(image))
    outcome = segwithu.segment(image, model=tmp_path / "bundle", output=tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert sitk.ReadImage(str(tmp_path / "out" / "case" / "segmentation.nii.gz")).GetSize() == (26, 30, 20)


def _set(**changes: Any) -> Callable[[Path], None]:
    """Change the 3D configuration; a key of the plans themselves is changed there."""

    def change(folder: Path) -> None:
        data = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
        for key, value in changes.items():
            (data if key in data else settings(data))[key] = value
        (folder / "plans.json").write_text(json.dumps(data), encoding="utf-8")

    return change


def _network(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
        architecture = settings(data)["architecture"]
        for key, value in changes.items():
            (architecture if key in architecture else architecture["arch_kwargs"])[key] = value
        (folder / "plans.json").write_text(json.dumps(data), encoding="utf-8")

    return change


def _labels(**labels: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "dataset.json").write_text(json.dumps(dataset() | {"labels": labels}), encoding="utf-8")

    return change


def _checkpoint(content: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / "fold_0" / "checkpoint_final.pth")


def _cut(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:5000])


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


REFUSALS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "cascade": (_set(previous_stage="3d_lowres"), ("previous_stage", "3d_lowres")),
    "slices of volumes": (_set(patch_size=[48, 40]), ("plans.json", "strides/0")),
    "one slice": (_set(patch_size=[1, 48, 40]), ("patch_size", "[1, 48, 40]")),
    "preprocessor": (_set(preprocessor_name="Mine"), ("Mine", "DefaultPreprocessor")),
    "resampling": (_set(resampling_fn_data="resample_torch_fornnunet"), ("resample_torch_fornnunet",)),
    "normalisation": (_set(normalization_schemes=["Mine"]), ("plans.json", "Mine")),
    "reader": (_set(image_reader_writer="NaturalImage2DIO"), ("NaturalImage2DIO", "SimpleITKIO")),
    "patch": (_set(patch_size=[40, 52, 40]), ("[40, 52, 40]", "[8, 8, 8]")),
    "plans before 2.3": (_set(architecture=None), ("architecture", "2.3")),
    "inherits in a ring": (_set(inherits_from=CONFIGURATION), ("inherits_from",)),
    "no spacing": (_set(spacing=None), ("plans.json", "configurations/3d_fullres/spacing", "None")),
    "network": (_network(network_class_name="os.system"), ("os.system", "PlainConvUNet")),
    "layer": (_network(nonlin="os.system"), ("os.system", "nonlin", "LeakyReLU")),
    "argument": (_network(color="red"), ("'nnunet'", "'color'")),
    "lists": (_network(n_conv_per_stage=[2, 2]), ("'nnunet'", "do not fit")),
    "other weights": (_network(features_per_stage=[4, 8, 16, 16]), ("checkpoint_final.pth", "do not fit", "shape")),
    "regions": (_labels(background=0, whole=[1, 2], core=2), ("labels", "whole")),
    "ignore": (_labels(background=0, organ=1, ignore=2), ("labels", "ignore")),
    "gap": (_labels(background=0, organ=2), ("labels", "organ")),
    "no labels": (lambda folder: (folder / "dataset.json").write_text("{}"), ("dataset.json", "channel_names")),
    "no JSON": (lambda folder: (folder / "plans.json").write_text("{"), ("plans.json is not valid JSON",)),
    "no plans": (lambda folder: (folder / "plans.json").unlink(), ("is not an nnU-Net result folder", "plans.json")),
    "no checkpoint": (lambda folder: (folder / "fold_0" / "checkpoint_final.pth").unlink(), ("does not exist",)),
    "no weights": (_checkpoint({"epoch": 1}), ("checkpoint_final.pth", "no 'network_weights'")),
    "cut": (_cut, ("checkpoint_final.pth", "holds more than weights")),
    "objects": (
        _checkpoint({"network_weights": {}, "path": Path("x")}),
        ("checkpoint_final.pth", "holds more than weights", "torch.save"),
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_cannot_be_imported_is_named_and_nothing_is_written(kind: str, segwithu: Command, tmp_path: Path) -> None:
    damage, words = REFUSALS[kind]
    folder = write_result_folder(tmp_path / "nnunet")
    damage(folder)
    one_sentence(segwithu("import-nnunet", folder, "--output", tmp_path / "out" / "bundle"), *words)
    assert entries(tmp_path / "out") == []


def test_code_in_a_checkpoint_is_not_run(segwithu: Command, tmp_path: Path) -> None:
    folder, trace = write_result_folder(tmp_path / "nnunet"), tmp_path / "trace"
    _checkpoint({"network_weights": {}, "trap": Trap(trace)})(folder)
    one_sentence(segwithu("import-nnunet", folder, "--output", tmp_path / "out"), "holds more than weights")
    assert not trace.exists()
    torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert trace.exists()  # the trap works: only the reading was safe


def test_safe_file_made_as_the_refusal_says_is_imported(segwithu: Command, tmp_path: Path) -> None:
    network = nnunets_network(plans())
    folder = write_result_folder(tmp_path / "nnunet", network=network, extra=Path("x"))
    place = folder / "fold_0"
    sentence = one_sentence(segwithu("import-nnunet", folder, "--output", tmp_path / "bundle"), "--checkpoint")
    assert "torch.save({'network_weights': network.state_dict()}, FILE)" in sentence
    assert "torch.load" not in sentence, "nobody is told to run what is in the file"
    torch.save({"network_weights": network.state_dict()}, place / "safe.pth")
    call = ("import-nnunet", folder, "--checkpoint", "safe.pth", "--output", tmp_path / "bundle")
    assert segwithu(*call).code == 0


WRONG_CALLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no output": ((), ("--output",)),
    "fold": (("--output", "OUT", "--fold", "3"), ("no fold 3", "choose one of 0")),
    "configuration": (("--output", "OUT", "--configuration", "2d"), ("'3d_fullres'", "'2d'")),
    "orientation": (("--output", "OUT", "--orientation", "RRS"), ("'RRS'", "--orientation")),
    "name": (("--output", "OUT", "--name", "a/b"), ("'a/b'",)),
}


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_wrong_call_is_named(kind: str, segwithu: Command, result: Path, tmp_path: Path) -> None:
    options, words = WRONG_CALLS[kind]
    given = [option.replace("OUT", str(tmp_path / "bundle")) for option in options]
    one_sentence(segwithu("import-nnunet", result, *given), *words, code=2)
    assert entries(tmp_path) == []


def test_missing_package_is_named_with_the_extra_that_brings_it(
    segwithu: Command, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segwithu("import-nnunet", result, "--output", tmp_path / "bundle").code == 0
    for name in [name for name in sys.modules if name.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures", None)
    outcome = segwithu("models", "verify", tmp_path / "bundle", "--load")
    refused(outcome, "needs-package", "dynamic-network-architectures", "[nnunet]", code=2)
    assert segwithu("models", "show", tmp_path / "bundle").code == 0
