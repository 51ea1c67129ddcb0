"""Regions in a case folder: `regions.csv`, one row a region, and `regions.nii.gz`, the same as a label volume."""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from .region import Competition, Kind, Region, Shape

REGIONS_FILE = "regions.csv"
REGION_LABELS_FILE = "regions.nii.gz"
COLUMNS = (
    *("rank", "id", "structure", "kind", "expected_wrong_mm3", "volume_mm3", "peak"),
    *("peak_r", "peak_a", "peak_s", "centre_r", "centre_a", "centre_s", "competing"),
    *("shape", "size_i", "size_j", "size_k", "touches_border", "model_percentile", "data_percentile"),
    "structure_value",
)
_WAY = re.compile(r"(?P<truth>.*) read as (?P<read_as>.*) (?P<share>[0-9.]+)")


def regions_csv(regions: Sequence[Region]) -> str:
    """The text of `regions.csv`: mm, mm3, RAS; booleans as 0 and 1; what the model does not tell is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for region in regions:
        numbers = [region.expected_wrong_mm3, region.volume_mm3, region.peak]
        places = [*region.peak_ras_mm, *region.centre_ras_mm]
        percentiles = [region.model_percentile, region.data_percentile]
        writer.writerow(
            [region.rank, region.id, region.structure, region.kind.value]
            + [f"{value:.6g}" for value in numbers]
            + [f"{value:.3f}" for value in places]
            + [_competing(region.competing), region.shape.value]
            + [f"{value:.3f}" for value in region.size_mm]
            + [int(region.touches_border)]
            + ["" if value is None else f"{value:.0f}" for value in percentiles]
            + [region.structure_value]
        )
    return text.getvalue()


def parse_regions(text: str, origin: str = REGIONS_FILE) -> tuple[Region, ...]:
    """Read the text of `regions.csv`; columns that were added later are passed over.

    Raises:
        InputError: a column is missing, or a value is not what it should be.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    if rows and (missing := [name for name in COLUMNS if rows[0].get(name) is None]):
        raise InputError(f"{origin} has no column '{missing[0]}': make it again with segwithu regions.")
    regions = []
    for number, row in enumerate(rows, 2):
        try:
            regions.append(_region(row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{origin}, line {number} is damaged ({error}): run segwithu regions again.") from error
    return tuple(regions)


def read_regions(case_folder: Path) -> tuple[Region, ...]:
    """The regions of a case folder, in the order of their ranks.

    Raises:
        InputError: there is no `regions.csv`, or it is damaged.
    """
    path = Path(case_folder) / REGIONS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): make it with segwithu regions.") from error
    return parse_regions(text, str(path))


def regions_hash(text: str) -> str:
    """SHA-256 of the text of `regions.csv`: a review belongs to these regions and no others."""
    return hashlib.sha256(text.encode()).hexdigest()


def _competing(ways: Sequence[Competition]) -> str:
    return "; ".join(f"{_plain(way.truth)} read as {_plain(way.read_as)} {way.share:.3f}" for way in ways)


def _plain(name: str) -> str:
    return name.replace(";", ",")


def _region(row: Mapping[str, str]) -> Region:
    def triple(name: str, letters: str) -> tuple[float, float, float]:
        first, second, third = (float(row[f"{name}_{letter}"]) for letter in letters)
        return first, second, third

    def optional(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    return Region(
        id=int(row["id"]),
        rank=int(row["rank"]),
        structure=row["structure"],
        structure_value=int(row["structure_value"]),
        kind=Kind(row["kind"]),
        shape=Shape(row["shape"]),
        expected_wrong_mm3=float(row["expected_wrong_mm3"]),
        volume_mm3=float(row["volume_mm3"]),
        peak=float(row["peak"]),
        peak_ras_mm=triple("peak", "ras"),
        centre_ras_mm=triple("centre", "ras"),
        size_mm=triple("size", "ijk"),
        competing=tuple(_way(part) for part in row["competing"].split("; ") if part),
        touches_border=row["touches_border"] == "1",
        model_percentile=optional("model_percentile"),
        data_percentile=optional("data_percentile"),
    )


def _way(text: str) -> Competition:
    found = _WAY.fullmatch(text)
    if found is None:
        raise ValueError(f"'{text}' does not say what competes")
    return Competition(found["truth"], found["read_as"], float(found["share"]))
