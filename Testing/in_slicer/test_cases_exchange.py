"""Cases out of the panel and verdicts back: export, a colleague without torch, merge, disagreements, report, bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import slicer
from listed_cases import CASES, Listing, judged, segwithu
from opened_module import alive, hold

from SegWithUCore.util.errors import code_of

A, B, C = CASES
ABSENT = ("torch", "monai", "safetensors", "jsonschema")
"""What the Slicer of a colleague who only reviews lacks."""


def _export(listing: Listing, parent: Path) -> None:
    """The button, and the folder that the user chooses; returns before the export is done."""
    parent.mkdir(parents=True, exist_ok=True)
    listing.ui.casesButton.collapsed = listing.ui.exportButton.collapsed = False
    listing.app.dialogs.answer(str(parent))
    listing.ui.startExportButton.click()


def _exported(listing: Listing, parent: Path) -> Path:
    """Export and wait for the end."""
    _export(listing, parent)
    listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)
    return parent / "segwithu-export"


def _names_in(folder: Path) -> str:
    """Every file name, and every byte of every file, as text."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return "\n".join(f"{path.relative_to(folder)}\n{path.read_bytes().decode('latin-1')}" for path in files)


def _opened_pages(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pages that the panel opens in a browser from now on."""
    import qt

    shown = []

    class Services:
        @staticmethod
        def openUrl(url: Any) -> bool:
            shown.append(Path(url.toLocalFile()))
            return True

    monkeypatch.setattr(qt, "QDesktopServices", Services)
    return shown


def _save_over(path: Path) -> None:
    image = sitk.ReadImage(str(path))
    image[10:14, 10:14, 10:14] = 1
    sitk.WriteImage(image, str(path), True)


def test_a_segmentation_that_another_program_saved_over_is_named_by_a_process_beside_the_window(
    listing: Listing,
) -> None:
    _save_over(listing.cases / A / "segmentation.nii.gz")
    listing.list_folder()
    for name, code in ((A, "changed-file"), (B, "")):
        listing.click(name)
        listing.app.wait(lambda: not listing.panel.opener.check.is_busy, timeout=120)
        assert code_of(listing.panel.opener.message) == code
        assert (str(listing.cases / A) in listing.ui.caseLabel.text) == bool(code)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot hold a process")
def test_opening_or_closing_a_case_does_not_wait_for_the_check_of_the_case_before(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, started, stopped = listing.panel.opener.check, [], []
    start, stop = check.start, check.stop

    def held(arguments: list[str], *others: Any) -> None:
        start(arguments, *others)
        started.append(Path(arguments[1]).name)
        if started[-1] == A:  # it would never end by itself
            os.kill(check._child._process.pid, signal.SIGSTOP)

    monkeypatch.setattr(check, "start", held)
    monkeypatch.setattr(check, "stop", lambda: [stopped.append(True), stop()])
    _save_over(listing.cases / B / "segmentation.nii.gz")
    listing.list_folder()
    listing.click(A)
    stopped.clear()
    listing.click(B)
    assert not stopped
    listing.app.wait(lambda: not check.is_busy, timeout=120)
    assert (started, code_of(listing.panel.opener.message)) == ([A, B], "changed-file")
    listing.click(A)
    slicer.mrmlScene.RemoveNode(listing.opened.nodes.hub)
    listing.app.wait(lambda: not check.is_busy, timeout=60)
    assert (started, stopped, listing.open_case) == ([A, B, A], [], "")
    assert code_of(listing.panel.opener.message) == ""


def test_cases_go_to_a_colleague_without_torch_and_verdicts_come_home(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUCore.case.region_files import read_regions

    listing.list_folder()
    assert listing.ui.startExportButton.text == "Export cases (3)..."
    sent = _exported(listing, tmp_path / "out")
    assert listing.ui.exportLabel.text == f"Cases exported: 3 of 3, to {sent}."
    there = Path(shutil.move(sent, tmp_path / "colleague"))
    shutil.rmtree(listing.home / "images")
    with monkeypatch.context() as patch:
        for name in ABSENT:
            patch.setitem(sys.modules, name, None)  # an import of it fails
        listing.ui.reviewerEdit.text = "Bo"
        listing.list_file(there / "worklist.json")
        for name in listing.shown:
            listing.click(name)
            if listing.reviewing.session is None:
                listing.reviewing.start("Bo")
            for verdict in ("corrected", "accepted", "rejected"):
                listing.reviewing.judge(verdict)
            listing.settled()
            kinds = [region.kind.value for region in read_regions(listing.cases / name)]
            assert listing.status(name) == f"3 of {len(kinds) - kinds.count('blind sample')}"
            assert (listing.open_case, listing.volumes()) == (name, [name])
        listing.reviewing.panel.end()
    segwithu("merge-reviews", there, "--into", listing.cases)
    judged(listing.cases / A, "Ana", {1: _verdict("rejected"), 2: _verdict("accepted")}, "no doubt")
    listing.list_folder()
    assert listing.status(A).count("; ") == 1
    assert all((listing.cases / name / "review.Bo.jsonl").is_file() for name in CASES)


def _verdict(name: str) -> Any:
    from SegWithUCore.review.log_format import Verdict

    return Verdict(name)


def test_only_selected_cases_are_exported_with_the_open_review(listing: Listing, tmp_path: Path) -> None:
    listing.list_folder()
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge()
    listing.select(A, C)
    assert (listing.open_case, listing.ui.caseLabel.text) == (A, "2 cases are selected.")
    listing.ui.exportScopeBox.currentIndex = 2
    sent = _exported(listing, tmp_path)
    assert sorted(path.name for path in sent.iterdir() if path.is_dir()) == [A, C]
    assert '"verdict"' in (sent / A / "review.Ana.jsonl").read_text(encoding="utf-8")
    assert listing.reviewing.session is not None
    again = _exported(listing, tmp_path)
    assert again.with_name("segwithu-export-2").is_dir()


def test_an_anonymous_export_tells_no_names_but_keeps_who_is_who(listing: Listing, tmp_path: Path) -> None:
    judged(listing.cases / A, "Ana Müller", {1: _verdict("accepted")}, "a remark of mine")
    listing.list_folder()
    ui = listing.ui
    ui.anonymousBox.checked = True
    sent = _exported(listing, tmp_path / "out")
    told = _names_in(sent)
    assert not any(name in told for name in (*CASES, "Müller", "Ana ", str(listing.home)))
    assert "a remark of mine" not in told
    names = json.loads((tmp_path / "out" / "segwithu-export-names.json").read_text(encoding="utf-8"))
    assert sorted(Path(folder).name for folder in names["cases"].values()) == list(CASES)
    assert "keep that file to yourself" in ui.exportLabel.text


def test_a_moved_image_goes_into_the_export_and_a_lost_one_stops_it(listing: Listing, tmp_path: Path) -> None:
    moved = listing.home / "archive"
    (listing.home / "images").rename(moved)
    listing.list_folder()
    lost = _exported(listing, tmp_path / "lost")
    assert not lost.exists() and A in listing.ui.exportLabel.text
    listing.click(A)
    listing.app.dialogs.answer(str(moved / f"{A}.nii.gz"))
    listing.ui.imageFileButton.click()
    sent = _exported(listing, tmp_path)
    assert all((sent / name / "image.nii.gz").is_file() for name in CASES), listing.ui.exportLabel.text


def _many(listing: Listing, count: int = 30) -> Path:
    """So many cases that an export takes seconds."""
    many = listing.home / "many"
    for number in range(count):
        shutil.copytree(listing.cases / A, many / f"case{number:03d}")
    return many


@pytest.mark.parametrize(("anonymous", "done"), [(True, 0), (False, 10)])
def test_cancel_leaves_no_process_and_nothing_half_written(
    listing: Listing,
    tmp_path: Path,
    anonymous: bool,
    done: int,
) -> None:
    listing.list_folder(_many(listing))
    ui, process = listing.ui, listing.panel.exports.process
    ui.anonymousBox.checked = anonymous
    threads = threading.active_count()
    _export(listing, tmp_path / "out")
    assert (ui.startExportButton.text, ui.exportBar.visible) == ("Cancel", True)
    pid = hold(process, lambda: ui.exportBar.value >= done)
    assert alive(pid)
    ui.startExportButton.click()
    listing.app.wait(lambda: not process.is_busy, timeout=120)
    assert not alive(pid)
    assert ui.exportLabel.text == "Export cancelled: nothing was written."
    assert list((tmp_path / "out").iterdir()) == []
    assert listing.opened.private_folders() == []
    assert (ui.startExportButton.text, ui.exportBar.visible) == ("Export cases (30)...", False)
    listing.app.wait(lambda: threading.active_count() <= threads, timeout=120)


def test_an_export_that_the_system_kills_says_so_and_leaves_nothing(listing: Listing, tmp_path: Path) -> None:
    listing.list_folder(_many(listing))
    _export(listing, tmp_path / "out")
    process = listing.panel.exports.process
    os.kill(hold(process, lambda: listing.ui.exportBar.value >= 5), signal.SIGKILL)
    listing.app.wait(lambda: not process.is_busy, timeout=120)
    assert "SIGKILL" in listing.ui.exportLabel.text
    assert list((tmp_path / "out").iterdir()) == []
    assert listing.opened.private_folders() == []


def test_slicer_answers_while_an_export_runs(listing: Listing, tmp_path: Path) -> None:
    listing.list_folder(_many(listing, 8))
    _export(listing, tmp_path / "out")
    process = listing.panel.exports.process
    hold(process)
    listing.click(f"{A} (case003)")
    assert (listing.open_case, process.is_busy) == (f"{A} (case003)", True)
    os.kill(process.pid, signal.SIGCONT)
    listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)
    assert listing.ui.exportLabel.text.startswith("Cases exported: 8 of 8, ")


def test_an_export_that_cannot_be_written_says_why_in_one_sentence(listing: Listing, tmp_path: Path) -> None:
    listing.list_folder()
    (tmp_path / "file").write_text("no folder can be made here")
    listing.panel.exports.export([listing.cases / A], tmp_path / "file" / "below")
    listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=60)
    assert listing.ui.exportLabel.text.startswith("Cannot write ")


def test_the_report_is_made_and_opened(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:

    shown = _opened_pages(monkeypatch)
    listing.list_folder()
    assert not listing.ui.reportButton.enabled
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge("rejected")
    listing.ui.reportButton.click()
    listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=60)
    assert shown == [listing.cases / A / "report.html"]
    page = shown[0].read_text(encoding="utf-8")
    assert page.count("<svg") > 3
    assert "Ana" in page


def test_the_selected_scans_are_compared(listing: Listing, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _opened_pages(monkeypatch)
    listing.list_folder()
    listing.select(B, A)
    assert listing.ui.reportButton.text == "Compare scans"
    listing.ui.reportButton.click()
    listing.app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=60)
    assert [page.name for page in shown] == ["changes.html"], listing.ui.exportLabel.text
    page = shown[0].read_text(encoding="utf-8")
    assert f"Changes since {min(A, B)}" in page and "<svg" in page
