"""How the voxels look that a run would see: what the window sends to the worker instead of them."""

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import loaded_case

from SegWithUCore.imaging.roi import RegionOfInterest, voxel_box
from SegWithUCore.imaging.volume import read_image
from SegWithUCore.inference.image_features import image_features
from SegWithUSlicerLib.run.models import find_model
from SegWithUSlicerLib.run.preview import PreflightCheck, PreflightResult
from SegWithUSlicerLib.scene.load_case import propose_roi, read_roi
from SegWithUSlicerLib.scene.volume_export import image_features_of


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


@pytest.mark.parametrize("size", [(20, 24, 18), (21.5, 25, 18.2)])
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
    assert image_features_of(case.volume, (1e4, 1e4, 1e4, 10.0, 10.0, 10.0)) is None


def test_the_preview_sends_the_look_and_tells_notes_apart_from_warnings(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), []
    preview = PreflightCheck(asked, told.append)
    preview.ask(case.volume, None, find_model("hippocampus"), "cpu")
    request = asked.requests[0]
    assert request["request"] == "fingerprint"
    assert request["features"]["T1"]["noise"] == image_features_of(case.volume, None).noise
    note, warning = {"severity": "note", "sentence": "Smooth."}, {"severity": "warning", "sentence": "Turned."}
    asked.answers[0]({"event": "fingerprinted", "deviations": [note, warning]})
    assert told[-1] == PreflightResult(told[-1].cost, ("Turned.",), False, ("Smooth.",))
    asked.answers[1]({"event": "predicted", "seconds": 3, "memory_mb": 900, "device": "cpu"})
    assert (told[-1].warnings, told[-1].notes) == (("Turned.",), ("Smooth.",))
    assert told[-1].cost.startswith("About 3 s")
    sentence = "The image of 9 x 9 x 9 voxels needs about 5.0 GB of memory."
    asked.answers[1]({"event": "predicted", "seconds": 3, "memory_mb": 900, "not_enough_memory": sentence})
    assert told[-1].cost == sentence
