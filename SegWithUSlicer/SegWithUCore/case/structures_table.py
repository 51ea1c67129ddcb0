"""`structures.csv`: the figures of the structures as a table, of one case or of many. Standard library only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..util.csv_files import write_csv
from ..util.errors import InputError
from .case_file import naming_case, read_case

STRUCTURES_FILE = "structures.csv"
# Name of the background in tables: tissue of structures that the segmentation has missed.
OUTSIDE = "outside (missed tissue)"
COLUMNS = (
    *("case", "structure", "label", "voxels", "volume_mm3", "expected_volume_mm3", "expected_low_mm3"),
    *("expected_high_mm3", "predicted_dice", "expected_wrong_mm3", "uncertain_mm3", "model", "flags"),
)


def structure_rows(case: Mapping[str, Any]) -> list[list[Any]]:
    """Return one row per structure and one for the background; unknown values are empty.

    Args:
        case: the content of its `case.json`.
    """
    entries = sorted(case["structures"], key=lambda entry: int(entry["value"]) == 0)
    return [_row(case, entry) for entry in entries]


def write_structures(case: Mapping[str, Any], path: Path) -> None:
    """Write the table of one case, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    write_csv(path, COLUMNS, structure_rows(case))


def write_structures_of(folders: Sequence[Path], path: Path) -> list[str]:
    """Write the table of many cases; returns a sentence for each that could not be read.

    Raises:
        OutputError: the place cannot be written to.
    """
    rows: list[list[Any]] = []
    troubles = []
    for folder in folders:
        try:
            case = read_case(folder)
            with naming_case(folder):
                rows += structure_rows(case)
        except InputError as error:
            troubles.append(str(error))
    write_csv(path, COLUMNS, rows)
    return troubles


def _row(case: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Any]:
    value, name = int(entry["value"]), str(entry["name"])
    interval = entry.get("expected_interval_mm3") or [None, None]
    flags = [flag["rule"] for flag in case.get("flags") or [] if flag.get("structure") in (name, value)]
    if value == 0:
        figures = [None] * 6
        flags = [flag["rule"] for flag in case.get("flags") or [] if flag.get("structure") is None]
    else:
        figures = [
            *(entry.get(key) for key in ("voxels", "volume_mm3", "expected_volume_mm3")),
            *interval,
            entry.get("predicted_dice"),
        ]
    cells = [*figures, entry.get("expected_wrong_mm3"), entry.get("uncertain_mm3")]
    model = case.get("model") or {}
    named = f"{model.get('name', '')} {model.get('version', '')}".strip()
    shown = [str(case["name"]), OUTSIDE if value == 0 else name, value, *map(_cell, cells), named]
    return [*shown, "; ".join(dict.fromkeys(flags))]


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 4) if isinstance(value, float) else value
