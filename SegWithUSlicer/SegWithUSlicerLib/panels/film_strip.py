"""The regions of a review as a strip of pictures, with the expected error and the verdict under each.

Pictures are drawn while nothing else is to be done, a few milliseconds at a time, those in sight first: thousands of
regions do not block. A blind place is drawn and named as any region is.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import qt

from SegWithUCore.regions.region import Region
from SegWithUCore.review.log_format import Verdict

from ..guarded import guarded
from ..review.region_picture import as_ppm, picture_in_review
from ..review.session import ReviewSession
from ..run.session import Debounce
from ..scene.readout import volume_text
from .review_widgets import verdict_sign
from .widgets import GuiConnections, updates_disabled

PICTURE_PX = 56
_FRAME_PX = 4
_REST_MS, _PAUSE_MS, _STEP_S = 150, 20, 0.010
"""After a click, a key or scrolling; between two steps; and the longest step: no verdict waits for pictures."""
_REACH = 300
"""Regions on either side of what is looked at whose pictures are drawn."""
_BESIDE_PX, _BELOW_PX = 20, 8
"""Room for the text, which is wider than the picture, and around it."""
_NO_PICTURE = np.full((PICTURE_PX, PICTURE_PX, 3), 200, np.uint8)
"""Where the image is gone."""
COLOURS = {
    Verdict.ACCEPTED: (0, 158, 115),
    Verdict.CORRECTED: (0, 114, 178),
    Verdict.REJECTED: (213, 94, 0),
    Verdict.SECOND_READER: (204, 121, 167),
    Verdict.NOT_LOOKED_AT: (150, 150, 150),
}
"""Frames, distinct with the common forms of colour blindness (Okabe and Ito); the text has the verdict's sign."""


