"""The list of cases through the panel: opened, filtered; a click opens a case and its review goes on."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from counting import calls_of
from listed_cases import CASES, Listing, judged, segwithu
from opened_module import Opened

from SegWithUSlicerLib.run import session
from SegWithUSlicerLib.scene import steps
from SegWithUSlicerLib.scene.case_nodes import find_cases


def _all_regions(listing: Listing, name: str) -> dict:
    from SegWithUCore.case.region_files import read_regions
    from SegWithUCore.review.log_format import Verdict

    return dict.fromkeys(range(1, len(read_regions(listing.cases / name)) + 1), Verdict.ACCEPTED)


def _flagged_worklist(listing: Listing) -> tuple[Path, float]:
    """A worklist whose limit flags the one case with the largest share, of a structure or the whole; the limit."""
    from exchanged_cases import limited

    from SegWithUCore.case.case_file import read_case
    from SegWithUCore.review.flags import metrics_of_case, structures_of, wrong_share

    cases = [read_case(listing.cases / name) for name in CASES]
    shares = sorted(max(metrics_of_case(case)["wrong_share"], *map(wrong_share, structures_of(case))) for case in cases)
    limit = round((shares[-1] + shares[-2]) / 2, 4)
    for name in CASES:
        limited(listing.cases / name, wrong_share=limit)
    segwithu("worklist", listing.cases, "--output", listing.home)
    return listing.home / "worklist.json", limit


def test_a_folder_is_listed_worst_first(listing: Listing) -> None:
    from SegWithUCore.case.case_folders import case_folders
    from SegWithUCore.review.worklist import make_worklist

    listing.list_folder()
    entries = make_worklist(case_folders([listing.cases])).entries
    assert listing.shown == [entry.name for entry in entries]
    for entry in entries:
        told = tuple(listing.cell(entry.name, column) for column in range(1, 8))
        assert entry.status is not None and told[1] == entry.status.level
        assert told[2:] == (
            entry.status.reason if entry.is_flagged else "",
            f"{entry.metrics['wrong_share'] * 100:.0f} %",
            str(entry.regions),
            f"{entry.minutes:.1f}",
            entry.worst_structure,
        )
        assert told[0] == "not started"
    look = sum(bool(entry.flags) for entry in entries)
    counts = f"0 do not use, {look} look at it, {3 - look} not flagged"
    assert listing.ui.casesLabel.text.startswith(f"3 cases: {counts}; 3 open for you; ")


def test_a_worklist_keeps_its_order_and_its_limits(listing: Listing) -> None:
    path, _limit = _flagged_worklist(listing)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cases"].reverse()
    path.write_text(json.dumps(content), encoding="utf-8")
    listing.list_file(path)
    assert listing.shown == [row["case"] for row in content["cases"]]
    flags = {row["case"]: row["flags"] for row in content["cases"]}
    assert {name: listing.cell(name, 2) for name in CASES} == {
        name: "look at it" if flags[name] else "not flagged" for name in CASES
    }
    (flagged,) = [name for name in CASES if flags[name]]
    listing.select(flagged)
    assert flags[flagged][0]["message"].replace("mm3", "mm³") in listing.ui.caseLabel.text


def test_filters_show_only_what_is_asked_for(listing: Listing) -> None:
    path, _limit = _flagged_worklist(listing)
    judged(listing.cases / CASES[1], "Ana", _all_regions(listing, CASES[1]))
    listing.ui.reviewerEdit.text = "Ana"
    listing.list_file(path)
    ui, whole = listing.ui, set(CASES)
    ui.caseFilterEdit.text = "HIPPOCAMPUS 319"
    listing.settled()
    assert listing.shown == [CASES[1]]
    assert ui.casesLabel.text.startswith("1 of 3 cases")
    ui.caseFilterEdit.text = ""
    listing.settled()
    assert set(listing.shown) == whole
    ui.onlyFlaggedBox.checked = True
    flagged = listing.shown
    assert [listing.cell(name, 2) for name in flagged] == ["look at it"]
    ui.onlyFlaggedBox.checked, ui.onlyOpenBox.checked = False, True
    assert set(listing.shown) == whole - {CASES[1]}
    ui.reviewerEdit.text = "Bo"
    listing.settled()
    assert set(listing.shown) == whole


def _write_mgz(image: sitk.Image, path: Path) -> None:
    """Write an image as FreeSurfer does; where it lies is not looked at here."""
    size, axes = image.GetSize(), np.diag([-1.0, -1.0, 1.0]) @ np.reshape(image.GetDirection(), (3, 3))
    header = struct.pack(">7ih15f", 1, *size, 1, 3, 0, 1, *image.GetSpacing(), *axes.T.ravel(), 0, 0, 0)
    voxels = sitk.GetArrayFromImage(image).astype(">f4").tobytes()
    path.write_bytes(gzip.compress(header.ljust(284, b"\0") + voxels))


def test_a_case_of_a_freesurfer_volume_opens_with_its_image(listing: Listing, tmp_path: Path) -> None:
    image = sitk.ReadImage(str(listing.home / "images" / f"{CASES[0]}.nii.gz"), sitk.sitkFloat32)
    _write_mgz(image, tmp_path / "orig.mgz")
    segwithu("segment", tmp_path / "orig.mgz", "--model", "hippocampus", "--output", tmp_path / "cases")
    listing.list_folder(tmp_path / "cases")
    listing.click("orig")
    assert (listing.open_case, listing.volumes()) == ("orig", ["orig"])
    shown = slicer.util.arrayFromVolume(listing.opened.nodes.grid_volume)
    assert shown.shape == sitk.GetArrayViewFromImage(image).shape
    assert listing.opened.coloured() > 10


def test_a_click_opens_a_case_with_its_image_and_closes_the_one_before(listing: Listing) -> None:
    listing.list_folder()
    own = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4)), name="My own")
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    listing.click(CASES[1])
    assert (listing.open_case, listing.volumes()) == (CASES[1], ["My own", CASES[1]])
    opened_nodes = listing.opened.nodes
    parts = [*opened_nodes.spatial, opened_nodes.regions_text, opened_nodes.hub]
    listing.click(CASES[0])
    assert (listing.open_case, listing.volumes()) == (CASES[0], ["My own", CASES[0]])
    assert all(part.GetScene() is None for part in parts)
    assert listing.opened.coloured() > 10
    listing.opened.panel.review.end()
    from SegWithUSlicerLib.cases.case_switch import remove_case

    remove_case(listing.opened.nodes)
    listing.app.process_events()
    left = [
        node.GetName()
        for node in slicer.util.getNodesByClass("vtkMRMLNode")
        if node.GetID() not in before and not node.IsA("vtkMRMLColorTableNode")
    ]
    assert [name for name in left if any(case in str(name) for case in CASES)] == []
    assert own.GetScene() is not None


@pytest.mark.parametrize("pauses", [1, 2, 5, 8, 20])
def test_a_scene_that_is_closed_while_a_case_is_opened_stays_empty(listing: Listing, pauses: int) -> None:
    first, second, *_others = CASES
    listing.list_folder()
    pausing = iter(range(pauses))

    def close_at_last(draw: Callable[[], None]) -> None:
        if next(pausing, None) == pauses - 1:
            slicer.mrmlScene.Clear(0)
        draw()

    with mock.patch.object(session, "pausing", lambda draw: steps.pausing(partial(close_at_last, draw))):
        listing.click(first)
    assert next(pausing, None) is None, "the scene was closed"
    left = [*find_cases(slicer.mrmlScene), *slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert left + slicer.util.getNodesByClass("vtkMRMLMarkupsROINode") == []
    assert (listing.open_case, listing.ui.overlayButton.visible) == ("", False)
    listing.click(second)
    assert listing.open_case == second
    assert listing.opened.panel.inputs.volumes == [None], "the image of a case is not an input"


def test_the_image_in_the_scene_is_the_one_that_was_segmented(listing: Listing) -> None:
    listing.list_folder()
    listing.click(CASES[2])
    (volume,) = listing.opened.nodes.inputs
    loaded = slicer.util.loadVolume(str(listing.home / "images" / f"{CASES[2]}.nii.gz"), {"show": False})
    array = slicer.util.arrayFromVolume(volume)
    assert np.array_equal(array, slicer.util.arrayFromVolume(loaded))
    matrices = []
    for node in (volume, loaded):
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        matrices.append(slicer.util.arrayFromVTKMatrix(matrix))
    assert np.allclose(*matrices, atol=1e-4)


def test_next_follows_what_is_shown(listing: Listing) -> None:
    listing.list_folder()
    ui, order = listing.ui, listing.shown
    assert ui.nextCaseButton.enabled
    visited = []
    for _case in order:
        ui.nextCaseButton.click()
        listing.settled()
        visited.append(listing.open_case)
    assert visited == order
    assert not ui.nextCaseButton.enabled


def test_next_open_passes_by_what_this_reviewer_has_done(listing: Listing) -> None:
    listing.list_folder()
    order = listing.shown
    judged(listing.cases / order[1], "Ana", _all_regions(listing, order[1]))
    judged(listing.cases / order[2], "Bo", _all_regions(listing, order[2]))
    listing.ui.reviewerEdit.text = "Ana"
    listing.ui.refreshCasesButton.click()
    listing.settled()
    listing.click(order[0])
    assert (listing.status(order[1]), listing.status(order[2])) == ("done", "not started; Bo: done")
    listing.ui.nextOpenCaseButton.click()
    listing.settled()
    assert listing.open_case == order[2]
    listing.ui.nextOpenCaseButton.click()
    listing.settled()
    assert listing.open_case == order[0]


def test_how_the_map_is_shown_stays_from_case_to_case(listing: Listing) -> None:
    listing.list_folder()
    listing.click(CASES[0])
    ui = listing.ui
    ui.thresholdSlider.value, ui.opacitySlider.value = 0.31, 0.4
    ui.colourBox.currentIndex = 2
    listing.click(CASES[1])
    overlay = listing.opened.overlay
    assert (round(overlay.threshold, 3), round(overlay.opacity, 3)) == (0.31, 0.4)
    assert ui.colourBox.currentIndex == 2


def test_a_damaged_case_says_what_is_wrong_and_the_open_one_stays(listing: Listing) -> None:
    (listing.cases / CASES[1] / "case.json").write_text("{", encoding="utf-8")
    listing.list_folder()
    assert listing.shown[-1] == CASES[1]
    assert listing.status(CASES[1]) == "cannot be read"
    listing.click(CASES[0])
    listing.click(CASES[1])
    assert listing.open_case == CASES[0]
    assert "is not valid JSON" in listing.ui.caseLabel.text
    listing.click(CASES[2])
    (listing.cases / CASES[0] / "ranking.nii.gz").write_bytes(b"cut")
    listing.click(CASES[0])
    assert "ranking.nii.gz cannot be read" in listing.ui.caseLabel.text
    listing.click(CASES[2])
    assert (listing.open_case, listing.volumes()) == (CASES[2], [CASES[2]])


def test_what_reviewers_do_meanwhile_is_read_by_refresh(listing: Listing) -> None:
    from SegWithUCore.review.log_format import Verdict

    listing.list_folder()
    judged(listing.cases / CASES[0], "Bo", {1: Verdict.ACCEPTED})
    assert listing.status(CASES[0]) == "not started"
    listing.ui.refreshCasesButton.click()
    listing.settled()
    assert listing.status(CASES[0]).startswith("Bo: 1 of ")


def test_reviews_of_a_folder_that_cannot_be_written_count_too(
    listing: Listing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.access
    closed = ("home/cases", os.W_OK)
    monkeypatch.setattr(
        os, "access", lambda path, mode: real(path, mode) and not (closed[0] in str(path) and mode & closed[1])
    )
    listing.list_folder()
    listing.click(CASES[0])
    listing.reviewing.start("Ana")
    listing.reviewing.judge()
    listing.settled()
    assert not list(listing.cases.glob("*/review.*"))
    assert listing.status(CASES[0]).startswith("1 of ")


def test_a_place_without_cases_is_named_and_the_list_stays(listing: Listing) -> None:
    listing.list_folder()
    empty = listing.home / "images"
    listing.list_folder(empty)
    assert str(empty) in listing.ui.casesLabel.text
    assert len(listing.shown) == 3
    (listing.home / "x.json").write_text("[]", encoding="utf-8")
    listing.list_file(listing.home / "x.json")
    assert "x.json" in listing.ui.casesLabel.text


def test_many_cases_are_shown_before_they_are_read_and_then_read_once(listing: Listing) -> None:
    log = judged(listing.cases / CASES[0], "Ana", _all_regions(listing, CASES[0]))
    files = [*(listing.cases / CASES[0] / name for name in ("case.json", "regions.csv")), log]
    shown, filled, read = {}, {}, {}
    for count in (10, 100):
        place = listing.home / f"list{count}"
        for number in range(count):
            folder = place / f"case{number:04d}"
            folder.mkdir(parents=True)
            for file in files:
                shutil.copy(file, folder)
        shown[count] = calls_of(partial(listing.panel.open_list, place))
        assert listing.ui.casesTable.rowCount == count
        read[count] = calls_of(partial(listing.app.wait, lambda: not listing.panel._stop_reading, timeout=60))
        filled[count] = calls_of(listing.panel._fill)
        assert listing.status(f"{CASES[0]} (case{count - 1:04d})") == "Ana: done"
    for calls in (shown, read, filled):
        assert calls[100] < 12 * calls[10], (shown, read, filled)
    assert shown[100] < read[100] / 5, "shown before it is read"


def test_a_left_handed_case_opens_on_its_image_and_keeps_its_regions_in_a_saved_scene(
    opened: Opened, data_folder: Path, tmp_path: Path
) -> None:
    import SimpleITK as sitk
    from written_case import make_case

    from SegWithUSlicerLib.cases.case_switch import put_case
    from SegWithUSlicerLib.review.edits import grid_of, read_labels
    from SegWithUSlicerLib.scene.case_nodes import find_cases
    from SegWithUSlicerLib.scene.load_case import load_case
    from SegWithUSlicerLib.scene.review_nodes import region_labels

    disk = make_case(data_folder, tmp_path, left_handed=True, regions=True)
    put_case(disk.folder, "Turned", {"T1": sitk.ReadImage(str(disk.image))})
    opened.app.load_scene(opened.app.save_scene(tmp_path / "turned.mrb"))
    (again,) = find_cases(slicer.mrmlScene)
    for nodes in (again, load_case(disk.folder, slicer.util.loadVolume(str(disk.image)))):
        assert grid_of(nodes)[1].Determinant() > 0
        assert np.array_equal(read_labels(nodes), disk.labels[::-1])
        assert disk.region_labels is not None
        assert np.array_equal(region_labels(nodes, *grid_of(nodes)), disk.region_labels[::-1])
