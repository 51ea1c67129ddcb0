"""What a review says: structures as a whole, the end, the rest, runs that cannot be reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from counting import calls_of
from opened_module import Opened
from reviewing import Reviewing
from written_case import make_case, write_many_regions, write_some_regions

MANY = 5000


def test_a_structure_is_flagged_as_a_whole(reviewing: Reviewing) -> None:
    reviewing.start()
    name = reviewing.session.current.structure
    reviewing.ui.flagStructureButton.click()
    assert reviewing.ui.structureVerdictLabel.text.startswith(f"{name}: ? second reader (0 of ")
    reviewing.press("Ctrl+Alt+Z")
    assert f"{name}: no verdict yet" in reviewing.ui.structureVerdictLabel.text
    reviewing.ui.endReviewButton.click()
    assert [line["event"] for line in reviewing.log()].count("structure") == 1


def test_all_regions_are_right(reviewing: Reviewing) -> None:
    reviewing.start()
    for _region in reviewing.ids:
        reviewing.judge()
    assert reviewing.ui.reviewProgressLabel.text.splitlines()[-1] == (
        f"All {len(reviewing.ids)} regions are decided: 0 rejected, 0 for a second reader."
    )
    assert not reviewing.ui.nextButton.enabled


def test_every_region_has_a_reason(reviewing: Reviewing) -> None:
    reviewing.start()
    for identifier in reviewing.ids[:4]:
        reviewing.panel.go_to(identifier)
        assert reviewing.session.current.structure in reviewing.ui.whyLabel.text


def test_the_rest_is_accepted_only_after_saying_what_is_taken_and_undone_at_once(reviewing: Reviewing) -> None:
    reviewing.start()
    ui, ids = reviewing.ui, reviewing.ids
    reviewing.judge()
    reviewing.judge("rejected")
    reviewing.app.dialogs.answer(False)
    ui.acceptRestButton.click()
    assert reviewing.told("rest") == []
    reviewing.app.dialogs.answer(True)
    ui.acceptRestButton.click()
    (line,) = reviewing.told("rest")
    from SegWithUSlicerLib.scene.readout import volume_text

    left = reviewing.state.expected_mm3_of(ids[2:])
    assert (line["regions"], line["expected_wrong_mm3"]) == (sorted(ids[2:]), round(left, 3))
    question = reviewing.app.dialogs.asked[-1]
    assert f"{len(ids) - 2} regions without a verdict" in question
    assert f"They hold {volume_text(left)} of expected error" in question
    assert {reviewing.cell(region) for region in ids[2:]} == {"○ not looked at"}
    assert f"2 of {len(ids)} regions, {len(ids) - 2} not looked at" in ui.reviewProgressLabel.text
    assert f"but for {len(ids) - 2} that were not looked at ({volume_text(left)}" in ui.reviewProgressLabel.text
    assert (ui.acceptRestButton.enabled, ui.nextButton.enabled) == (False, False)
    reviewing.press("Ctrl+Alt+Z")
    assert {reviewing.cell(region) for region in ids[2:]} == {"-"}
    assert (ui.acceptRestButton.enabled, ui.nextButton.enabled) == (True, True)
    assert [line["format"] for line in reviewing.told("opened")] == [2]


def test_a_review_goes_on_after_an_accepted_rest(reviewing: Reviewing) -> None:
    reviewing.start()
    number = len(reviewing.ids)
    reviewing.judge()
    reviewing.app.dialogs.answer(True)
    reviewing.ui.acceptRestButton.click()
    assert reviewing.session.is_done
    reviewing.ui.endReviewButton.click()
    reviewing.start()
    assert (reviewing.state.progress().decided, reviewing.state.progress().unseen) == (1, number - 1)


def _load(opened: Opened, folder: Path, image: Path) -> Any:
    from SegWithUSlicerLib.scene.load_case import load_case

    volume = slicer.util.loadVolume(str(image))
    opened.panel.show_run(load_case(folder, volume))
    return Reviewing(opened)


def test_a_step_among_thousands_of_regions_touches_few(opened: Opened, data_folder: Path, tmp_path: Path) -> None:
    disk = make_case(data_folder, tmp_path, regions=True)
    write_many_regions(disk, MANY)
    reviewing = _load(opened, disk.folder, disk.image)
    started = calls_of(reviewing.start)
    filled = calls_of(lambda: reviewing.panel.table.fill(reviewing.session.regions, reviewing.state.verdict_of))
    steps = [calls_of(reviewing.judge) for _step in range(10)]
    assert reviewing.ui.regionsTable.rowCount == MANY
    reviewing.panel.end()
    assert (started < 300 * MANY, filled < 200 * MANY, max(steps) < 10 * MANY) == (True, True, True)


def test_without_uncertain_voxels_there_is_nothing_to_review(
    opened: Opened,
    data_folder: Path,
    tmp_path: Path,
) -> None:
    disk = make_case(data_folder, tmp_path, regions=True)
    nothing = np.zeros(disk.labels.shape, np.uint16)
    write_some_regions(disk.folder, disk.labels, disk.error, sitk.ReadImage(str(disk.image)), nothing)
    reviewing = _load(opened, disk.folder, disk.image)
    reviewing.name("Ana")
    assert "No voxel exceeds the threshold" in reviewing.ui.reviewNoteLabel.text
    assert not reviewing.ui.startReviewButton.enabled


def test_a_run_without_calibration_or_regions_says_why(opened: Opened, data_folder: Path, tmp_path: Path) -> None:
    bare = make_case(data_folder, tmp_path / "bare")
    assert "no regions" in _load(opened, bare.folder, bare.image).ui.reviewNoteLabel.text
    raw = make_case(data_folder, tmp_path / "raw", calibrated=False)
    assert "not calibrated" in _load(opened, raw.folder, raw.image).ui.reviewNoteLabel.text
    assert not opened.ui.startReviewButton.enabled