class FilmStrip:
    """Shows regions in the given order.

    Args:
        strip: the QListWidget.
        on_chosen: called with the id of the region that the user chose by mouse or arrow keys.
    """

    def __init__(self, strip: Any, on_chosen: Callable[[int], None]) -> None:
        self._strip = strip
        self._on_chosen = on_chosen
        self._gui = GuiConnections()
        self._session: ReviewSession | None = None
        self._regions: Sequence[Region] = ()
        self._rows: dict[int, int] = {}
        self._pictures: dict[int, np.ndarray] = {}
        self._waiting: set[int] = set()
        self._at = 0
        self._order: list[int] = []
        self._is_visible = False
        self._draw_later = Debounce(_REST_MS, self._draw_some)
        strip.iconSize = qt.QSize(PICTURE_PX, PICTURE_PX)
        text = strip.fontMetrics().height()
        self._cell = qt.QSize(PICTURE_PX + _BESIDE_PX, PICTURE_PX + text + _BELOW_PX)
        strip.gridSize = self._cell
        bar = strip.horizontalScrollBar()
        strip.setFixedHeight(PICTURE_PX + text + _BELOW_PX + bar.sizeHint.height() + 2 * strip.frameWidth)
        self._gui.connect_signal(strip, "currentRowChanged(int)", self._chosen)
        self._gui.connect_signal(strip, "itemActivated(QListWidgetItem*)", lambda _item: self._chosen(strip.currentRow))
        bar.connect("valueChanged(int)", guarded(lambda _value: self._scrolled()))

    def show(self, session: ReviewSession | None) -> None:
        """Show the regions of a review in its order, or none; pictures that were drawn for it stay."""
        if session is not self._session:
            self._pictures.clear()
        self._session = session
        self._regions = session.regions if session is not None else ()
        self._rows = {region.id: row for row, region in enumerate(self._regions)}
        self._waiting = set(self._rows)
        with self._gui.updating(), updates_disabled(self._strip):
            self._strip.clear()
            self._strip.addItems([self._text(region) for region in self._regions])
            for row in range(len(self._regions)):
                self._strip.item(row).setSizeHint(self._cell)
        self._look_at(0)

    def select(self, region_id: int) -> None:
        """Mark a region and scroll to it; `on_chosen` is not called."""
        row = self._rows[region_id]
        with self._gui.updating():
            self._strip.setCurrentRow(row)
            self._strip.scrollToItem(self._strip.item(row))
        self._look_at(row)

    def update(self, region_id: int) -> None:
        """Show the verdict that the region has now."""
        row = self._rows[region_id]
        self._strip.item(row).setText(self._text(self._regions[row]))
        self._draw_again([region_id])

    def redraw(self) -> None:
        """Draw all pictures anew: the segmentation has changed."""
        self._pictures.clear()
        self._draw_again(self._rows)

    def set_visible(self, is_visible: bool) -> None:
        """Draw only while the strip can be seen."""
        self._is_visible = is_visible
        self._draw_later.stop()
        if is_visible:
            self._draw_later.trigger()

    def close(self) -> None:
        """Let go of the review."""
        self._draw_later.stop()
        self.show(None)

    # -- items --

    def _text(self, region: Region) -> str:
        """Return the sign of the verdict, if there is one, and the expected error."""
        verdict = self._verdict(region)
        wrong = volume_text(region.expected_wrong_mm3)
        return wrong if verdict is None else f"{verdict_sign(verdict)} {wrong}"

    def _verdict(self, region: Region) -> Verdict | None:
        return self._session.state.verdict_of(region.id) if self._session is not None else None

    def _chosen(self, row: int) -> None:
        if 0 <= row < len(self._regions):
            self._on_chosen(self._regions[row].id)

    # -- pictures --

    def _draw_again(self, region_ids: Sequence[int] | dict[int, int]) -> None:
        self._waiting.update(region_ids)
        self._look_at(self._at)

    def _scrolled(self) -> None:
        found = self._strip.itemAt(qt.QPoint(self._strip.width // 2, PICTURE_PX // 2))
        if found is not None:
            self._look_at(self._strip.row(found))

    def _look_at(self, row: int) -> None:
        """Draw what is in sight, then outwards from this row."""
        self._at = row
        first, last = self._in_sight()
        rows = range(max(0, row - _REACH), min(len(self._regions), row + _REACH + 1))
        self._order = sorted(rows, key=lambda other: (first <= other <= last, -abs(other - row), other > row))
        if self._is_visible and self._waiting:
            self._draw_later.set_delay(_REST_MS)
            self._draw_later.trigger()

    def _draw_some(self) -> None:
        if self._session is None or not self._is_visible:
            return
        began = perf_counter()
        while perf_counter() - began < _STEP_S:
            row = self._next_row()
            if row is None:
                return
            self._draw(row)
        self._draw_later.set_delay(_PAUSE_MS)
        self._draw_later.trigger()

    def _next_row(self) -> int | None:
        """Return the next row without a picture of what holds now."""
        while self._order:
            row = self._order.pop()
            if self._regions[row].id in self._waiting:
                return row
        return None

    def _in_sight(self) -> tuple[int, int]:
        """Return the first and last row that can be seen."""
        strip, y = self._strip, PICTURE_PX // 2
        ends = [strip.itemAt(qt.QPoint(x, y)) for x in (_FRAME_PX, strip.width - 2 * _FRAME_PX)]
        first, last = (None if end is None else strip.row(end) for end in ends)
        return 0 if first is None else first, len(self._regions) if last is None else last

    def _draw(self, row: int) -> None:
        assert self._session is not None
        region, item = self._regions[row], self._strip.item(row)
        self._waiting.discard(region.id)
        item.setToolTip(region.structure)
        if region.id not in self._pictures:
            picture = picture_in_review(self._session, region, PICTURE_PX)
            self._pictures[region.id] = _NO_PICTURE if picture is None else picture
        item.setIcon(_icon(framed(self._pictures[region.id], self._verdict(region))))


def framed(picture: np.ndarray, verdict: Verdict | None) -> np.ndarray:
    """Draw a frame in the verdict's colour over the edge of a picture, (rows, columns, 3); none without a verdict."""
    if verdict is None:
        return picture
    result = picture.copy()
    for edge in (slice(None, _FRAME_PX), slice(-_FRAME_PX, None)):
        result[edge] = COLOURS[verdict]
        result[:, edge] = COLOURS[verdict]
    return result


def _icon(picture: np.ndarray) -> Any:
    pixmap = qt.QPixmap()
    pixmap.loadFromData(as_ppm(picture))
    icon = qt.QIcon(pixmap)
    # Qt would tint the picture of the current region.
    icon.addPixmap(pixmap, qt.QIcon.Selected)
    return icon
