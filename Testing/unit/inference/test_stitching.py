"""Windows, their stitching, and the maps that follow: what may differ from one big pass, and by how much."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from repository import ROOT
from scipy.stats import spearmanr
from torch import nn
from toy_models import ToyBackbone, registered_toys, toy_network
from whole_maps import maps_on_grid

from SegWithUCore.inference import grid_blocks, uncertainty_maps
from SegWithUCore.inference.engines.base import WindowRunner
from SegWithUCore.inference.engines.torch_engine import TorchEngine, TorchWindows
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.segment import segment_images
from SegWithUCore.inference.sliding_window import WindowPlan, stitch, stitched
from SegWithUCore.inference.uncertainty_maps import VoxelMaps, resample_to_grid, voxelwise
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image, read_labels
from SegWithUCore.metrics.error_detection import auroc, score_groups
from SegWithUCore.metrics.overlap import class_dice
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.network.heads.base import temper_logits
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.util.progress import Progress, silent

CPU = torch.device("cpu")
Record = Callable[[str, object], None]
SHAPE = (25, 38, 31)
WINDOW = (16, 20, 12)


@pytest.fixture(scope="module", autouse=True)
def toys() -> Iterator[None]:
    with registered_toys():
        yield


def local_network() -> SegWithU:
    """Every output voxel depends on the same input voxel only: no norm, and 3-wide convolutions that look nowhere."""
    network = toy_network("local")
    assert isinstance(network.backbone, ToyBackbone)
    centre = torch.zeros(3, 3, 3)
    centre[1, 1, 1] = 1
    with torch.no_grad():
        network.backbone.features.weight *= centre
        for step in (0, 3):
            network.fusion.mixing[step].weight.mul_(centre)
    network.fusion.mixing[1], network.fusion.mixing[4] = nn.Identity(), nn.Identity()
    return network


def noise(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, (1, *shape)).astype(np.float32)


def stitched_output(
    runner: WindowRunner, image: np.ndarray, window: tuple[int, ...], progress: Progress = silent
) -> np.ndarray:
    return stitch(runner, image, WindowPlan.overlapping(image.shape[1:], window), progress)


def one_pass(network: SegWithU, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        output: np.ndarray = network.window_output(torch.from_numpy(image)[None])[0].numpy()
    return output


def test_stitching_a_local_network_equals_one_big_pass() -> None:
    network, image = local_network(), noise()
    assert WindowPlan.overlapping(SHAPE, WINDOW).count > 20
    output = stitched_output(TorchWindows(network), image, WINDOW)
    expected = one_pass(network, image)
    assert expected.std() > 0.1
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(5, 38, 31), (16, 20, 12), (3, 4, 5), (1, 1, 1), (15, 21, 12)])
def test_padding_never_reaches_the_output(shape: tuple[int, int, int]) -> None:
    network, image = local_network(), noise(shape)
    with torch.no_grad():  # padding (exactly zero) would give logits a thousand times larger than any voxel
        network.backbone.features.bias[0] = 1000
        network.backbone.features.weight[0] *= -1000
    output = stitched_output(TorchWindows(network), image, WINDOW)
    assert output.shape[1:] == shape
    np.testing.assert_allclose(output, one_pass(network, image), rtol=1e-5, atol=0.05)


def test_windows_overlap_by_half_and_edges_count_least() -> None:
    """With a network that only knows where in its window a voxel lies, the centre of a window must win."""

    class Position(nn.Module):
        num_classes = 1

        def window_output(self, windows: torch.Tensor) -> torch.Tensor:
            ramp = torch.linspace(-1, 1, windows.shape[-1]).abs()
            return ramp.expand(windows.shape).clone()

    output = stitched_output(TorchWindows(Position()), noise((8, 8, 32)), (8, 8, 16))[0, 4, 4]
    # Windows start at 0, 8 and 16: voxel 16 is at the edge of one and next to the centre of another.
    assert WindowPlan.overlapping((8, 8, 32), (8, 8, 16)).count == 3
    assert output[16] < 0.1
    assert output[12] == pytest.approx(0.5, abs=0.05)
    assert output[0] == pytest.approx(1)


@pytest.mark.parametrize("shape", [(16, 20, 12), SHAPE, (4, 60, 13)])
def test_progress_of_windows_is_monotone_counts_all_and_ends_at_one(shape: tuple[int, int, int]) -> None:
    seen: list[tuple[float, str]] = []
    runner = TorchWindows(local_network())
    stitched_output(runner, noise(shape), WINDOW, lambda stage, done, detail="": seen.append((done, detail)))
    fractions = [fraction for fraction, _ in seen]
    total = WindowPlan.overlapping(shape, WINDOW).count
    assert len(seen) == total
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1][1] == f"window {total} of {total}"


def test_a_wider_view_changes_only_a_little_at_window_borders() -> None:
    network, image = toy_network("looking"), noise()
    network.fusion.mixing[1], network.fusion.mixing[4] = nn.Identity(), nn.Identity()
    gap = np.abs(stitched_output(TorchWindows(network), image, WINDOW) - one_pass(network, image))
    # The zeros beyond a window's border are seen one voxel deep by the backbone, where the Gaussian weighs little.
    assert np.quantile(gap[: network.num_classes], 0.9) < 0.02
    assert gap[: network.num_classes].max() < 1.7  # a wholly missing neighbour


class TestMaps:
    """The non-linear maps on the stitched volume."""

    @pytest.fixture
    def network(self) -> SegWithU:
        return toy_network("looking")

    @pytest.fixture
    def stitched(self, network: SegWithU) -> np.ndarray:
        return stitched_output(TorchWindows(network), noise(), WINDOW)

    @pytest.mark.parametrize("chunk", [1013, 4096, 10**9])
    def test_chunks_equal_the_whole(
        self, chunk: int, network: SegWithU, stitched: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with torch.inference_mode():
            tensor = torch.from_numpy(stitched)[None]
            maps = network.maps(tensor)
            logits = network.split(tensor)[0]
            expected = torch.softmax(temper_logits(logits, maps.calibration) / 1.5, 1).double().sum((0, 2, 3, 4))
        monkeypatch.setattr(uncertainty_maps, "CHUNK_VOXELS", chunk)
        found = voxelwise(TorchEngine(network), stitched, tempering_scale=1.5)
        in_order = np.argsort(-logits[0].numpy(), 0, kind="stable")  # of two that tie, the first
        np.testing.assert_array_equal(found.classes, in_order[0])
        np.testing.assert_array_equal(found.runner_up, in_order[1])
        np.testing.assert_allclose(found.epistemic, maps.epistemic[0, 0], rtol=2e-5, atol=1e-9)
        np.testing.assert_allclose(found.aleatoric, maps.aleatoric[0, 0], rtol=1e-6)
        np.testing.assert_allclose(found.calibration, maps.calibration[0, 0], rtol=1e-6)
        np.testing.assert_allclose(found.ranking, maps.ranking[0, 0], rtol=2e-6)
        np.testing.assert_allclose(found.sums.expected, expected, rtol=1e-6)
        assert found.sums.expected.sum() == pytest.approx(found.classes.size)

    def test_float32_maps_are_within_1e_5_of_float64(self, network: SegWithU, stitched: np.ndarray) -> None:
        found = voxelwise(TorchEngine(network), stitched)
        with torch.inference_mode():
            exact = network.double().maps(torch.from_numpy(stitched).double()[None])
        for single, double in ((found.calibration, exact.calibration), (found.ranking, exact.ranking)):
            assert np.abs(single - double[0, 0].numpy()).max() < 1e-5

    @pytest.mark.parametrize("piece", [1, 20000])
    def test_slabs_of_an_interpolated_grid_equal_the_whole(
        self, piece: int, network: SegWithU, stitched: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        working = sitk.Image(*SHAPE[::-1], sitk.sitkFloat32)
        target = sitk.Image(20, 30, 17, sitk.sitkFloat32)
        target.SetSpacing((1.4, 1.2, 1.3))
        target.SetOrigin((0.3, -0.2, 0.4))
        engine = TorchEngine(network)
        whole, maps = resample_to_grid(stitched, working, target), maps_on_grid(engine, stitched, working, target)
        monkeypatch.setattr(grid_blocks, "PIECE_VALUES", piece)
        np.testing.assert_allclose(resample_to_grid(stitched, working, target), whole, atol=1e-6)
        parts = maps_on_grid(engine, stitched, working, target)
        np.testing.assert_array_equal(parts.classes, maps.classes)
        np.testing.assert_allclose(parts.ranking, maps.ranking, atol=1e-5)
        np.testing.assert_allclose(parts.sums.expected, maps.sums.expected, rtol=1e-6)

    def test_interpolated_logits_are_linear_between_voxels(self, stitched: np.ndarray) -> None:
        working = sitk.Image(*SHAPE[::-1], sitk.sitkFloat32)
        target = sitk.Image(SHAPE[2] - 1, SHAPE[1], SHAPE[0], sitk.sitkFloat32)
        target.SetOrigin((0.25, 0.0, 0.0))
        expected = 0.75 * stitched[..., :-1] + 0.25 * stitched[..., 1:]
        np.testing.assert_allclose(resample_to_grid(stitched, working, target), expected, atol=1e-5)


@pytest.fixture(scope="module")
def whole_hippocampus_region() -> tuple[Model, sitk.Image]:
    """The shipped model, and a part of the sample larger than its window (70 x 90 x 70 mm)."""
    root = ROOT
    image = read_image(root / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz")
    part = voxel_box(RegionOfInterest((-28.0, -22.0, -14.0), (70.0, 90.0, 70.0)), image).crop(image)
    return Model(resolve_model(str(root / "Resources" / "Models" / "hippocampus")), CPU), part


def test_shipped_model_over_windows_is_compared_with_one_big_pass(
    whole_hippocampus_region: tuple[Model, sitk.Image], record_property: Record
) -> None:
    """A region four times as large as any training case: InstanceNorm sees each window on its own.

    Nothing like it was trained, so the two results have little in common; the figures are for the report, the bounds
    only say that most of the region is background either way.
    """
    model, image = whole_hippocampus_region
    seen: list[float] = []
    windowed, notes = segment_images([image], model, lambda stage, done, detail="": seen.append(done))
    assert not notes
    assert seen == sorted(seen)
    figures = differences(windowed, in_one_pass(model, image, (72, 96, 72)))
    report("70 x 90 x 70 mm of the sample", figures, record_property)
    assert figures["voxels of another class"] < 0.06
    assert figures["mean error probability difference"] < 0.05


def test_small_windows_stay_near_one_pass_on_a_training_crop(
    whole_hippocampus_region: tuple[Model, sitk.Image], data_folder: Path, record_property: Record
) -> None:
    model, _ = whole_hippocampus_region
    image = read_image(data_folder / "hippocampus" / "images" / "hippocampus_075.nii.gz")
    array, working = network_input([image], model.bundle.input)
    output = stitched_output(model.engine, array, (32, 48, 32))
    assert WindowPlan.overlapping(array.shape[1:], (32, 48, 32)).count > 1
    windowed = maps_on_grid(model.engine, output, working, image, model.fitted)
    single = in_one_pass(model, image, (48, 64, 48))
    figures = differences(windowed, single)
    truth = sitk.GetArrayFromImage(read_labels(data_folder / "hippocampus" / "labels" / "hippocampus_075.nii.gz"))
    for name, maps in {"windows": windowed, "one pass": single}.items():
        figures[f"AUROC, {name}"] = auroc(score_groups(maps.ranking, maps.classes != truth))
    report("a 4 cm crop in windows of 32 x 48 x 32", figures, record_property)
    assert figures["voxels of another class"] < 0.01
    assert min(figures["Dice of class 1"], figures["Dice of class 2"]) > 0.9
    assert figures["AUROC, windows"] > figures["AUROC, one pass"] - 0.05


def in_one_pass(model: Model, image: sitk.Image, window: tuple[int, int, int]) -> VoxelMaps:
    array, working = network_input([image], model.bundle.input)
    assert WindowPlan.overlapping(array.shape[1:], window).count == 1
    return maps_on_grid(model.engine, stitched_output(model.engine, array, window), working, image, model.fitted)


def report(what: str, figures: dict[str, float], record_property: Record) -> None:
    for name, value in figures.items():
        record_property(name, value)
    print(f"windows against one pass, {what}:", ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def differences(windowed: VoxelMaps, single: VoxelMaps) -> dict[str, float]:
    """How far apart two results are."""
    assert windowed.error_probability is not None
    assert single.error_probability is not None
    gap = np.abs(windowed.error_probability - single.error_probability)
    dice = class_dice(windowed.classes, single.classes, int(single.classes.max()) + 1)
    return {
        "voxels of another class": float(np.mean(windowed.classes != single.classes)),
        **{f"Dice of class {number}": value for number, value in enumerate(dice, 1)},
        "mean error probability difference": float(gap.mean()),
        "99.9 % quantile": float(np.quantile(gap, 0.999)),
        "rank correlation of ranking maps": float(spearmanr(windowed.ranking, single.ranking, axis=None).statistic),
        "expected wrong mm3, windows": float(windowed.error_probability.sum(dtype=np.float64)),
        "expected wrong mm3, one pass": float(single.error_probability.sum(dtype=np.float64)),
    }


def test_every_map_lies_on_the_same_voxels(whole_hippocampus_region: tuple[Model, sitk.Image]) -> None:
    model, image = whole_hippocampus_region
    small = image[10:40, 10:50, 10:40]
    maps, _ = segment_images([small], model)
    values = [getattr(maps, field.name) for field in fields(maps) if field.name != "sums"]
    arrays = [array for array in values if array is not None]  # a bundle may lack what is fitted
    assert len(arrays) >= 5
    assert {array.shape for array in arrays} == {small.GetSize()[::-1]}
    assert sum(maps.sums.expected) == pytest.approx(maps.classes.size, rel=1e-6)


def test_a_model_may_run_in_bfloat16_and_says_so_in_its_input(
    whole_hippocampus_region: tuple[Model, sitk.Image], data_folder: Path, record_property: Record
) -> None:
    model, _ = whole_hippocampus_region
    spec = replace(model.bundle.input, precision="bfloat16")
    assert InputSpec.from_json(spec.to_json()) == spec
    assert "precision" not in model.bundle.input.to_json()
    image = read_image(data_folder / "hippocampus" / "images" / "hippocampus_075.nii.gz")
    array, working = network_input([image], model.bundle.input)
    runners = (TorchEngine(model.network, CPU, asked.precision) for asked in (spec, model.bundle.input))
    halves, floats = (stitched(runner, array, spec) for runner in runners)
    assert halves.dtype == np.float32 and not np.array_equal(halves, floats)
    found, expected = (maps_on_grid(model.engine, part, working, image, model.fitted) for part in (halves, floats))
    differing = float((found.classes != expected.classes).mean())
    record_property("voxels of another class in bfloat16", differing)
    assert differing < 2e-3
    assert abs(found.error_probability - expected.error_probability).mean() < 1e-3
