"""The table of structures of the shown run: ticks say which are measured, a click goes to one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import qt

from SegWithUCore.case.case_file import CaseDescription, Structure, is_mask_alone
from SegWithUCore.case.structures_table import short_name, table_entries
from SegWithUCore.report.tables import expected_cell, volume_cell
from SegWithUCore.review.flags import Rule

from ..i18n import _
from ..run.session import waiting_cursor
from ..scene.case_nodes import CaseNodes
from ..scene.readout import dice_text, expected_text, typeset, volume_text
from ..scene.slice_views import show_in_3d, show_structure
from .widgets import GuiConnections, fit_rows, put_cell, set_up_table

_OF_MODELS = (2, 4, 5)
"""Columns that only a model fills."""
_FOLLOW = ("volume_mm3", "expected_wrong_mm3")
"""What follows an edit."""
_MOST_ROWS = 8
RULES = {
    Rule.WRONG_SHARE: _("much is wrong"),
    Rule.SOFT_DICE: _("not certain"),
    Rule.OOD: _("unusual"),
    Rule.EMPTY: _("nothing drawn"),
    Rule.MISPLACED: _("elsewhere"),
}
"""Abbreviated for a column; the tool tip has the reason."""


class StructuresPanel:
    """The table of structures in the section "Result".

    Args:
        ui: the widgets of the .ui file.

    Attributes:
        on_ticked: called with the names of the ticked structures when the user has changed them.
        on_structure: called with the name of the structure that was clicked; not True if nothing was done.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.on_ticked: Callable[[Sequence[str]], None] = lambda names: None
        self.on_structure: Callable[[str], bool | None] = lambda name: False
        self._nodes: CaseNodes | None = None
        self._structures: Sequence[Structure] = ()
        self._figures: Mapping[str, Mapping[str, Any]] = {}
        self._was_tick = False
        self._gui = GuiConnections()
        titles = [_("Structure"), _("Flag"), _("Pred. Dice"), _("Volume"), _("Expected"), _("Likely wrong")]
        table = ui.structuresTable
        set_up_table(table, titles)
        table.horizontalHeader().setMaximumSectionSize(200)  # the flag is visible in a panel of 360 px
        table.setToolTip(
            _(
                "Flag: which rule flags the structure; its tool tip has the reason. Pred. Dice: the overlap with an "
                "expert's drawing that the model expects. "
                "Volume: of the segmentation. Expected: the volume that the calibrated model expects; its tool tip "
                "has the interval of the true volume, and how often that held. Likely wrong: the expected volume of "
                "errors. Ticks: the structures to be measured and reviewed; a click on the header ticks all or none. "
                "A click on a name shows the structure and centres it. Totals and asymmetries follow the structures; "
                "L - R is left minus right volume, in percent of their mean."
            )
        )
        self._gui.connect_signal(table, "cellPressed(int,int)", self._pressed)
        self._gui.connect_signal(table, "itemChanged(QTableWidgetItem*)", self._ticked)
        self._gui.connect_signal(table, "cellClicked(int,int)", self._clicked)
        self._gui.connect_signal(table.horizontalHeader(), "sectionClicked(int)", self._tick_all)
        self._gui.connect(ui.show3DBox, self._show_in_3d, self._is_in_3d)
        self.show(None)

    def show(self, nodes: CaseNodes | None) -> None:
        """Show the structures of a run, or none."""
        self._nodes = nodes
        self._structures = nodes.case.structures if nodes is not None else ()
        for column in _OF_MODELS:
            self.ui.structuresTable.setColumnHidden(column, nodes is not None and is_mask_alone(nodes.case.raw))
        self.show_figures({})
        self._gui.refresh()

    def tick(self, names: Collection[str]) -> None:
        """Tick the structures of these names, and no others."""
        with self._gui.updating():
            for row, structure in enumerate(self._structures):
                ticked = qt.Qt.Checked if structure.name in names else qt.Qt.Unchecked
                self.ui.structuresTable.item(row, 0).setCheckState(ticked)

    def show_figures(self, figures: Mapping[str, Mapping[str, Any]]) -> None:
        """Show figures after a reviewer's work; of structures that are not named, the model's are shown again.

        Args:
            figures: by name, the entry of `table_entries`, with `edited` or `read_by`.
        """
        self._figures = figures
        entries = table_entries(self._nodes.case.raw) if self._nodes is not None else []
        entries = [{**entry, **figures.get(entry["name"], {})} for entry in entries]
        header = self.ui.structuresTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Fixed)  # not at each cell
        with self._gui.updating():
            self._fill(entries, self._nodes is not None and was_refused(self._nodes.case))
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)  # also in another font
        fit_rows(self.ui.structuresTable, len(entries), 1, _MOST_ROWS)

    def _fill(self, entries: Sequence[Mapping[str, Any]], refused: bool) -> None:
        table, structures = self.ui.structuresTable, self._structures
        table.setRowCount(len(entries))
        for row, structure in enumerate(structures):
            texts = _texts(structure, refused, self._figures.get(structure.name, {}))
            # Names may be cut off, and flags are abbreviated.
            tips = {0: structure.name, 1: "\n".join(map(typeset, structure.flags)) or texts[1]}
            tips |= {} if refused or texts[4] == "-" else {4: _interval_text(entries[row])}
            for column, text in enumerate(texts):
                item = put_cell(table, row, column, text, tips.get(column, ""))
                if column == 0:
                    item.setIcon(_swatch(structure.color))
                    item.setCheckState(item.checkState())  # a tick, which the width has room for
        for row, entry in enumerate(entries[len(structures) :], len(structures)):
            tips = {0: entry["name"], 4: "" if _is_changed(entry) else _interval_text(entry)}
            for column, text in enumerate(_whole_texts(entry)):
                put_cell(table, row, column, text, tips.get(column, ""))
            # A structure of another case may have had its tick and its colour in this row.
            table.item(row, 0).setData(qt.Qt.CheckStateRole, None)
            table.item(row, 0).setIcon(qt.QIcon())

    def _pressed(self, _row: int, _column: int) -> None:
        self._was_tick = False

    def _ticked(self, _item: Any) -> None:
        self._was_tick = True
        self.on_ticked(self._ticked_names())

    def _ticked_names(self) -> list[str]:
        first = [self.ui.structuresTable.item(row, 0) for row in range(len(self._structures))]
        ticked = zip(self._structures, first, strict=True)
        return [structure.name for structure, item in ticked if item.checkState() == qt.Qt.Checked]

    def _tick_all(self, column: int) -> None:
        if column == 0 and self._structures:
            names = [structure.name for structure in self._structures]
            self.tick([] if self._ticked_names() == names else names)
            self.on_ticked(self._ticked_names())

    def _clicked(self, row: int, _column: int) -> None:
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if self._was_tick or segmentation is None or row >= len(self._structures):
            return
        if not self.on_structure(self._structures[row].name):
            show_structure(segmentation, self._structures[row].value)

    def _show_in_3d(self, checked: bool) -> None:
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if segmentation is not None:
            with waiting_cursor():
                show_in_3d(segmentation, checked)

    def _is_in_3d(self) -> bool:
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if segmentation is None or segmentation.GetDisplayNode() is None:
            return False
        has_surface = segmentation.GetSegmentation().ContainsRepresentation("Closed surface")
        return bool(has_surface and segmentation.GetDisplayNode().GetVisibility3D())


