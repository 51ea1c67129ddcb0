"""`curves.json` of a model bundle: reliability and risk-coverage of its error probability on the test cases.

The file names the weights and the calibration that were measured, so curves of another calibration are never shown.
Bundles without it work, too. Read in Slicer's window: neither torch nor jsonschema.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..metrics.curves import ErrorCurves
from ..util.atomic_files import atomic_file
from ..util.errors import OTHER_VERSION, InputError
from ..util.input_files import is_there
from ..util.strict_json import read_json_object, to_json, typed

CURVES_FILE = "curves.json"
FORMAT, VERSION = "segwithu-curves", 1
REMEDY = "make it again with `segwithu evaluate --record-curves`"
MAXIMUM_BYTES = 4 << 20
"""Of the file: that of the shipped model, with two heads, has 80 kB."""
WHOLE = "whole"
"""The region of all voxels that were assessed."""
_DIGITS = 9


@dataclass(frozen=True)
class ModelCurves:
    """The curves of one head.

    Attributes:
        head: its name.
        weights_sha256, calibration_sha256: of the model that was measured.
        cases: how many test cases were.
        regions: curves by region: "whole" for all that was assessed, "band" near the predicted surface.
    """

    head: str
    weights_sha256: str
    calibration_sha256: str
    cases: int
    regions: Mapping[str, ErrorCurves]

    def to_json(self) -> dict[str, Any]:
        """Make one entry of the file; numbers are rounded to what a plot can show."""
        entry = asdict(self)
        entry["regions"] = {name: _rounded(asdict(curves)) for name, curves in self.regions.items()}
        return entry


def read_curves(folder: Path) -> list[ModelCurves]:
    """Read the curves of a bundle; an empty list without the file.

    Raises:
        InputError: the file is damaged; it says where.
    """
    path = folder / CURVES_FILE
    if not is_there(path):
        return []
    content = read_json_object(path, REMEDY, MAXIMUM_BYTES)
    if content.get("format") != FORMAT or content.get("format_version") != VERSION:
        found = f"{content.get('format')} {content.get('format_version')}"
        raise InputError(f"{path} has the format {found:.60} instead of {FORMAT} {VERSION}: {REMEDY}.", OTHER_VERSION)
    try:
        entries: Sequence[ModelCurves] = typed(Sequence[ModelCurves], content["curves"])
        for entry in entries:
            for curves in (entry.regions[WHOLE], *entry.regions.values()):
                _check_curves(curves)
        return list(entries)
    except (LookupError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!r:.200}): {REMEDY}.") from error


def find_curves(folders: Iterable[Path], weights_sha256: str, calibration_sha256: str) -> ModelCurves | None:
    """Find the curves of these weights with this calibration in the folders of bundles; None if nobody measured them.

    Raises:
        InputError: a file is damaged.
    """
    wanted = weights_sha256, calibration_sha256
    for folder in folders:
        for found in read_curves(folder):
            if (found.weights_sha256, found.calibration_sha256) == wanted:
                return found
    return None


def write_curves(folder: Path, curves: ModelCurves) -> None:
    """Put the curves of a head into a bundle's file, in place of what the file holds of that head.

    Curves of other weights go: the file speaks of the bundle that it lies in. So does a file that is damaged.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        found = read_curves(folder)
    except InputError:
        found = []
    kept = [one for one in found if one.head != curves.head and one.weights_sha256 == curves.weights_sha256]
    entries = sorted([*kept, curves], key=lambda entry: entry.head)
    content = {"format": FORMAT, "format_version": VERSION, "curves": [entry.to_json() for entry in entries]}
    with atomic_file(folder / CURVES_FILE) as work:
        work.write_text(to_json(content) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_curves(curves: ErrorCurves) -> None:
    """Raise ValueError where numbers are not what a curve has."""
    counts = [curves.voxels, curves.errors, *(one.voxels for one in curves.bins)]
    shares = [value for one in curves.bins for value in (one.low, one.high, one.predicted, one.observed)]
    shares += [curves.expected_calibration_error, curves.aurc, *curves.coverage, *curves.risk]
    if min(counts) < 0 or not all(0 <= value <= 1 for value in shares):
        raise ValueError("a number of voxels is below 0, or a share is not between 0 and 1")
    rises = all(a <= b for a, b in pairwise(curves.coverage))
    if not curves.bins or not curves.coverage or len(curves.coverage) != len(curves.risk) or not rises:
        raise ValueError("a curve is empty, or its coverage does not rise")
