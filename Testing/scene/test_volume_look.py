"""How the voxels look that a run would see: what the window sends to the worker instead of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import loaded_case

from SegWithUCore.inference.image_features import image_features
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.run.model_store import find_model
from SegWithUSlicerLib.run.preview import PreflightCheck, PreflightResult
from SegWithUSlicerLib.scene.volume_export import image_features_of, propose_roi, read_roi


class Asked:
    """Stands for the worker: keeps the requests, and what answers them."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    def submit(self, request: dict[str, Any], on_event: Any) -> int:
        self.requests.append(request)
        self.answers.append(on_event)
        return len(self.requests)


@pytest.mark.parametrize("kind", [{}, {"oblique": True}, {"oblique": True, "transformed": True}], ids=str)
def test_the_whole_volume_looks_as_its_file_does(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, **kind)
    found = image_features_of(case.volume, None)
    expected = image_features(sitk.GetArrayFromImage(read_image(case.disk.image)))
    assert found.noise == pytest.approx(expected.noise, rel=1e-5)
    np.testing.assert_allclose(found.cells, expected.cells, atol=1e-6)


@pytest.mark.parametrize("size", [(21, 24, 20), (21.5, 25, 18.2)])
@pytest.mark.parametrize("kind", [{}, {"oblique": True}], ids=str)
def test_the_part_inside_a_region_looks_as_the_engine_crops_it(tmp_path, data_folder, kind, size):
    case = loaded_case(tmp_path, data_folder, **kind)
    roi = propose_roi(case.volume, None, size)
    box = read_roi(roi, case.volume)
    image = read_image(case.disk.image)
    expected = image_features(sitk.GetArrayFromImage(voxel_box(RegionOfInterest(box[:3], box[3:]), image).crop(image)))
    found = image_features_of(case.volume, box)
    np.testing.assert_allclose(found.quantiles, expected.quantiles, atol=1e-6)
    np.testing.assert_allclose(found.cells, expected.cells, atol=1e-6)


def test_a_volume_without_voxels_has_no_look(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    empty = slicer.vtkMRMLScalarVolumeNode()
    assert image_features_of(empty, None) is None
    with pytest.raises(InputError) as refused:
        image_features_of(case.volume, (1e4, 1e4, 1e4, 10.0, 10.0, 10.0))
    assert refused.value.code == "outside-image"


def test_the_preview_sends_the_look_and_tells_notes_apart_from_warnings(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), []
    preview = PreflightCheck(asked, told.append)
    preview.ask(case.volume, None, find_model("hippocampus"))
    (request,) = asked.requests
    assert request["request"] == "ood_check"
    assert request["features"]["T1"]["noise"] == image_features_of(case.volume, None).noise
    note, warning = {"severity": "note", "message": "Smooth."}, {"severity": "warning", "message": "Turned."}
    note["kind"], warning["kind"] = "noise", "picture"
    asked.answers[0]({"event": "ood_checked", "deviations": [note, warning]})
    assert told[-1] == PreflightResult(("Turned.",), False, ("Smooth.",), kinds=frozenset({"picture"}))
    preview.reset()
    asked.answers[0]({"event": "ood_checked", "deviations": [warning]})
    assert told[-1] == PreflightResult(), "an answer that comes too late"


def test_what_keeps_an_image_from_being_compared_is_told_unless_the_run_will_install_it(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), []
    preview = PreflightCheck(asked, told.append)
    preview.ask(case.volume, None, find_model("hippocampus"))
    asked.answers[0]({"event": "error", "kind": "input", "text": "The model is damaged."})
    assert told[-1].trouble == "The model is damaged."
    asked.answers[0]({"event": "error", "kind": "missing", "text": "scipy is missing."})
    assert told[-1] == PreflightResult()


def test_an_image_is_like_the_training_images_only_if_it_was_compared_with_them(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), [PreflightResult()]
    preview, model = PreflightCheck(asked, told.append), find_model("hippocampus")
    for known in (True, False):
        preview.ask(case.volume, None, replace(model, knows_images=known))
        asked.answers[-1]({"event": "ood_checked", "deviations": []})
        assert told[-1].is_like == known
    preview.ask(case.volume, None, model)
    asked.answers[-1]({"event": "ood_checked", "deviations": [{"severity": "note", "message": "x", "kind": "noise"}]})
    assert not told[-1].is_like
