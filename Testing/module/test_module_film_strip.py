"""The regions of a review as a film strip: pictures drawn little by little, clicks, keys, verdicts, blind places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from counting import calls_of
from opened_module import Opened
from PySide6 import QtCore, QtGui, QtTest, QtWidgets
from reviewing import Reviewing
from written_case import make_case, write_many_regions

MANY = 500
ORANGE_ABOVE = 40


class Strip:
    """The strip of a review, as its user sees it."""

    def __init__(self, reviewing: Reviewing) -> None:
        self.reviewing = reviewing
        self.widget = reviewing.ui.regionsStrip
        self.strip = reviewing.panel.strip

    def __len__(self) -> int:
        return int(self.widget.count)

    def text(self, row: int) -> str:
        return str(self.widget.item(row).text())

    def cell(self, row: int) -> np.ndarray:
        """The pixels of a region, (rows, columns, 3), scrolled into sight; no scroll is seen by the strip."""
        self.reviewing.host.process_events()
        rectangle = QtWidgets.QListWidget.visualItemRect(self.widget, self.widget.item(row))
        image = QtWidgets.QWidget.grab(QtWidgets.QListWidget.viewport(self.widget), rectangle).toImage()
        image = image.convertToFormat(QtGui.QImage.Format.Format_RGB888)
        lines = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return lines[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)

    def show_row(self, row: int) -> np.ndarray:
        """The pixels of a region that is scrolled to first."""
        QtWidgets.QListWidget.scrollToItem(self.widget, self.widget.item(row))
        return self.cell(row)

    def click(self, row: int) -> None:
        QtWidgets.QListWidget.scrollToItem(self.widget, self.widget.item(row))
        middle = QtWidgets.QListWidget.visualItemRect(self.widget, self.widget.item(row)).center()
        port = QtWidgets.QListWidget.viewport(self.widget)
        QtTest.QTest.mouseClick(port, QtCore.Qt.MouseButton.LeftButton, pos=middle)

    def until_drawn(self, count: int | None = None) -> None:
        """Wait until so many pictures are there; all by default."""
        wanted = len(self) if count is None else count
        self.reviewing.host.wait(lambda: len(self.strip._pictures) >= wanted and not self.strip._waiting)


def _has(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels - np.array(colour)).max(axis=2) < 12).sum())


def _orange(pixels: np.ndarray) -> int:
    return int((pixels[..., 0] - pixels[..., 2] > ORANGE_ABOVE).sum())


@pytest.fixture
def strip(reviewing: Reviewing) -> Strip:
    reviewing.start()
    return Strip(reviewing)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The regions whose pictures were drawn, in order."""
    from SegWithUSlicerLib.panels import film_strip

    found: list[int] = []
    draw = film_strip.picture_in_review

    def spy(session: Any, region: Any, edge: int) -> Any:
        found.append(region.id)
        return draw(session, region, edge)

    monkeypatch.setattr(film_strip, "picture_in_review", spy)
    yield found


def test_every_region_has_its_picture_with_the_expected_error_under_it(strip: Strip) -> None:
    from SegWithUSlicerLib.scene.readout import volume_text

    regions = strip.reviewing.session.regions
    assert len(strip) == len(regions) >= 10
    assert [strip.text(row) for row in range(len(strip))] == [volume_text(r.expected_wrong_mm3) for r in regions]
    strip.until_drawn()
    pictures = [strip.show_row(row)[:56] for row in range(4, 10)]
    assert all(_orange(picture) > 10 for picture in pictures), "the region is tinted"
    assert all(np.abs(pictures[0] - other).sum() > 0 for other in pictures[1:])
    assert strip.widget.item(0).toolTip() == regions[0].structure


def test_click_and_arrow_keys_go_to_a_region_in_strip_table_and_views(strip: Strip) -> None:
    reviewing = strip.reviewing
    strip.until_drawn()
    strip.click(3)
    assert (reviewing.session.current.id, reviewing.row()) == (reviewing.ids[3], 3)
    assert max(reviewing.off_peak_mm()) < min(reviewing.nodes.inputs[0].GetSpacing())
    reviewing.press("Right", strip.widget)
    assert (reviewing.session.current.id, reviewing.row()) == (reviewing.ids[4], 4)
    reviewing.press("Left", strip.widget)
    assert reviewing.session.current.id == reviewing.ids[3]
    reviewing.ui.regionsTable.setCurrentCell(7, 1)
    assert strip.widget.currentRow == 7
    highlight = QtWidgets.QWidget.palette(strip.widget).highlight().color()
    colour = (highlight.red(), highlight.green(), highlight.blue())
    assert _has(strip.cell(7), colour) > 500, "scrolled into sight, and highlighted"
    assert _has(strip.cell(6), colour) == 0
    reviewing.press("N", strip.widget)
    assert strip.widget.currentRow == 8


