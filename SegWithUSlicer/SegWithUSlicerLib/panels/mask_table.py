"""The table under *Judge*: what the segments of a mask stand for that are not named as structures."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import qt

from SegWithUCore.models.input_spec import proposed_structures

from ..guarded import guarded
from ..i18n import _
from ..parameters import Parameters
from ..scene.volume_export import file_name, segment_names
from .widgets import fit_rows, set_up_table

_MOST_ROWS = 6


class MaskTable:
    """Shows the segments whose names are not those of structures, each with a choice.

    Args:
        table: the QTableWidget.
        on_change: called when something else is judged than before.
    """

    def __init__(self, table: Any, on_change: Callable[[], None]) -> None:
        self._table, self._on_change = table, on_change
        self._shown: tuple[dict[str, str], Sequence[str]] = ({}, ())
        set_up_table(table, [_("Segment"), _("Judged as")])
        table.visible = False

    @property
    def labels(self) -> Mapping[str, str]:
        """By segment, as `segment_names` has it, the structures that it stands for; those alone that are judged."""
        return {name: text for name, text in self._shown[0].items() if text}

    def show(self, parameters: Parameters, structures: Sequence[str]) -> None:
        """Show the chosen mask: a choice that was made for a name stays, else what the name suggests is proposed.

        Args:
            structures: of the model, as it names them in the chosen image.
        """
        segments = [] if parameters.mask is None else list(dict.fromkeys(segment_names(parameters.mask).values()))
        exact = {file_name(name): name for name in structures}
        chosen = {**dict.fromkeys(segments, None), **json.loads(parameters.labels or "{}")}
        found = {}
        for name in segments:
            if name not in exact and (chosen[name] is None or not set(chosen[name].split(" + ")) <= {"", *structures}):
                chosen[name] = " + ".join(proposed_structures(name, structures))
            found[name] = exact.get(name, chosen[name])
        if self._shown == (found, structures):
            return
        self._shown = (found, structures)
        rows = [name for name in segments if name not in exact]
        self._table.visible = bool(rows)
        self._table.setRowCount(0)  # the boxes of another mask go
        self._table.setRowCount(len(rows))
        for row, name in enumerate(rows):
            item, box = qt.QTableWidgetItem(name), qt.QComboBox()
            item.setToolTip(name)
            self._table.setItem(row, 0, item)
            box.addItem(_("not judged"), "")
            for text in dict.fromkeys(filter(None, [found[name], *structures])):
                box.addItem(text, text)
            box.currentIndex = box.findData(found[name])
            box.connect("activated(int)", guarded(partial(self._choose, parameters, name, box)))
            self._table.setCellWidget(row, 1, box)
        fit_rows(self._table, len(rows), 1, _MOST_ROWS)
        self._on_change()

    def _choose(self, parameters: Parameters, name: str, box: Any, index: int) -> None:
        """Keep the user's choice for this name."""
        self._shown[0][name] = box.itemData(index)  # first: the table is not drawn again under the user's hand
        parameters.labels = json.dumps({**json.loads(parameters.labels or "{}"), name: box.itemData(index)})
        self._on_change()