def was_refused(case: CaseDescription) -> bool:
    """Check whether the user insisted on a run that is far from the training cases: its numbers mean nothing."""
    warnings = (case.raw.get("ood") or {}).get("warnings") or []
    return any(warning.get("severity") == "refused" for warning in warnings)


def _texts(structure: Structure, refused: bool, figures: Mapping[str, Any]) -> list[str]:
    structure = replace(structure, **{name: figures[name] for name in _FOLLOW if name in figures})
    name, volume = short_name(structure.name), volume_text(structure.volume_mm3)
    if refused:
        unknown = _("not assessed")
        return [name, _("far from the training cases"), unknown, volume, unknown, unknown]
    expected, wrong = volume_text(structure.expected_volume_mm3), volume_text(structure.expected_wrong_mm3)
    reader, dice = figures.get("read_by"), dice_text(structure)
    if _is_changed(figures):
        dice = expected = "-"  # of the model's segmentation
    flag = _("read by {name}").format(name=reader) if reader else flag_text(structure) or "-"
    return [name, flag, dice, volume, expected, wrong]


def _whole_texts(entry: Mapping[str, Any]) -> list[str]:
    volume, expected = volume_cell(entry), expected_cell(entry)
    if "volume_mm3" in entry:
        volume, expected = volume_text(entry["volume_mm3"]), volume_text(entry.get("expected_volume_mm3"))
    if _is_changed(entry):
        expected = "-"
    name = entry["name"].replace("asymmetry of", "L - R:")  # what tells names apart must not be cut off
    return [name, "-", "", volume, expected, ""]


def _is_changed(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("read_by") or entry.get("edited"))


def _interval_text(entry: Mapping[str, Any]) -> str:
    volumes = (entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3"))
    text = expected_text(*volumes) if "volume_mm3" in entry else expected_cell(entry)
    return f"{text}\n{entry['held_text']}".strip()


def flag_text(structure: Structure) -> str:
    """Return the rules that flag a structure, abbreviated; the message of a rule without an abbreviation."""
    known = {rule.value: name for rule, name in RULES.items()}
    flags = zip(structure.flag_rules, structure.flags, strict=True)
    return "; ".join(dict.fromkeys(known.get(rule, message) for rule, message in flags))


def _swatch(color: tuple[int, int, int]) -> Any:
    pixmap = qt.QPixmap(14, 14)
    pixmap.fill(qt.QColor(128, 128, 128))  # a frame: dark colours are seen in the dark style, too
    painter = qt.QPainter(pixmap)
    painter.fillRect(1, 1, 12, 12, qt.QColor(*color))
    painter.end()
    return qt.QIcon(pixmap)
