"""Regions in a case folder: `regions.csv`, one row a region, and `regions.nii.gz`, the same as a label volume."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..regions.region import Competition, Kind, Region, Shape
from ..util.csv_files import csv_text, parse_csv, records
from ..util.errors import InputError, wrong_values_named
from ..util.input_files import read_bounded

REGIONS_FILE = "regions.csv"
REGION_LABELS_FILE = "regions.nii.gz"
COLUMNS = (
    *("rank", "id", "structure", "kind", "expected_wrong_mm3", "volume_mm3", "peak"),
    *("peak_r", "peak_a", "peak_s", "centre_r", "centre_a", "centre_s", "competing"),
    *("shape", "size_i", "size_j", "size_k", "touches_border", "model_percentile", "data_percentile"),
    "structure_value",
)
MAKE_AGAIN = "run segwithu regions again"
# Enough for 80 000 regions, where a large case has a few hundred.
MAXIMUM_BYTES = 16 << 20


def regions_csv(regions: Sequence[Region]) -> str:
    """Write the text of `regions.csv`: mm, mm3, RAS; booleans as 0 and 1; unknown values are empty."""
    return csv_text(COLUMNS, map(_cells, regions))


def _cells(region: Region) -> list[object]:
    numbers = [region.expected_wrong_mm3, region.volume_mm3, region.peak]
    positions = [*region.peak_ras_mm, *region.centre_ras_mm]
    percentiles = [region.model_percentile, region.data_percentile]
    return [
        *(region.rank, region.id, region.structure, region.kind.value),
        *("" if value is None else f"{value:.6g}" for value in numbers),
        *(f"{value:.3f}" for value in positions),
        *(_competing(region.competing), region.shape.value),
        *(f"{value:.3f}" for value in region.size_mm),
        int(region.touches_border),
        *("" if value is None else f"{value:.0f}" for value in percentiles),
        region.structure_value,
    ]


def parse_regions(text: str, origin: str = REGIONS_FILE) -> tuple[Region, ...]:
    """Read the text of `regions.csv`; columns that were added later are passed over.

    Raises:
        InputError: a column is missing, or a value is not what it should be.
    """
    header, *rows = parse_csv(text, origin, MAKE_AGAIN) or [[]]
    if rows and (missing := [name for name in COLUMNS if name not in header]):
        raise InputError(f"{origin} has no column '{missing[0]}': {MAKE_AGAIN}.")
    regions = []
    for number, row in enumerate(records([header, *rows]), 2):
        with wrong_values_named(f"{origin}, line {number}", MAKE_AGAIN):
            regions.append(_region(row))
    return tuple(regions)


def read_regions(case_folder: Path) -> tuple[Region, ...]:
    """Read the regions of a case folder, in the order of their ranks.

    Raises:
        InputError: there is no `regions.csv`, or it is damaged.
    """
    return parse_regions(regions_text(case_folder), str(Path(case_folder) / REGIONS_FILE))


def regions_text(case_folder: Path) -> str:
    """Read the text of a case folder's `regions.csv`, with LF line ends.

    Raises:
        InputError: there is none, it is not a regular file, too large, or not UTF-8.
    """
    path = Path(case_folder) / REGIONS_FILE
    if not path.exists():
        raise InputError(f"{path} is missing: make it with segwithu regions.")
    try:
        text = read_bounded(path, MAXIMUM_BYTES, MAKE_AGAIN).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): {MAKE_AGAIN}.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def regions_hash(text: str) -> str:
    """SHA-256 of the text of `regions.csv`: a review belongs to these regions and no others."""
    return hashlib.sha256(text.encode()).hexdigest()


def _competing(confusions: Sequence[Competition]) -> str:
    return "; ".join(
        f"{_plain(confusion.truth)} read as {_plain(confusion.read_as)} {confusion.share:.3f}"
        for confusion in confusions
    )


def _plain(name: str) -> str:
    return name.replace(";", ",")


def _region(row: Mapping[str, str]) -> Region:
    def triple(name: str, letters: str) -> tuple[float, float, float]:
        first, second, third = (float(row[f"{name}_{letter}"]) for letter in letters)
        return first, second, third

    def optional(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    found = Region(id=int(row["id"]), rank=int(row["rank"]), structure=row["structure"],
                   structure_value=int(row["structure_value"]), kind=Kind(row["kind"]), shape=Shape(row["shape"]),
                   expected_wrong_mm3=optional("expected_wrong_mm3"), volume_mm3=float(row["volume_mm3"]),
                   peak=optional("peak"), peak_ras_mm=triple("peak", "ras"), centre_ras_mm=triple("centre", "ras"),
                   size_mm=triple("size", "ijk"),
                   competing=tuple(_way(part) for part in row["competing"].split("; ") if part),
                   touches_border=row["touches_border"] == "1", model_percentile=optional("model_percentile"),
                   data_percentile=optional("data_percentile"))  # fmt: skip
    numbers = (found.expected_wrong_mm3 or 0, found.volume_mm3, found.peak or 0, *found.peak_ras_mm)
    if not all(map(math.isfinite, (*numbers, *found.centre_ras_mm, *found.size_mm))):
        raise ValueError("a figure is not finite")
    return found


def _way(text: str) -> Competition:
    found = re.fullmatch(r"(?P<truth>.*) read as (?P<read_as>.*) (?P<share>[0-9.]+)", text)
    if found is None:
        raise ValueError(f"'{text}' does not say what competes")
    return Competition(found["truth"], found["read_as"], float(found["share"]))
