"""Where a review lies and comes back from: case folder, the user's own folder, scene."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import LoadedCase, loaded_case, paint
from mrml_headless import HeadlessScene
from written_case import change_case

from SegWithUCore.case.case_file import read_description
from SegWithUCore.case.segmentation_file import IMAGE_KEY, check_reviewed, read_reviewed
from SegWithUCore.review.reviewer import version_path
from SegWithUCore.review.session import case_key
from SegWithUCore.util.errors import InputError, OutputError
from SegWithUSlicerLib.review.edits import EditWatch, read_labels
from SegWithUSlicerLib.review.store import (
    keep_log,
    kept_log,
    kept_log_names,
    load_reviewed,
    review_folder,
    save_reviewed,
)
from SegWithUSlicerLib.scene.case_nodes import find_cases
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.review_nodes import regions_hash
from SegWithUSlicerLib.scene.segmentation import content_hash

LOG = '{"when": "2026-11-25T10:00:00+00:00", "reviewer": "Ünal 医師", "comment": "<i>\\"ö\\" & \\t</i>"}\n' * 300
NAME = "review.ana.jsonl"


def _lasting(case: LoadedCase):
    return load_case(case.disk.folder, case.volume, lasting=True)


def test_a_case_that_stays_keeps_its_review_in_its_own_folder(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    settings = tmp_path / "Slicer settings"
    key = case_key(case.nodes.case.raw, regions_hash(case.nodes))
    assert review_folder(case.nodes, settings) == settings / "SegWithU" / "Reviews" / key
    nodes = _lasting(case)
    assert review_folder(nodes, settings) == case.disk.folder
    # Nothing is made by asking.
    assert not settings.exists()


def test_a_folder_that_is_gone_or_was_segmented_anew_is_not_written_to(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    nodes = _lasting(case)
    own = tmp_path / "SegWithU" / "Reviews" / case_key(nodes.case.raw, regions_hash(nodes))
    change_case(case.disk.folder, created="2026-11-26T09:30:00+00:00")
    assert review_folder(nodes, tmp_path) == own
    (case.disk.folder / "case.json").write_text("{")
    assert review_folder(nodes, tmp_path) == own
    shutil.rmtree(case.disk.folder)
    assert review_folder(nodes, tmp_path) == own


def test_a_loaded_bundle_finds_the_folder_again(tmp_path, data_folder):
    case = loaded_case(tmp_path / "Größe 1", data_folder, regions=True)
    nodes = _lasting(case)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (again,) = find_cases(headless.scene)
    assert again.case_folder == nodes.case_folder == case.disk.folder
    assert review_folder(again, tmp_path) == case.disk.folder


def test_the_key_follows_the_hashes_and_nothing_that_names_the_patient(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    raw = dict(read_description(case.disk.folder).raw)
    key = case_key(raw, "a")
    channel = raw["input"]["channels"][0]
    same = [
        {**raw, "name": "Jane Doe", "created": "later", "timings_s": {"all": 3}},
        {**raw, "input": {**raw["input"], "channels": [{**channel, "file": "/home/jane/doe.nii"}]}},
    ]
    other = [
        {**raw, "input": {**raw["input"], "channels": [{**channel, "voxels_sha256": "8" * 64}]}},
        {**raw, "input": {**raw["input"], "channels": [channel, channel]}},
        {**raw, "model": {**raw["model"], "weights_sha256": "9" * 64}},
        {**raw, "model": {**raw["model"], "calibration_sha256": "9" * 64}},
        {**raw, "roi": {"centre_ras_mm": [1, 2, 3], "size_mm": [9, 9, 9]}},
    ]
    assert {case_key(one, "a") for one in same} == {key}
    assert len({key, case_key(raw, "b"), *(case_key(one, "a") for one in other)}) == 7
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_logs_travel_with_the_scene_letter_by_letter(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    names = ["review.Ünal 医師.jsonl", "review.b.jsonl"]
    assert kept_log(case.nodes, names[0]) == ""
    for name in names:
        keep_log(case.nodes, name, "first\n")
        keep_log(case.nodes, name, LOG + name + "\n")
    keep_log(case.nodes, "review.c.jsonl", "")
    count = case.scene.GetNumberOfNodesByClass("vtkMRMLTextNode")
    assert count == 3
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert kept_log_names(nodes) == sorted([*names, "review.c.jsonl"])
    for name in names:
        assert kept_log(nodes, name) == LOG + name + "\n"
    assert kept_log(nodes, "review.c.jsonl") == ""
    keep_log(nodes, names[1], "more\n")
    assert kept_log(nodes, names[1]) == "more\n"
    assert headless.scene.GetNumberOfNodesByClass("vtkMRMLTextNode") == count
    headless.scene.RemoveNode(headless.scene.GetFirstNodeByClass("vtkMRMLTextNode"))
    assert len(kept_log_names(nodes)) == 2


@pytest.mark.parametrize("kind", [{}, {"oblique": True, "transformed": True}], ids=["plain", "oblique+transformed"])
def test_the_reviewed_segmentation_comes_back_with_everything(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, empty_structure=True, **kind)
    segmentation = case.nodes.segmentation.GetSegmentation()
    paint(case, 2, (0, 0, 0))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segmentation.GetSegment("SegWithU_1"), logic.Completed)
    segmentation.AddEmptySegment("lesion", "Läsion")
    path = save_reviewed(case.nodes, case.disk.folder, NAME)
    assert path == version_path(case.disk.folder, NAME)
    assert case.nodes.segmentation.GetStorageNode() is None
    expected, content = read_labels(case.nodes), content_hash(case.nodes.segmentation)
    codes = segmentation.GetSegment("SegWithU_1").GetTerminology()

    headless = HeadlessScene(tmp_path / "again")
    nodes = load_case(case.disk.folder, None, scene=headless.scene)
    assert not np.array_equal(read_labels(nodes), expected)
    watch = EditWatch(nodes, lambda: None)
    assert load_reviewed(nodes, case.disk.folder, NAME)
    assert np.array_equal(read_labels(nodes), expected)
    assert watch.check()
    assert content_hash(nodes.segmentation) == content
    loaded = nodes.segmentation.GetSegmentation()
    assert logic.GetSegmentStatus(loaded.GetSegment("SegWithU_1")) == logic.Completed
    assert loaded.GetSegment("lesion").GetName() == "Läsion"
    assert loaded.GetSegment("SegWithU_1").GetTerminology() == codes
    assert np.array_equal(read_labels(nodes, original=True), case.disk.labels)
    # A second time there is nothing to load.
    assert not load_reviewed(nodes, case.disk.folder, NAME)


def test_a_reviewed_file_is_whole_or_as_it_was(tmp_path, data_folder, monkeypatch):
    case = loaded_case(tmp_path, data_folder)
    paint(case, 1, (0, 0, 0))
    path = save_reviewed(case.nodes, case.disk.folder, NAME)
    before = path.read_bytes()
    paint(case, 1, (0, 0, 1))
    cut, real = [], slicer.vtkMRMLSegmentationStorageNode

    class HalfWriter(real):
        def WriteData(self, node):
            cut.append(real.WriteData(self, node))
            with Path(self.GetFileName()).open("rb+") as file:
                file.truncate(Path(self.GetFileName()).stat().st_size - 20)
            return cut[-1]

    with monkeypatch.context() as patch:
        patch.setattr(slicer, "vtkMRMLSegmentationStorageNode", HalfWriter)
        with pytest.raises(OutputError, match="free some space"):
            save_reviewed(case.nodes, case.disk.folder, NAME)
    assert cut == [1]
    assert path.read_bytes() == before
    assert not list(case.disk.folder.glob(".segwithu*"))
    case.scene.RemoveNode(case.nodes.segmentation)
    with pytest.raises(OutputError, match="was deleted"):
        save_reviewed(case.nodes, case.disk.folder, NAME)
    assert path.read_bytes() == before


def test_a_damaged_reviewed_file_is_named_and_changes_nothing(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    assert not load_reviewed(case.nodes, case.disk.folder, NAME)
    whole = save_reviewed(case.nodes, case.disk.folder, NAME).read_bytes()
    assert not load_reviewed(case.nodes, case.disk.folder, NAME)
    flipped = bytearray(whole)
    flipped[-30] ^= 0xFF
    # Slicer's own reader would end the application on some of these.
    for damaged in (
        b"",
        b"NRRD0004\nnonsense",
        b"\0" * 5000,
        whole[:300],
        whole[:-1],
        whole[: len(whole) // 2],
        flipped,
    ):
        (version_path(case.disk.folder, NAME)).write_bytes(damaged)
        with pytest.raises(InputError, match=r"segmentation_reviewed\.ana\.seg\.nrrd"):
            load_reviewed(case.nodes, case.disk.folder, NAME)
    assert np.array_equal(read_labels(case.nodes), case.disk.labels)


def test_a_reviewed_file_of_another_image_or_place_is_refused_and_changes_nothing(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True)
    paint(case, 2, (0, 0, 0))
    path = save_reviewed(case.nodes, case.disk.folder, NAME)
    assert check_reviewed(path, case.disk.folder, case.nodes.case.raw) == ""
    nodes = load_case(case.disk.folder, None, scene=HeadlessScene(tmp_path / "again").scene)
    image = sitk.ReadImage(str(path))
    origin, voxels = image.GetOrigin(), image.GetMetaData(IMAGE_KEY)
    for error_code, moved, of_image in (("another-place", 40, voxels), ("other-image", 0, "1" * 64)):
        image.SetOrigin([origin[0] + moved, *origin[1:]])
        image.SetMetaData(IMAGE_KEY, of_image)
        sitk.WriteImage(image, str(path))
        with pytest.raises(InputError) as caught:
            load_reviewed(nodes, case.disk.folder, NAME)
        assert caught.value.code == error_code
        assert np.array_equal(read_labels(nodes), case.disk.labels)


def test_what_slicer_writes_of_an_emptied_segmentation_is_an_empty_version(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, oblique=True)
    segmentation = case.nodes.segmentation.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        segmentation.GetNthSegment(number).GetRepresentation("Binary labelmap").Initialize()
    path = save_reviewed(case.nodes, case.disk.folder, NAME)
    labels, note = read_reviewed(path, sitk.ReadImage(str(case.disk.image)), case.nodes.case.raw)
    assert note == ""
    assert not labels.any()
