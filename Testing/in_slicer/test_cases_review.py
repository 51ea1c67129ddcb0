"""Reviews from case to case go on where they stopped, nothing is lost at a switch, a moved image is asked for once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import slicer
from listed_cases import CASES, Listing, judged

A, B, C = CASES


def _erase_half(nodes: Any, structure: int = 0) -> None:
    """An edit: the lower half of the array of a structure is gone."""
    segment = nodes.segmentation.GetSegmentation().GetNthSegmentID(structure)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.segmentation, segment)
    array[: array.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, nodes.segmentation, segment)


def _voxels(nodes: Any) -> int:
    from SegWithUSlicerLib.review.edits import read_labels

    return int((read_labels(nodes) > 0).sum())


def test_a_review_goes_on_exactly_where_it_stopped(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    reviewing = listing.reviewing
    whole = _voxels(listing.opened.nodes)
    reviewing.start("Ana")
    listing.ui.orderBox.currentIndex = 1
    reviewing.judge("accepted")
    _erase_half(listing.opened.nodes)
    reviewing.judge("corrected")
    listing.ui.commentEdit.text = "half typed"
    at, ids, drawn = reviewing.session.current.id, reviewing.ids, _voxels(listing.opened.nodes)
    assert drawn != whole
    listing.click(B)
    assert (listing.open_case, reviewing.session.nodes.hub) == (B, listing.opened.nodes.hub)
    assert listing.status(A) == f"2 of {len(ids)}"
    listing.click(A)
    assert (reviewing.session.current.id, reviewing.ids) == (at, ids)
    first, second = [line["region"] for line in listing.log(A) if line["event"] == "verdict"]
    assert (reviewing.cell(first), reviewing.cell(second)) == ("✓ accepted", "✎ corrected")
    assert reviewing.state.comment_of(at) == "half typed"
    assert _voxels(listing.opened.nodes) == drawn
    assert [line["event"] for line in listing.log(A) if line["event"] == "closed"] == ["closed"]


def test_the_next_open_case_is_one_key_away(listing: Listing) -> None:
    listing.list_folder()
    order = listing.shown
    listing.click(order[0])
    listing.reviewing.start("Ana")
    listing.reviewing.judge()
    listing.reviewing.press("Ctrl+Alt+N", listing.ui.regionsTable)
    listing.settled()
    assert (listing.open_case, listing.reviewing.session.nodes.hub) == (order[1], listing.opened.nodes.hub)
    listing.reviewing.judge()
    assert [line["event"] for line in listing.log(order[1])][:2] == ["opened", "verdict"]
    assert [line["event"] for line in listing.log(order[0])][-1] == "closed"


def test_what_lay_over_one_patient_does_not_lie_over_the_next(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    pet = listing.reviewing.show_pet()
    listing.click(B)
    views = [view.composite for view in listing.app.slice_views.values()]
    shown = listing.opened.nodes.maps["error_probability"]
    assert pet.GetScene() is not None
    assert {view.GetForegroundVolumeID() for view in views} in ({None}, {shown.GetID()})
    listing.ui.mapBox.currentIndex = listing.ui.mapBox.count - 1
    assert {view.GetForegroundVolumeID() for view in views} == {None}


def test_an_image_that_another_run_was_made_from_stays(listing: Listing) -> None:
    from SegWithUSlicerLib.scene.load_case import load_case
    from SegWithUSlicerLib.scene.segmentation import mark_judged

    listing.list_folder()
    listing.click(A)
    first = listing.opened.nodes
    (volume,) = first.inputs
    mark_judged(first.segmentation)
    second = load_case(listing.cases / A, volume)
    listing.click(B)
    assert first.hub.GetScene() is None
    assert (volume.GetScene() is not None, second.segmentation.GetScene() is not None) == (True, True)
    assert sorted(listing.volumes()) == [A, B]


def test_further_channels_are_loaded_too_and_a_lost_one_is_told(listing: Listing) -> None:
    from exchanged_cases import changed_case

    from SegWithUCore.util.paths import path_mac

    images = listing.home / "images"
    shutil.copy(images / f"{A}.nii.gz", images / "t2.nii.gz")

    def second_channel(case: dict[str, Any]) -> None:
        first = case["input"]["channels"][0]
        told = "../../images/t2.nii.gz"
        mac = path_mac(told, first["voxels_sha256"])
        case["input"]["channels"].append({**first, "name": "T2", "file": told, "file_mac": mac})

    changed_case(listing.cases / A, second_channel)
    listing.list_folder()
    listing.click(A)
    assert listing.volumes() == [A, f"{A} T2"]
    assert [volume.GetName() for volume in listing.opened.nodes.inputs] == [A, f"{A} T2"]
    listing.click(B)
    assert listing.volumes() == [B]
    (images / "t2.nii.gz").unlink()
    listing.click(A)
    assert (listing.open_case, listing.volumes()) == (A, [A])
    assert "Shown without T2: " in listing.ui.caseLabel.text


def test_the_row_follows_the_verdicts_that_are_given(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    count = len(listing.reviewing.ids)
    for number in range(1, count + 1):
        listing.reviewing.judge()
        listing.settled()
        assert listing.status(A) == (f"{number} of {count}" if number < count else "done")
    assert "2 open for Ana" in listing.ui.casesLabel.text


def test_a_case_without_a_review_is_only_shown(listing: Listing) -> None:
    listing.ui.reviewerEdit.text = "Ana"
    listing.list_folder()
    listing.click(A)
    assert listing.reviewing.session is None
    assert not list(listing.cases.glob("*/review.*"))


def test_two_reviewers_keep_two_logs_and_two_versions(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    whole = _voxels(listing.opened.nodes)
    listing.reviewing.start("Ana")
    _erase_half(listing.opened.nodes)
    listing.reviewing.judge("corrected")
    hers = _voxels(listing.opened.nodes)
    listing.ui.endReviewButton.click()
    listing.click(B)
    listing.ui.reviewerEdit.text = "Bo"
    listing.click(A)
    assert listing.reviewing.session is None
    listing.reviewing.start("Bo")
    assert _voxels(listing.opened.nodes) == whole
    listing.reviewing.judge("accepted")
    listing.settled()
    lines = listing.log(A, "Ana")
    (removed,) = [set(line["removed"]) for line in lines if line["event"] == "edited"]
    # What she judged, and looked at last, stays in her list; a slow computer looks longer.
    judged_by_her = {line["region"] for line in lines if line["event"] == "verdict"}
    listed, last = {*listing.reviewing.ids}, [line["region"] for line in lines if line.get("region")][-1]
    left, count = removed & listed - judged_by_her - {last}, len(listed)
    assert removed & listed, "her edit has removed one"
    assert listing.status(A) == f"1 of {count}; Ana: 1 of {count - len(left)}"
    listing.ui.endReviewButton.click()
    listing.click(B)
    listing.ui.reviewerEdit.text = "Ana"
    listing.click(A)
    assert _voxels(listing.opened.nodes) == hers
    assert [len([line for line in listing.log(A, name) if line["event"] == "verdict"]) for name in ("Ana", "Bo")] == [
        1,
        1,
    ]


def test_a_case_reviewed_elsewhere_opens_and_says_so(listing: Listing) -> None:
    from SegWithUCore.review.log import AuditLog
    from SegWithUCore.review.log_format import Verdict

    judged(listing.cases / A, "Ana", {1: Verdict.ACCEPTED})
    from exchanged_cases import header_of

    other = AuditLog.open(listing.cases / A, "Ana", header_of(listing.cases / A))
    listing.ui.reviewerEdit.text = "Ana"
    listing.list_folder()
    listing.click(A)
    assert (listing.open_case, listing.reviewing.session) == (A, None)
    assert "Ana" in listing.ui.reviewNoteLabel.text
    other.close()


def test_edits_outside_a_review_stay_in_the_scene_and_are_there_again(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    nodes = listing.opened.nodes
    _erase_half(nodes)
    drawn = _voxels(nodes)
    listing.click(B)
    assert listing.open_case == B
    assert nodes.hub.GetScene() is not None
    assert f"{A} stays in the scene" in listing.ui.caseLabel.text
    listing.click(A)
    assert listing.opened.nodes.hub is nodes.hub
    assert _voxels(listing.opened.nodes) == drawn
    assert listing.volumes() == [A]
    listing.reviewing.start("Ana")
    listing.reviewing.judge("corrected")
    listing.click(B)
    assert nodes.hub.GetScene() is None
    assert (listing.cases / A / "segmentation_reviewed.Ana.seg.nrrd").is_file()


def test_edits_after_the_end_of_a_review_are_not_taken_for_kept(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    _erase_half(listing.opened.nodes)
    listing.reviewing.judge("corrected")
    listing.ui.endReviewButton.click()
    nodes = listing.opened.nodes
    _erase_half(nodes, structure=1)
    listing.click(B)
    assert nodes.hub.GetScene() is not None
    assert "stays in the scene" in listing.ui.caseLabel.text


def test_a_review_that_the_disk_does_not_hold_keeps_its_case_open(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    folder = listing.cases / A
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    folder.write_text("no folder can be made here")
    listing.reviewing.judge("rejected")
    listing.click(B)
    assert (listing.open_case, listing.reviewing.session is None) == (A, False)
    assert "was not opened, because this review is not on the disk" in listing.ui.caseLabel.text
    folder.unlink()
    moved.rename(folder)
    listing.click(B)
    assert listing.open_case == B
    assert [line["verdict"] for line in listing.log(A) if line["event"] == "verdict"] == ["rejected"]


def test_a_case_whose_folder_is_gone_stays_in_the_scene(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    nodes = listing.opened.nodes
    shutil.rmtree(listing.cases / A)
    listing.click(B)
    assert nodes.hub.GetScene() is not None
    assert f"{A} stays in the scene: the folder that it was loaded from" in listing.ui.caseLabel.text


def test_a_case_segmented_anew_is_loaded_beside_what_the_scene_holds(listing: Listing) -> None:
    from exchanged_cases import changed_case

    listing.list_folder()
    listing.click(A)
    nodes = listing.opened.nodes
    listing.click(B)
    assert nodes.hub.GetScene() is None
    listing.click(A)
    old = listing.opened.nodes
    changed_case(listing.cases / A, lambda case: case.update(created="2026-12-24T00:00:00+00:00"))
    listing.panel.opener.open(listing.cases / A)
    assert listing.opened.nodes.hub is not old.hub
    assert listing.opened.nodes.case.created == "2026-12-24T00:00:00+00:00"


def test_a_saved_scene_knows_which_case_is_open(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge()
    saved = listing.app.save_scene(listing.app.folder / "open.mrb")
    listing.app.close_scene()
    assert (listing.open_case, listing.reviewing.session) == ("", None)
    listing.app.load_scene(saved)
    assert listing.open_case == A
    listing.click(B)
    assert (listing.open_case, listing.volumes()) == (B, [B])


def test_deleting_the_open_case_leaves_none_marked(listing: Listing) -> None:
    listing.list_folder()
    listing.click(A)
    slicer.mrmlScene.RemoveNode(listing.opened.nodes.hub)
    assert listing.open_case == ""


# -- moved images --


def _move_images(listing: Listing) -> Path:
    """All images are elsewhere now, under their old names."""
    moved = listing.home / "archive" / "2026"
    moved.parent.mkdir()
    (listing.home / "images").rename(moved)
    return moved


def _answer(listing: Listing, place: Path) -> None:
    listing.app.dialogs.answer(str(place))
    listing.ui.imageFileButton.click()
    listing.settled()


def test_a_moved_image_is_asked_for_once_for_all_cases_moved_with_it(listing: Listing) -> None:
    moved = _move_images(listing)
    listing.list_folder()
    listing.click(A)
    assert (listing.open_case, listing.ui.imageFrame.visible) == ("", True)
    assert f"{A} is not at" in listing.ui.imageLabel.text
    _answer(listing, moved / f"{A}.nii.gz")
    assert (listing.open_case, listing.ui.imageFrame.visible, listing.volumes()) == (A, False, [A])
    listing.click(B)
    assert (listing.open_case, listing.ui.imageFrame.visible, listing.volumes()) == (B, False, [B])
    assert listing.app.dialogs.unused == 0


def test_another_image_is_refused_by_its_voxels_and_asked_for_again(listing: Listing) -> None:
    moved = _move_images(listing)
    listing.list_folder()
    listing.click(A)
    _answer(listing, moved / f"{B}.nii.gz")
    assert (listing.open_case, listing.ui.imageFrame.visible) == ("", True)
    assert "[other-image]" in listing.ui.imageLabel.text
    _answer(listing, moved / f"{A}.nii.gz")
    assert listing.open_case == A


def test_an_image_changed_in_its_place_is_asked_for(listing: Listing) -> None:
    place = listing.home / "images" / f"{A}.nii.gz"
    kept = shutil.copy(place, listing.home / "kept.nii.gz")
    image = sitk.ReadImage(str(place))
    image[0, 0, 0] = int(image[0, 0, 0]) + 1
    sitk.WriteImage(image, str(place))
    listing.list_folder()
    listing.click(A)
    assert "[other-image]" in listing.ui.imageLabel.text
    _answer(listing, Path(kept))
    assert listing.open_case == A


def test_a_question_goes_away_when_another_case_is_opened(listing: Listing) -> None:
    (listing.home / "images" / f"{A}.nii.gz").unlink()
    listing.list_folder()
    listing.click(A)
    listing.click(B)
    assert (listing.open_case, listing.ui.imageFrame.visible) == (B, False)


def test_a_case_can_be_looked_at_without_its_image(listing: Listing) -> None:
    _move_images(listing)
    listing.list_folder()
    listing.click(A)
    listing.ui.withoutImageButton.click()
    listing.settled()
    assert (listing.open_case, listing.volumes(), listing.ui.imageFrame.visible) == (A, [], False)
    listing.reviewing.start("Ana")
    listing.reviewing.judge()
    assert max(listing.reviewing.off_peak_mm()) < 1.0
    assert [line["event"] for line in listing.log(A)][:2] == ["opened", "verdict"]


def test_a_dicom_series_is_found_by_its_folder(listing: Listing, data_folder: Path, tmp_path: Path) -> None:
    from dicom_cases import make_dicom_cases

    home = make_dicom_cases(data_folder, tmp_path / "dicom")
    case = sorted(path.parent for path in (home / "cases").glob("*/case.json"))[0]
    listing.list_folder(case)
    listing.click(listing.shown[0])
    name = listing.open_case
    assert name and len(listing.volumes()) == 1
    voxels = slicer.util.arrayFromVolume(listing.opened.nodes.inputs[0]).sum()
    series = home / "series"
    series.rename(home / "moved series")
    listing.app.close_scene()
    listing.click(name)
    assert listing.ui.imageFrame.visible
    from SegWithUCore.case.case_file import read_case
    from SegWithUCore.case.case_image import image_path

    told = image_path(case, read_case(case), 0)
    listing.app.dialogs.answer(str(home / "moved series" / told.relative_to(series)))
    listing.ui.imageFolderButton.click()
    assert listing.open_case == name
    assert slicer.util.arrayFromVolume(listing.opened.nodes.inputs[0]).sum() == voxels
