"""`structures.csv`: the figures of the structures as a table, of one case or of many. Standard library only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..calibration.held import held_text
from ..util.csv_files import write_csv
from ..util.errors import InputError
from .case_file import naming_case

STRUCTURES_FILE = "structures.csv"
# Name of the background in tables: tissue of structures that the segmentation has missed.
OUTSIDE = "outside (missed tissue)"
COLUMNS = (
    *("case", "structure", "label", "voxels", "volume_mm3", "expected_volume_mm3", "expected_low_mm3"),
    *("expected_high_mm3", "predicted_dice", "expected_wrong_mm3", "uncertain_mm3", "model", "flags"),
    *("percent", "percent_low", "percent_high", "calibration_cases", "held", "held_of", "read_by"),
)
# Keys of `case.json` beside the structures; cases of earlier versions have neither.
WHOLES = ("totals", "asymmetries")


def short_name(name: str) -> str:
    """Shorten the name of a structure for narrow columns: "L hippocampus", "R cerebral WM"."""
    side = next((each for each in ("left ", "right ") if name.startswith(each)), "")
    return f"{side[:1].upper()} {name.removeprefix(side)}".strip().replace(" white matter", " WM")


def table_entries(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what every table of a case has a row for: structures, then totals, then asymmetries.

    Each has a `name` and the keys of its entry in `case.json`, with `held_text` (empty without an interval) and
    `percent`: of a volume in percent of the model's denominator, where that is there, else the asymmetry.

    Args:
        case: the content of its `case.json`.
    """
    structures = [entry for entry in case["structures"] if int(entry["value"]) != 0]
    totals, asymmetries = (case.get(name) or [] for name in WHOLES)
    volumes = [*structures, *totals]
    whole = next((float(entry["volume_mm3"]) for entry in volumes if entry.get("is_denominator")), 0.0)
    found = [{**each, "percent": 100 * each["volume_mm3"] / whole if whole else None} for each in volumes]
    found += [{**each, "name": f"asymmetry of {each['name']}"} for each in asymmetries]
    for each in found:
        has_interval = each.get("expected_interval_mm3") or each.get("interval_percent")
        behind = (each.get(name) for name in ("held", "held_of", "calibration_cases"))
        each["held_text"] = held_text(*behind) if has_interval else ""
    return found


def structure_rows(case: Mapping[str, Any]) -> list[list[Any]]:
    """Return one row per entry of `table_entries`, and one for the background; unknown values are empty.

    Args:
        case: the content of its `case.json`.
    """
    outside = [entry for entry in case["structures"] if int(entry["value"]) == 0]
    return [_row(case, entry) for entry in (*table_entries(case), *outside)]


def write_structures(case: Mapping[str, Any], path: Path) -> None:
    """Write the table of one case, whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    write_csv(path, COLUMNS, structure_rows(case))


def write_structures_of(folders: Sequence[Path], path: Path, read: Callable[[Path], Mapping[str, Any]]) -> list[str]:
    """Write the table of many cases; returns a sentence for each that could not be read.

    Args:
        read: returns the content of a case.

    Raises:
        OutputError: the place cannot be written to.
    """
    rows: list[list[Any]] = []
    troubles = []
    for folder in folders:
        try:
            case = read(folder)
            with naming_case(folder):
                rows += structure_rows(case)
        except InputError as error:
            troubles.append(str(error))
    write_csv(path, COLUMNS, rows)
    return troubles


def _row(case: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Any]:
    value, model = entry.get("value"), case.get("model") or {}
    about = (None,) if value == 0 else (entry["name"], value)
    if value == 0:
        entry = {name: entry.get(name) for name in ("expected_wrong_mm3", "uncertain_mm3")}
    ends, percents = (entry.get(name) or (None, None) for name in ("expected_interval_mm3", "interval_percent"))
    flags = [flag["rule"] for flag in case.get("flags") or [] if flag.get("structure") in about]
    cells = {
        **entry,
        **dict(zip(("expected_low_mm3", "expected_high_mm3"), ends, strict=True)),
        **dict(zip(("percent_low", "percent_high"), percents, strict=True)),
        "case": str(case["name"]),
        "structure": entry.get("name", OUTSIDE),
        "label": value,
        "model": f"{model.get('name', '')} {model.get('version', '')}".strip(),
        "flags": "; ".join(dict.fromkeys(flags)),
    }
    return [_cell(cells.get(name)) for name in COLUMNS]


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 4) if isinstance(value, float) else value
