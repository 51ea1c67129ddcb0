"""How the voxels look that a run would see: what the window sends to the worker instead of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from loaded_case import loaded_case

from SegWithUCore.inference.image_features import image_features
from SegWithUCore.io.roi import RegionOfInterest, voxel_box
from SegWithUCore.io.volume import read_image
from SegWithUSlicerLib.run.models import find_model
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
    note["kind"], warning["kind"] = "noise", "picture"
    asked.answers[0]({"event": "fingerprinted", "deviations": [note, warning]})
    kinds = frozenset({"picture"})
    assert told[-1] == PreflightResult(told[-1].cost, ("Turned.",), False, ("Smooth.",), kinds=kinds, others=())
    asked.answers[1]({"event": "predicted", "memory_mb": 900, "device": "cpu"})
    assert (told[-1].warnings, told[-1].notes) == (("Turned.",), ("Smooth.",))
    assert told[-1].cost == "About 0.9 GB of memory on CPU"
    sentence = "The image of 9 x 9 x 9 voxels needs about 5.0 GB of memory."
    asked.answers[1]({"event": "predicted", "memory_mb": 900, "not_enough_memory": sentence})
    assert told[-1].cost == sentence


def test_an_image_is_like_the_training_images_only_if_it_was_compared_with_them(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), []
    preview, model = PreflightCheck(asked, told.append), find_model("hippocampus")
    for known in (True, False):
        preview.ask(case.volume, None, replace(model, knows_images=known), "cpu")
        asked.answers[-2]({"event": "fingerprinted", "deviations": []})
        assert (told[-1].is_like, told[-1].fits) == (known, True)
    preview.ask(case.volume, None, model, "cpu")
    asked.answers[-2](
        {"event": "fingerprinted", "deviations": [{"severity": "note", "sentence": "x", "kind": "noise"}]}
    )
    assert (told[-1].is_like, told[-1].fits) == (False, True)


def test_other_models_are_asked_about_an_image_that_does_not_fit(tmp_path, data_folder):
    case, asked, told = loaded_case(tmp_path, data_folder), Asked(), []
    model = find_model("hippocampus")
    one, two = (replace(model, name=name, folder=model.folder.parent / name) for name in ("heart", "liver"))
    several, blind = replace(one, name="b", channels=("T1", "T2")), replace(one, name="c", knows_images=False)
    preview = PreflightCheck(asked, told.append)
    preview.ask(case.volume, None, model, "cpu", "", [model, one, several, two, blind])
    assert len(asked.requests) == 2
    refused = {"event": "fingerprinted", "deviations": [{"severity": "refused", "sentence": "x", "kind": "empty"}]}
    asked.answers[0](refused)
    assert told[-1].others is None, "not known yet"
    assert [Path(request["model"]).name for request in asked.requests[2:]] == ["heart", "liver"]
    asked.answers[2](refused)
    asked.answers[3]({"event": "fingerprinted", "deviations": []})
    assert told[-1].others == ("liver",)
    assert (told[-1].refused, told[-1].warnings) == (True, ("x",)), "of the chosen model"
    preview.reset()
    asked.answers[3]({"event": "fingerprinted", "deviations": []})
    assert told[-1] == PreflightResult(), "an answer that comes too late"
