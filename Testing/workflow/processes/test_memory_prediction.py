"""Memory of a run: predicted from headers, refused before anything is allocated, and never much below what is used."""

import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from exchanged_cases import CASES
from repository import BENCHMARKS
from segwithu_command import MODEL, SAMPLE, SAMPLE_ROI, Command, changed_description, one_sentence, tiny_bundle
from worker_parent import request_of

from SegWithUCore.case.case_regions import whole_image
from SegWithUCore.inference import segment
from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.memory_prediction import RunMemory, check_regions_fit, memory_from_headers, run_memory
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import assessed_box, to_working_grid
from SegWithUCore.inference.segment import compute_case
from SegWithUCore.inference.uncertainty_maps import voxelwise
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.inputs import channel_header
from SegWithUCore.io.roi import RegionOfInterest, VoxelBox, voxel_box, whole_grid
from SegWithUCore.io.volume import Header, read_image
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.bundle_network import load_network
from SegWithUCore.models.input_spec import NnunetPreparation, Normalisation
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util import memory as available_memory
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.failures import failure_message
from SegWithUCore.util.memory import NotEnoughMemoryError
from SegWithUCore.worker.jobs import JobRunner
from SegWithUCore.worker.protocol import Request

OBLIQUE = [0, 0.1, 0.995, -1, 0, 0, 0, -0.995, 0.1]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes are said to be free."""
    return lambda size: monkeypatch.setattr(available_memory, "available_bytes", lambda: size)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(resolve_model("hippocampus"), torch.device("cpu"))


def cube(edge: int) -> VoxelGrid:
    return VoxelGrid((edge,) * 3, (1.0,) * 3, (0.0,) * 3, (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))


def huge(folder: Path, edge: int, kind: str = "int16") -> Path:
    """An MHA file of that edge whose voxels are holes in the file."""
    path, size = folder / "huge.mha", edge**3 * np.dtype(kind).itemsize
    names = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float64": "MET_DOUBLE"}
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += ["TransformMatrix = -1 0 0 0 -1 0 0 0 1", "Offset = 0 0 0", "ElementSpacing = 1 1 1"]
    lines += [f"DimSize = {edge} {edge} {edge}", f"ElementType = {names[kind]}", "ElementDataFile = LOCAL", ""]
    with path.open("wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        file.truncate(file.tell() + size)
    return path


class TestHeaders:
    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
    @pytest.mark.parametrize(("kind", "size"), [(sitk.sitkUInt8, 1), (sitk.sitkInt16, 2), (sitk.sitkFloat64, 8)])
    def test_grid_and_voxel_type_are_those_that_reading_gives(
        self, tmp_path: Path, name: str, kind: int, size: int
    ) -> None:
        array = np.arange(24.0).reshape(2, 3, 4)
        image = sitk.Cast(sitk.GetImageFromArray(array), kind)
        image.SetSpacing((0.5, 1.5, 2))
        sitk.WriteImage(image, str(tmp_path / name))
        found = channel_header(tmp_path / name)
        assert (found.grid, found.voxel_bytes) == (VoxelGrid.of(read_image(tmp_path / name)), size)

    def test_a_series_is_as_large_as_its_slices(self, dicom_cases: Path) -> None:
        from SegWithUCore.io.dicom_series import read_series

        folder = dicom_cases / "series" / "oblique"
        found = channel_header(folder)
        assert found.grid is not None
        assert not found.grid.placed
        assert found.grid.size == read_series(folder).image.GetSize()

    def test_what_is_no_image_is_refused(self, tmp_path: Path) -> None:
        for name in ("text.nii.gz", "text.png"):
            (tmp_path / name).write_text("no image")
            with pytest.raises(InputError, match="the format is unknown"):
                channel_header(tmp_path / name)
        with pytest.raises(InputError, match="holds no DICOM slices"):
            channel_header(tmp_path)


class TestGridsWithoutVoxels:
    @pytest.fixture
    def image(self) -> sitk.Image:
        image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(9, 22, 31)).astype(np.float32))
        image.SetSpacing([0.7, 1.3, 3.1])
        image.SetOrigin([1.25, -7 / 3, 11])
        image.SetDirection(OBLIQUE)
        return image

    def test_box_and_its_grid_are_those_of_the_image(self, image: sitk.Image) -> None:
        grid, middle = VoxelGrid.of(image), image.TransformContinuousIndexToPhysicalPoint([15, 10, 4])
        region = RegionOfInterest((-middle[0], -middle[1], middle[2]), (6, 8, 7))
        box = voxel_box(region, grid)
        assert box == voxel_box(region, image) and box != whole_grid(grid)
        assert box.crop_grid(grid) == VoxelGrid.of(box.crop(image))

    def test_axes_turn_as_those_of_the_image(self, image: sitk.Image) -> None:
        spec = replace(resolve_model("hippocampus").input, spacing_mm=None)
        turned = VoxelGrid.of(image).axes_after(lambda one: to_working_grid(one, spec))
        expected = VoxelGrid.of(to_working_grid(image, spec))
        assert (turned.size, turned.spacing, turned.direction) == (expected.size, expected.spacing, expected.direction)

    @pytest.mark.parametrize(("kind", "outside"), [(np.float32, -7.0), (np.uint8, 0), (np.int16, 0), (np.uint32, 0)])
    def test_a_part_in_its_whole_grid_has_the_same_voxels_and_place(
        self, image: sitk.Image, kind: type, outside: float
    ) -> None:
        box = VoxelBox((3, 5, 2), (7, 11, 4))
        part = np.random.default_rng(0).integers(1, 90, (4, 11, 7)).astype(kind)
        expected = np.full(image.GetSize()[::-1], outside, kind)
        expected[box.slices_zyx] = part
        found = whole_image(part, box, VoxelGrid.of(image), outside)
        assert np.array_equal(sitk.GetArrayFromImage(found), expected)
        assert sitk.GetArrayFromImage(found).dtype == kind
        assert VoxelGrid.of(found) == VoxelGrid.of(image)


class TestLessMemoryGivesTheSame:
    def test_maps_of_turned_axes(self, model: Model) -> None:
        channels = model.engine.num_classes + model.engine.response_channels
        stitched = np.random.default_rng(0).normal(size=(channels, 40, 52, 37)).astype(np.float32)
        for turned in (stitched.transpose(0, 2, 3, 1)[:, :, ::-1], stitched[:, :, :, ::-1], stitched[:, :1, ::-1]):
            found, expected = (voxelwise(model.engine, array) for array in (turned, np.ascontiguousarray(turned)))
            for name in ("classes", "runner_up", "calibration", "ranking", "epistemic", "aleatoric"):
                assert np.array_equal(getattr(found, name), getattr(expected, name)), name
            assert np.array_equal(found.sums.ambiguous, expected.sums.ambiguous)

    @pytest.mark.parametrize("kind", ["volume", "fixed", "range", "none"])
    def test_normalising(self, kind: str) -> None:
        how = Normalisation(kind, 1.0, 98.0, 13.0, 7.0)
        array = np.random.default_rng(0).normal(50, 30, (12, 13, 14)).astype(np.float32)
        values, before = array.astype(np.float64), array.copy()
        low, high = (1.0, 98.0) if kind == "fixed" else np.percentile(values, [1.0, 98.0])
        clipped = np.clip(values, low, high)
        expected = {
            "volume": (clipped - clipped.mean()) / clipped.std(),
            "fixed": (clipped - 13.0) / 7.0,
            "range": (values - low) / (high - low),
            "none": values,
        }[kind]
        assert np.array_equal(how(array), expected.astype(np.float32))
        assert np.array_equal(array, before)

    def test_the_box_of_nonzero_voxels(self) -> None:
        spec = replace(resolve_model("hippocampus").input, nnunet=NnunetPreparation())
        images = [np.zeros((6, 7, 8), np.float32) for _ in range(2)]
        images[0][1, 2, 3] = images[1][4, 3, 6] = 1
        channels = [sitk.GetImageFromArray(array) for array in images]
        assert assessed_box(channels, spec) == VoxelBox((3, 2, 1), (4, 2, 4))
        assert assessed_box([channels[0] * 0], spec) == VoxelBox((0, 0, 0), (8, 7, 6))


class TestPrediction:
    def test_it_grows_with_what_a_run_depends_on(self, model: Model) -> None:
        def memory(edge: int, part: int, **options: Any) -> RunMemory:
            return run_memory(cube(edge), cube(part), model, **options)

        small, ways = memory(64, 64), {"stored_bytes": 8, "include_image": True}
        larger = [memory(500, 64), memory(128, 128), *(memory(64, 64, **{way: ways[way]}) for way in ways)]
        for large in larger:
            assert all(large.stages[stage] >= small.stages[stage] for stage in small.stages)
            assert sum(large.stages.values()) > sum(small.stages.values())
        assert memory(400, 400, on_disk=False).needed > memory(400, 400).needed
        assert max(larger[0].stages, key=larger[0].stages.__getitem__) == "reading"

    def test_a_whole_grid_counts_although_a_small_part_is_segmented(self, model: Model) -> None:
        whole = cube(700)
        memory = memory_from_headers(
            [Header(whole, 2)], RegionOfInterest((300.0, 300.0, 300.0), (40.0, 50.0, 40.0)), model
        )
        assert memory is not None
        assert memory.needed > 700**3 * 6
        assert "crop the image" in memory.remedies[0]

    @pytest.mark.slow
    @pytest.mark.serial
    @pytest.mark.skipif(sys.platform != "linux", reason="measures as Linux shows it")
    @pytest.mark.parametrize(
        ("shape", "least", "most"),
        [
            ("300^3 float64 .nrrd, small region, image kept", 0.8, 1.5),
            ("96^3 int16, whole", 0.8, 1.5),
            ("the sample, model brain", 0.85, 1.15),
        ],
        ids=["region", "whole", "brain"],
    )
    def test_it_is_not_below_what_a_run_uses(
        self, shape: str, least: float, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        record_property: Any,
    ) -> None:  # fmt: skip
        """Three of the shapes in Testing/Benchmarks/results/memory_prediction.md."""
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        import memory_prediction

        row = memory_prediction.measured(memory_prediction.SHAPES[shape], tmp_path)
        record_property("memory", row)
        assert least <= row["ratio"] <= most, row

    @pytest.mark.parametrize(("name", "takes_regions"), [("brain", False), ("hippocampus", True)])
    def test_a_model_of_whole_heads_is_told_no_region(self, name: str, takes_regions: bool, free: Any) -> None:
        model = Model(resolve_model(name), engine="openvino")
        remedies = run_memory(cube(180), cube(180), model).remedies
        assert any("region of interest" in remedy for remedy in remedies) is takes_regions
        free(6 * 10**7)
        with pytest.raises(NotEnoughMemoryError) as error:
            compute_case(Job("head", [SAMPLE], Path("unused")), model)
        assert ("region of interest" in failure_message(error.value)) is takes_regions

    def test_a_head_whose_boxes_are_placed_stays_in_memory(self, model: Model) -> None:
        """It is read before its boxes are found, and kept until the last one is segmented."""
        found: list[RunMemory] = []
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(RunMemory, "check", lambda memory, _file: found.append(memory))
            patch.setattr(segment, "segment_images", interrupted)
            compute_case(Job("head", [SAMPLE], Path("unused")), model)
        alone = run_memory(cube(40), cube(40), model)
        assert found[-1].stages["segmenting"] - alone.stages["segmenting"] > 4 * 197 * 233 * 189 - 10**7


class TestRefusal:
    def test_a_large_grid_is_refused_before_it_is_read(self, segwithu: Command, tmp_path: Path, free: Any) -> None:
        free(3 * 10**9)
        image = huge(tmp_path, 1500)
        outcome = segwithu.segment(image, "--roi=700,700,700,40,50,40", output=tmp_path / "out")
        sentence = one_sentence(outcome, str(image), "1500 x 1500 x 1500 voxels needs about 27 GB", "3.0 GB are free")
        assert "crop the image" in sentence
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())

    def test_a_whole_image_is_told_to_give_a_region(
        self, segwithu: Command, tiny: Path, tmp_path: Path, free: Any
    ) -> None:
        free(3 * 10**8)
        outcome = segwithu.segment(SAMPLE, model=tiny, output=tmp_path / "out")
        one_sentence(outcome, str(SAMPLE), "give a region of interest with --roi")

    def test_a_case_that_does_not_fit_is_a_row_and_the_next_goes_on(
        self, segwithu: Command, tmp_path: Path, free: Any, data_folder: Path
    ) -> None:
        free(3 * 10**9)
        image = data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"
        outcome = segwithu.segment(huge(tmp_path, 1500), image, "--resume", output=tmp_path / "out")
        assert outcome.code == 1
        with (tmp_path / "out" / "failed.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["case"] for row in rows] == ["huge"]
        assert "3.0 GB are free" in rows[0]["reason"]
        assert (tmp_path / "out" / CASES[0] / "case.json").is_file()

    def test_the_worker_refuses_without_words_of_the_command_line(self, tmp_path: Path, free: Any) -> None:
        free(3 * 10**9)
        job = {"name": "huge", "target": str(tmp_path / "case"), "files": [str(huge(tmp_path, 1500))]}
        roi = [700, 700, 700, 40, 40, 40]
        with pytest.raises(NotEnoughMemoryError) as caught:
            JobRunner().answer(request("segment", model="hippocampus", device="cpu", **job, roi=roi), quiet)
        assert "--" not in caught.value.message and str(tmp_path) not in caught.value.message

    def test_more_uncertain_voxels_than_fit_are_refused(self, tmp_path: Path, free: Any) -> None:
        bundle = resolve_model("hippocampus")
        free(10**8)
        check_regions_fit(None, tmp_path, bundle)
        check_regions_fit(np.full((10, 100, 100), 0.9, np.float32), tmp_path, bundle)
        with pytest.raises(NotEnoughMemoryError, match=r"inding regions among 1000000 uncertain.*310 MB"):
            check_regions_fit(np.full((100, 100, 100), 0.9, np.float32), tmp_path, bundle)

    @pytest.mark.parametrize(
        ("place", "value", "words"),
        [
            ("heads/0/feature_channels", 10**7, "of weights"),
        ],
    )
    def test_an_absurd_network_is_refused_before_it_is_built(
        self, tmp_path: Path, place: str, value: object, words: str
    ) -> None:
        folder = tiny_bundle(tmp_path / "model")
        changed_description(folder, place, value)
        try:
            bundle = read_bundle(folder)
        except InputError as error:  # the bundle's own check may be stricter
            assert str(folder) in str(error)
            return
        with pytest.raises(NotEnoughMemoryError, match="are free: take a smaller model") as caught:
            load_network(bundle)
        assert words in str(caught.value) and str(folder) in str(caught.value)

    def test_shipped_model_fits_and_runs_where_nothing_is_known(
        self, segwithu: Command, tmp_path: Path, free: Any
    ) -> None:
        free(None)
        assert segwithu.segment(SAMPLE, SAMPLE_ROI, output=tmp_path, model=MODEL).code == 0


def request(kind: str, **fields: Any) -> Request:
    return Request.of(request_of(kind, **fields))


def interrupted(*_arguments: object) -> NoReturn:
    raise KeyboardInterrupt


def quiet(_stage: str, _fraction: float, _detail: str = "") -> None:
    """Nobody listens."""