def test_verdicts_are_seen_and_undo_takes_them_back(strip: Strip) -> None:
    from SegWithUCore.review.log_format import Verdict
    from SegWithUSlicerLib.panels.film_strip import COLOURS

    reviewing = strip.reviewing
    assert set(COLOURS) == set(Verdict), "no verdict is without a colour"
    bare = strip.text(0)
    for verdict in ("rejected", "accepted"):
        reviewing.judge(verdict)
    assert (strip.text(0), strip.text(1)[0]) == (f"✗ {bare}", "✓")
    strip.until_drawn()
    assert _has(strip.show_row(0), COLOURS[Verdict.REJECTED]) > 500
    assert _has(strip.show_row(1), COLOURS[Verdict.ACCEPTED]) > 500
    reviewing.press("Ctrl+Alt+Z")
    reviewing.press("Ctrl+Alt+Z")
    strip.until_drawn()
    assert strip.text(0) == bare
    assert _has(strip.show_row(0), COLOURS[Verdict.REJECTED]) == 0
    reviewing.host.popups.answer("OK")
    reviewing.ui.acceptRestButton.click()
    strip.until_drawn()
    assert {strip.text(row)[0] for row in range(len(strip))} == {"○"}


def test_another_order_takes_the_pictures_along(strip: Strip, drawn: list[int]) -> None:
    strip.until_drawn()
    at, before = strip.reviewing.session.current.id, len(drawn)
    strip.reviewing.ui.orderBox.currentIndex = 3
    heights = [region.peak_ras_mm[2] for region in strip.reviewing.session.regions]
    assert heights == sorted(heights, reverse=True)
    strip.until_drawn()
    assert strip.reviewing.ids[strip.widget.currentRow] == at
    assert len(drawn) == before, "no picture is drawn twice"
    assert _orange(strip.cell(strip.widget.currentRow)) > 10


def test_blind_places_look_like_regions(reviewing: Reviewing) -> None:
    reviewing.start(blind=4)
    strip = Strip(reviewing)
    blind = {place.region.id for place in reviewing.session._blind.places}
    assert len(blind) == 4
    strip.until_drawn()
    shapes = set()
    for row in range(len(strip)):
        pixels = strip.show_row(row)
        shapes.add(pixels.shape)
        assert _orange(pixels) > 0, "all are tinted, be they a few voxels in that plane"
        assert strip.text(row).endswith("mm³") and "blind" not in strip.widget.item(row).toolTip()
    assert len(shapes) == 1


def test_pictures_of_500_regions_are_drawn_little_by_little_and_those_in_sight_first(
    opened: Opened, data_folder: Path, tmp_path: Path, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUSlicerLib.panels import film_strip

    monkeypatch.setattr(film_strip, "perf_counter", lambda: 0.004 * len(drawn))  # a picture takes 4 ms
    reviewing = _many_regions(opened, data_folder, tmp_path)
    reviewing.start()
    strip = Strip(reviewing)
    assert (len(strip), drawn) == (MANY, []), "the start waits for no picture"
    assert calls_of(lambda: strip.strip.show(reviewing.session)) < 40 * MANY
    strip.strip._draw_some()
    assert drawn == reviewing.ids[:3], "a step ends after 10 ms"
    reviewing.panel.go_to(reviewing.ids[400])
    strip.strip._draw_some()
    assert drawn[3] == reviewing.ids[400]
    assert set(drawn[4:]) <= {reviewing.ids[row] for row in range(390, 411)}
    reviewing.host.leave_module()
    reviewing.host.wait(0.2)
    assert len(drawn) == 6, "nothing is drawn that cannot be seen"
    reviewing.host.enter_module()
    reviewing.host.wait(lambda: len(drawn) > 20)
    bar = strip.widget.horizontalScrollBar()
    bar.value = 0
    seen = len(drawn)
    strip.strip._draw_some()
    assert set(drawn[seen:]) <= set(reviewing.ids[:20]), "what is scrolled to comes first"
    reviewing.panel.end()


def test_the_strip_rests_while_editing_and_follows_the_edit(strip: Strip, drawn: list[int]) -> None:
    reviewing = strip.reviewing
    strip.until_drawn()
    reviewing.ui.editButton.collapsed = False
    assert not strip.widget.visible
    segmentation = reviewing.nodes.segmentation.GetSegmentation()
    segment = segmentation.GetSegment(segmentation.GetNthSegmentID(0))
    before, drawn[:] = dict(strip.strip._pictures), []
    from SegWithUSlicerLib.scene.case_images import array_of

    image = segment.GetRepresentation("Binary labelmap")
    array_of(image)[array_of(image) == segment.GetLabelValue()] = 0
    image.Modified()
    segment.Modified()
    reviewing.host.wait(lambda: reviewing.session.rescore is not None)
    assert drawn == [], "not while nobody sees it"
    reviewing.ui.editButton.collapsed = True
    assert strip.widget.visible
    strip.until_drawn()
    assert any((strip.strip._pictures[region] != before[region]).any() for region in before)


def test_the_strip_is_empty_after_the_review_and_after_the_scene(strip: Strip) -> None:
    reviewing = strip.reviewing
    strip.until_drawn(count=1) if not strip.strip._waiting else reviewing.host.wait(0.1)
    reviewing.ui.endReviewButton.click()
    assert (len(strip), strip.strip._pictures) == (0, {})
    reviewing.start()
    assert len(strip) > 0
    reviewing.host.close_scene()
    reviewing.host.wait(0.1)
    assert len(strip) == 0


def _many_regions(opened: Opened, data_folder: Path, tmp_path: Path) -> Reviewing:
    from SegWithUSlicerLib.scene.load_case import load_case

    disk = make_case(data_folder, tmp_path, regions=True)
    write_many_regions(disk, MANY)
    volume = slicer.util.loadVolume(str(disk.image))
    opened.panel.show_run(load_case(disk.folder, volume))
    return Reviewing(opened)
