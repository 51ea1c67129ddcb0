"""The table of structures of the shown run; a click centres a structure."""

from collections.abc import Mapping
from typing import Any

import qt

from SegWithUCore.case.case_file import CaseDescription, Structure
from SegWithUCore.case.structures_table import table_entries
from SegWithUCore.report.tables import expected_cell, volume_cell
from SegWithUCore.review.flags import Rule

from ..guarded import guarded
from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.readout import dice_text, expected_text, typeset, volume_text
from ..scene.slice_views import show_in_3d, show_structure
from .widgets import GuiConnections, fit_columns, fit_rows, put_cell, set_up_table

_WIDEST_PX = (200, 97, 95)
"""Of the first columns: all three are visible in a panel of 420 px. If the first is narrower, names that differ in the
middle (cerebral, cerebellar) look the same."""
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
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self._nodes: CaseNodes | None = None
        self._values: list[int] = []
        self._gui = GuiConnections()
        titles = [_("Structure"), _("Flag"), _("Pred. Dice"), _("Volume"), _("Expected"), _("Likely wrong")]
        table = ui.structuresTable
        set_up_table(table, titles)
        table.setToolTip(
            _(
                "Flag: which rule flags the structure; its tool tip has the reason. Pred. Dice: the overlap with an "
                "expert's drawing that the model expects. "
                "Volume: of the segmentation. Expected: the volume that the calibrated model expects; its tool tip "
                "has the interval of the true volume, and how often that held. Likely wrong: the expected volume of "
                "errors. A click shows the structure and centres it. Totals and asymmetries follow the structures; "
                "L - R is left minus right volume, in percent of their mean."
            )
        )
        table.connect("cellClicked(int,int)", guarded(self._clicked))
        self._gui.connect(ui.show3DBox, self._show_in_3d, self._is_in_3d)
        self.show(None)

    def show(self, nodes: CaseNodes | None) -> None:
        """Show the structures of a run, or none."""
        self._nodes = nodes
        structures = nodes.case.structures if nodes is not None else ()
        refused = nodes is not None and was_refused(nodes.case)
        self._values = [structure.value for structure in structures]
        entries = table_entries(nodes.case.raw) if nodes is not None else []
        table = self.ui.structuresTable
        table.setRowCount(0)  # or totals get the colours that structures of another case had in their rows
        table.setRowCount(len(entries))
        for row, structure in enumerate(structures):
            texts = _texts(structure, refused)
            # Names may be cut off, and flags are abbreviated.
            tips = {0: texts[0], 1: "\n".join(map(typeset, structure.flags)) or texts[1]}
            tips |= {} if refused else {4: _interval_text(entries[row])}
            for column, text in enumerate(texts):
                item = put_cell(table, row, column, text, tips.get(column, ""))
                if column == 0:
                    item.setIcon(_swatch(structure.color))
        for row, entry in enumerate(entries[len(structures) :], len(structures)):
            tips = {0: entry["name"], 4: _interval_text(entry)}
            for column, text in enumerate(_whole_texts(entry)):
                put_cell(table, row, column, text, tips.get(column, ""))
        fit_columns(table, _WIDEST_PX)
        fit_rows(table, len(entries), 1, _MOST_ROWS)
        self._gui.refresh()

    def _clicked(self, row: int, _column: int) -> None:
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if segmentation is not None and row < len(self._values):
            show_structure(segmentation, self._values[row])

    def _show_in_3d(self, checked: bool) -> None:
        segmentation = self._nodes.segmentation if self._nodes is not None else None
        if segmentation is not None:
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


def _texts(structure: Structure, refused: bool) -> list[str]:
    name, volume = structure.name, volume_text(structure.volume_mm3)
    if refused:
        unknown = _("not assessed")
        return [name, _("far from the training cases"), unknown, volume, unknown, unknown]
    expected, wrong = volume_text(structure.expected_volume_mm3), volume_text(structure.expected_wrong_mm3)
    return [name, flag_text(structure) or "-", dice_text(structure), volume, expected, wrong]


def _whole_texts(entry: Mapping[str, Any]) -> list[str]:
    volume, expected = volume_cell(entry), expected_cell(entry)
    if "volume_mm3" in entry:
        volume, expected = volume_text(entry["volume_mm3"]), volume_text(entry.get("expected_volume_mm3"))
    name = entry["name"].replace("asymmetry of", "L - R:")  # what tells names apart must not be cut off
    return [name, "-", "", volume, expected, ""]


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
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)
