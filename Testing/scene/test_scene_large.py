"""Results of large images: only the first map is loaded, the others when they are chosen; what becomes of the files."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slicer
from loaded_case import LoadedCase, exported_labels, load_volume, loaded_case
from mrml_headless import HeadlessScene, coloured
from written_case import change_case, make_case

from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.review.opening import obstacle
from SegWithUSlicerLib.scene import later_maps, read_case
from SegWithUSlicerLib.scene.case_nodes import CaseNodes
from SegWithUSlicerLib.scene.later_maps import keep_files, load_map, loadable, release_gone
from SegWithUSlicerLib.scene.load_case import load_case, load_case_steps, work_of_case
from SegWithUSlicerLib.scene.overlay import Overlay
from SegWithUSlicerLib.scene.segmentation import content_hash, was_touched
from SegWithUSlicerLib.scene.steps import SteppedTask, finish


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Treat a hippocampus as a large image; what is kept of a test goes at its end."""
    monkeypatch.setattr(read_case, "LATER_ABOVE_VOXELS", 1000)
    yield
    release_gone(None)


class TemporaryFolder:
    """A private folder, as far as it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remove(self) -> bool:
        shutil.rmtree(self.path)
        return True


def _lasting(case: LoadedCase) -> CaseNodes:
    return load_case(case.disk.folder, case.volume, lasting=True)


def test_only_the_first_map_is_loaded_and_everything_else_is_there(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    assert list(case.nodes.maps) == ["error_probability"]
    assert case.nodes.later == ["ranking", "calibration"]
    assert np.array_equal(slicer.util.arrayFromVolume(case.nodes.maps["error_probability"]), case.disk.error)
    assert np.array_equal(exported_labels(case), case.disk.labels)
    assert obstacle(case.nodes) == ""
    assert not was_touched(case.nodes.segmentation)


def test_steps_touch_the_scene_in_the_last_one_only(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, regions=True)
    volume = load_volume(headless.scene, disk.image, "x")
    before = headless.scene.GetNumberOfNodes()
    task = SteppedTask(load_case_steps(disk.folder, volume), work_of_case(disk.folder, volume))
    fractions = []
    while not task.run(0.0):
        assert headless.scene.GetNumberOfNodes() == before
        fractions.append(task.fraction)
    assert len(fractions) >= 5
    assert fractions == sorted(fractions)
    assert 0.5 < fractions[-1] <= 1
    assert task.result.segmentation is not None


def test_given_up_in_the_middle_everything_is_as_it_was(tmp_path, data_folder):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, regions=True)
    volume = load_volume(headless.scene, disk.image, "x")
    before = headless.scene.GetNumberOfNodes()
    for after in (1, 3, 5):
        task = SteppedTask(load_case_steps(disk.folder, volume), 1)
        for _ in range(after):
            assert not task.run(0.0)
        task.cancel()
        assert (task.is_over, headless.scene.GetNumberOfNodes()) == (True, before)


def test_results_of_large_and_small_images_are_equal(tmp_path, data_folder, monkeypatch):
    case = loaded_case(tmp_path, data_folder, regions=True, oblique=True, transformed=True)
    nodes = _lasting(case)
    overlay = Overlay(nodes)
    for name in list(overlay.available):
        overlay.show(name)
    overlay.release()
    monkeypatch.setattr(read_case, "LATER_ABOVE_VOXELS", 1 << 24)
    small = load_case(case.disk.folder, case.volume, new=True)
    assert list(small.maps) == list(nodes.maps)
    for name, whole in small.maps.items():
        assert np.array_equal(slicer.util.arrayFromVolume(whole), slicer.util.arrayFromVolume(nodes.maps[name]))
        assert nodes.maps[name].GetTransformNodeID() == case.volume.GetTransformNodeID()
    assert content_hash(small.segmentation) == content_hash(nodes.segmentation)


def test_a_chosen_map_is_read_once_and_drawn(tmp_path, data_folder, monkeypatch):
    case = loaded_case(tmp_path, data_folder)
    nodes = _lasting(case)
    read = []
    steps = later_maps.read_map_steps
    monkeypatch.setattr(later_maps, "read_map_steps", lambda path, *rest: read.append(path.name) or steps(path, *rest))
    overlay = Overlay(nodes)
    assert list(overlay.available) == ["error_probability", "ranking", "calibration"]
    overlay.show("error_probability")
    assert (read, overlay.needs_loading("ranking")) == ([], True)
    for name in ("ranking", "calibration", "ranking"):
        overlay.show(name)
    assert read == ["ranking.nii.gz", "calibration.nii.gz"]
    assert (nodes.later, overlay.needs_loading("ranking")) == ([], False)
    case.focus_on(case.voxel())
    overlay.set_threshold(overlay.window[0])
    assert coloured(case.view.pixels()).sum() > 100
    overlay.release()


def test_damaged_or_exchanged_files_are_one_sentence_and_leave_the_scene(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    nodes = _lasting(case)
    path = case.disk.folder / "ranking.nii.gz"
    whole = path.read_bytes()
    before = case.scene.GetNumberOfNodes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"ranking.nii.gz cannot be read"):
        load_map(nodes, "ranking")
    path.write_bytes(whole)
    change_case(case.disk.folder, created="2027-01-01T00:00:00+00:00")
    with pytest.raises(InputError, match="another run by now"):
        load_map(nodes, "ranking")
    path.unlink()
    assert loadable(nodes) == ["calibration"]
    assert case.scene.GetNumberOfNodes() == before


def test_files_of_a_run_are_kept_until_it_goes(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    private = tmp_path / "private"
    shutil.copytree(case.disk.folder, private / "case")
    shutil.copy(case.disk.image, private / "channel_0.nrrd")
    nodes = load_case(private / "case", case.volume)
    assert keep_files(nodes, TemporaryFolder(private), private / "case")
    left = sorted(path.name for path in private.rglob("*") if path.is_file())
    assert left == ["calibration.nii.gz", "case.json", "ranking.nii.gz"], (
        "no image of a patient, nothing that is loaded"
    )
    assert str(private) not in json.dumps([nodes.hub.GetParameter(name) for name in nodes.hub.GetParameterNames()])
    load_map(nodes, "ranking")
    release_gone(case.scene)
    assert private.is_dir()
    case.scene.Clear(0)
    release_gone(case.scene)
    assert not private.exists()


def test_saved_scene_holds_the_maps_that_were_loaded(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    nodes = _lasting(case)
    load_map(nodes, "ranking")
    scene_file = tmp_path / "scene.mrb"
    assert case.scene.WriteToMRB(str(scene_file))
    case.scene.Clear(0)
    assert case.scene.ReadFromMRB(str(scene_file), True) or True
    loaded = next(found for found in later_maps.find_cases(case.scene) if found.case_folder is not None)
    assert list(loaded.maps) == ["error_probability", "ranking"]
    assert loadable(loaded) == ["calibration"], "the scene refers to the folder of the case"
    load_map(loaded, "calibration")
    assert list(loaded.maps) == ["error_probability", "ranking", "calibration"]


def test_undone_choice_of_a_map_can_be_made_again(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    nodes = _lasting(case)
    case.scene.SetUndoOn()
    case.scene.SaveStateForUndo()
    load_map(nodes, "ranking")
    case.scene.Undo()
    case.scene.SetUndoOff()
    for node in [nodes.maps[name] for name in nodes.maps if name == "ranking"]:
        case.scene.RemoveNode(node)
    assert loadable(nodes) == ["ranking", "calibration"]
    load_map(nodes, "ranking")
    assert "ranking" in nodes.maps


def test_hash_of_a_segmentation_is_computed_again_only_after_a_change(tmp_path, data_folder, monkeypatch):
    case = loaded_case(tmp_path, data_folder)
    from SegWithUSlicerLib.scene import segmentation as module

    asked = []
    steps = module._hash_steps
    monkeypatch.setattr(module, "_hash_steps", lambda entries: asked.append(1) or steps(entries))
    node = case.nodes.segmentation
    before = content_hash(node)
    assert not was_touched(node)
    assert asked == [], "known since it was filled"
    module._hashes.clear()
    assert content_hash(node) == before
    assert asked == [1]
    node.GetSegmentation().GetNthSegment(0).SetName("renamed")
    assert was_touched(node)
    assert asked == [1, 1]


def test_finish_returns_what_the_steps_return():
    def steps():
        yield 1.0
        return "done"

    assert finish(steps()) == "done"
