"""The table under *Judge*: what the segments of a mask stand for that are not named as structures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import qt
import slicer

from SegWithUCore.models.input_spec import proposed_structures

from ..guarded import guarded
from ..i18n import _
from ..parameters import Parameters
from ..scene.observers import Observations
from ..scene.volume_export import file_name, segment_names
from .widgets import fit_rows, put_cell, set_up_table

_MOST_ROWS = 6


class MaskTable:
    """Shows the segments whose names are not those of structures, each with a choice.

    Args:
        table: the QTableWidget.
        on_change: called when something else is judged than before.
    """

    def __init__(self, table: Any, on_change: Callable[[], None]) -> None:
        self._table, self._on_change, self._watch = table, on_change, Observations()
        self._parameters: Parameters | None = None
        self._structures: Sequence[str] = ()
        self._shown: tuple[dict[str, str], Sequence[str]] = ({}, ())
        set_up_table(table, [_("Segment"), _("Judged as")])
        table.visible = False

    @property
    def labels(self) -> Mapping[str, str]:
        """By segment, as `segment_names` has it, the structures that it stands for; those alone that are judged."""
        return {name: text for name, text in self._shown[0].items() if text}

    def show(self, parameters: Parameters | None, structures: Sequence[str]) -> None:
        """Show the chosen mask: a choice that was made for a name stays, else what the name suggests is proposed.

        Args:
            parameters: None between two scenes.
            structures: of the model, as it names them in the chosen image.
        """
        self._parameters, self._structures = parameters, structures
        self._watch.clear()
        if parameters is not None and parameters.mask is not None:
            for event in ("SegmentAdded", "SegmentRemoved", "SegmentModified"):
                self._watch.add(parameters.mask, getattr(slicer.vtkSegmentation, event), self._draw)
        self._draw()

    def _draw(self, *_event: Any) -> None:
        parameters, exact, found = self._parameters, {file_name(name): name for name in self._structures}, {}
        if parameters is not None and parameters.mask is not None:
            for name in segment_names(parameters.mask).values():
                found[name] = exact.get(name) or {**parameters.labels}.get(name, "?")
                if not {*found[name].split(" + ")} <= {"", *self._structures}:
                    found[name] = " + ".join(proposed_structures(name, self._structures))
        if self._shown == (found, self._structures):
            return
        changed, self._shown = self._shown[0] != found, (found, self._structures)
        rows = [name for name in found if name not in exact]
        self._table.visible = bool(rows)
        self._table.setRowCount(0)  # the boxes of another mask go
        self._table.setRowCount(len(rows))
        for row, name in enumerate(rows):
            box, texts = qt.QComboBox(), list(dict.fromkeys(["", found[name], *self._structures]))
            box.addItems([text or _("not judged") for text in texts])
            box.currentIndex = texts.index(found[name])
            box.connect("activated(int)", guarded(partial(self._choose, name, texts)))
            put_cell(self._table, row, 0, name, name)
            self._table.setCellWidget(row, 1, box)
        fit_rows(self._table, len(rows), 1, _MOST_ROWS)
        if changed:
            self._on_change()

    def _choose(self, name: str, texts: Sequence[str], index: int) -> None:
        """Keep the user's choice for this name."""
        self._shown[0][name] = texts[index]  # first: the table is not drawn again under the user's hand
        if self._parameters is not None:
            self._parameters.labels = {**self._parameters.labels, name: texts[index]}
        self._on_change()
