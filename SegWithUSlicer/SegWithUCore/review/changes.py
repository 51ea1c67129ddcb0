"""Did a structure change between scans of one patient? The volumes of case folders compared.

An interval is that of pairs of scans without a change (`calibration/change.py`), not of two volume intervals: what a
model draws wrong in one scan it draws wrong in the next, too.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.change import EJECTION, SCANNED_TEXT, ChangeInterval, EjectionFraction
from ..calibration.held import names_level
from ..case.case_file import SEGMENTATION_FILE, asked_structures, is_mask_alone, naming_case, read_case
from ..case.case_files import case_volume
from ..case.case_image import case_image
from ..case.structures_table import WHOLES
from ..models.bundle import Bundle
from ..models.input_spec import BOTH_SIDES, without_side
from ..models.installed import resolve_model
from ..util.errors import InputError, UsageError
from .reviewed_case import read_shown_case

CHANGED, DOUBTFUL, NO_CHANGE = "changed", "doubtful", "not distinguishable from no change"
UNKNOWN = "not comparable"
"""What is said of a structure."""
LEAST_CORRELATION, FEWEST_STRUCTURES = 0.8, 5
"""Of the mean grey values of so many structures of two scans: with less they have another contrast. T1 images of
different people have .98 and more, T1 and FLAIR .5 at most (five brains, docs/benchmark/changes.md)."""
OTHER_SPACING, OTHER_WHOLE = 1.2, 0.05
"""Ratio of two voxel edges, and change of the model's denominator, from which on a pair is warned of."""
COLUMNS = (
    *("structure", "baseline", "scan", "before_mm3", "after_mm3", "change_mm3", "percent", "percent_low"),
    *("percent_high", "repeats_within_percent", "verdict", "reason"),
)
"""Of `changes.csv`."""
HEADER = ("structure", "scan", "before mm³", "after mm³", "change", "interval", "repeats within", "verdict")
"""Of the tables that show structure, scan and `Change.cells`."""


@dataclass(frozen=True)
class Change:
    """A structure, or total, in the first scan and in a later one.

    Attributes:
        percent: change in percent of the volume before; None if that is 0.
        interval_percent: of the change; None where no interval is known, or none holds.
        repeats_within_percent: growth that nine in ten scans without a change stay below.
        verdict: `CHANGED`, `DOUBTFUL` (changed, but its interval is not to be relied on), `NO_CHANGE` or `UNKNOWN`.
        reason: why it is not comparable, or its interval not to be relied on; or that volumes show less than a change.
    """

    structure: str
    scan: str
    before_mm3: float
    after_mm3: float
    percent: float | None
    interval_percent: tuple[float, float] | None
    repeats_within_percent: float | None
    verdict: str
    reason: str = ""

    @property
    def ends_percent(self) -> tuple[float, float, float]:
        """Lower end of the interval, change, and upper end; all the change where there is no interval."""
        change = self.percent or 0.0
        low, high = self.interval_percent or (change, change)
        return low, change, high

    def cells(self) -> list[str]:
        """Return what tables show: volumes, change, interval, within what the volume repeats, verdict."""
        percent = "" if self.percent is None else f"{self.percent:+.1f} %"
        interval = "" if self.interval_percent is None else "{:+.1f} to {:+.1f} %".format(*self.interval_percent)
        least = "" if self.repeats_within_percent is None else f"{self.repeats_within_percent:.1f} %"
        verdict = ": ".join(filter(None, (self.verdict, self.reason)))
        return [f"{self.before_mm3:.0f}", f"{self.after_mm3:.0f}", percent, interval, least, verdict]


@dataclass(frozen=True)
class Comparison:
    """Scans of a patient, oldest first, with their changes from the first one.

    Attributes:
        warnings: what may make them differ without a change.
        basis: what the intervals rest on.
    """

    scans: tuple[str, ...]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    basis: str

    def rows(self) -> list[list[Any]]:
        """Return the rows of `changes.csv`; unknown values are empty."""
        found = []
        for each in self.changes:
            low, high = each.interval_percent or (None, None)
            cells = asdict(each) | {"baseline": self.scans[0], "change_mm3": each.after_mm3 - each.before_mm3}
            cells |= {"percent_low": low, "percent_high": high}
            values = [cells[name] for name in COLUMNS]
            found.append(["" if value is None else round(value, 3) if isinstance(value, float) else value
                          for value in values])  # fmt: skip
        return found


@dataclass(frozen=True)
class Scan:
    """What is compared of a case.

    Attributes:
        edited: structures and totals whose volume a reader changed.
        cut: label values that reach the edge of what was segmented.
        grey: mean grey value of each label value; None where the image is not at hand.
    """

    name: str
    case: Mapping[str, Any]
    volumes: Mapping[str, float]
    edited: frozenset[str]
    cut: frozenset[int]
    grey: np.ndarray | None = None


def check_alike(folder: Path, case: Mapping[str, Any], bundle: Bundle) -> None:
    """Check that a case was segmented by a model.

    Raises:
        InputError: by another one, or its segmentation was made elsewhere.
    """
    made = case["model"]
    if case.get("judged") or made["weights_sha256"] != bundle.weights_sha256:
        by = "elsewhere" if case.get("judged") else f"by {made['name']} {made['version']}"
        wanted = f"segment all scans with {bundle.name} {bundle.about['version']}"
        raise InputError(f"The segmentation of {folder} was made {by}: {wanted}.", "other-model")


def volumes_by_name(case: Mapping[str, Any]) -> dict[str, float]:
    """Return the volume of each structure and total of a case, in mm3."""
    entries = [entry for entry in case["structures"] if int(entry["value"]) != 0]
    return {str(each["name"]): float(each["volume_mm3"]) for each in (*entries, *(case.get(WHOLES[0]) or []))}


def compare(folders: Sequence[Path], bundle: Bundle | None = None) -> Comparison:
    """Compare scans of one patient with the first of them, structure by structure.

    Only what is to be measured is compared, with totals of it. What a reader edited in one scan alone is not
    comparable, and what he edited in both has no interval.

    Args:
        folders: case folders in order of date.
        bundle: the model that segmented them all; None for the installed one that the first case names.

    Raises:
        InputError: a case is damaged or of another model, two are of one image, or their contrasts differ.
        UsageError: there is one scan alone, or the model is not installed.
    """
    if len(folders) < 2:
        raise UsageError("One scan cannot be compared: give two or more, oldest first.", "one-scan")
    if is_mask_alone(first_case := read_case(folders[0])):
        raise InputError(f"{folders[0]} was made without a model: segment the scans with one.", "other-model")
    if bundle is None:
        made = first_case["model"]
        bundle = resolve_model(f"{made['name']}@{made['version']}")
    scans = [_read(folder, bundle) for folder in folders]
    first, later = scans[0], scans[1:]
    asked = set.intersection(*(set(asked_structures(scan.case)) for scan in scans))
    totals = [each["name"] for each in first.case.get(WHOLES[0]) or [] if set(_members(first, each["name"])) <= asked]
    names = [name for name in first.volumes if name in asked or name in totals]
    changes, warnings = list[Change](), list[str]()
    if any(set(asked_structures(scan.case)) != asked for scan in scans):
        warnings.append("The scans were to be measured for different structures: only those of all are compared.")
    for scan in later:
        warnings += warnings_of(first, scan)
        changes += [_change(name, first, scan, _interval(bundle, name), _ejection(bundle, name)) for name in names]
    basis = "; ".join(
        f"{SCANNED_TEXT[how]}, {patients} patients"
        for how, patients in sorted({(each.scanned, each.patients) for each in bundle.changes.values()})
    )
    text = f"Intervals: how volumes repeat without a change, in {basis}. Of {len(names)} structures about "
    text += f"{len(names) / 10:.0f} would lie outside by chance. A real change may be larger than what volumes show."
    return Comparison(
        tuple(scan.name for scan in scans),
        tuple(changes),
        tuple(dict.fromkeys(warnings)),
        text if basis else f"{bundle.name} {bundle.about['version']} has no intervals of change.",
    )


def _read(folder: Path, bundle: Bundle) -> Scan:
    case, shown = read_case(folder), read_shown_case(folder)
    with naming_case(folder):
        check_alike(folder, case, bundle)
        drawn, now = volumes_by_name(case), volumes_by_name(shown)
        labels = sitk.GetArrayFromImage(case_volume(folder, case, SEGMENTATION_FILE))
        with suppress(InputError):  # elsewhere, so its contrast is not compared, with a warning
            image = sitk.GetArrayFromImage(case_image(folder, case))
            grey = np.bincount(labels.ravel(), image.ravel()) / np.maximum(np.bincount(labels.ravel()), 1)
            return Scan(folder.name, case, now, _differing(drawn, now), _cut(case, labels), grey)
    return Scan(folder.name, case, now, _differing(drawn, now), _cut(case, labels))


def _interval(bundle: Bundle, name: str) -> ChangeInterval | None:
    """Return the interval of a structure or total; the sum of two sides changes by no larger share than either."""
    own = without_side(name)
    return bundle.changes.get(own) or bundle.changes.get(own.removesuffix(BOTH_SIDES))


def _ejection(bundle: Bundle, name: str) -> EjectionFraction | None:
    block = ((bundle.calibration or {}).get(EJECTION) or {}).get(name)
    return None if block is None else EjectionFraction(**block)


def _differing(drawn: Mapping[str, float], now: Mapping[str, float]) -> frozenset[str]:
    return frozenset(name for name, volume in drawn.items() if abs(now[name] - volume) > 1e-6)


def _cut(case: Mapping[str, Any], labels: np.ndarray) -> frozenset[int]:
    """Return the values that occur in the outermost voxels of what was segmented."""
    (i, j, k), (width, height, depth) = case["assessed"]["index_ijk"], case["assessed"]["size_ijk"]
    inside = labels[k : k + depth, j : j + height, i : i + width]
    faces = (inside.take(end, axis) for axis in range(3) for end in (0, -1))
    return frozenset(int(value) for face in faces for value in np.unique(face)) - {0}


def _members(scan: Scan, name: str) -> dict[str, int]:
    """Return name and value of the structures of a total, or of the one of that name."""
    of = {value for each in scan.case.get(WHOLES[0]) or [] if each["name"] == name for value in each["of"]}
    values = {str(entry["name"]): int(entry["value"]) for entry in scan.case["structures"]}
    return {each: value for each, value in values.items() if value in of or each == name}


def _change(
    name: str, first: Scan, scan: Scan, interval: ChangeInterval | None, ejection: EjectionFraction | None
) -> Change:
    before, after = first.volumes[name], scan.volumes[name]
    scans, values = (first, scan), set(_members(first, name).values())
    edited = [each.name for each in scans if name in each.edited]
    # A stack of short-axis slices often ends in a ventricle; the limits were fitted on such stacks.
    cut = [each.name for each in scans if values & each.cut and ejection is None]
    reasons = {
        f"edited in {' and '.join(edited)}": edited,
        f"cut off at the edge of {' and '.join(cut)}": cut,
        "nothing was segmented": min(before, after) <= 0,
        "give end-diastole first": ejection is not None and after > before,
        "the model has no interval of its change": interval is None and ejection is None,
    }
    reason = next((text for text, holds in reasons.items() if holds), "")
    percent = 100 * (after / before - 1) if before > 0 else None
    if ejection is not None and not reason:
        fraction, low, high = ejection(before, after)
        text = f"ejection fraction {fraction:.0f} % ({low:.0f} to {high:.0f} %) from end-diastole to end-systole"
        verdict = NO_CHANGE if low <= 0 <= high else CHANGED
        return Change(name, scan.name, before, after, percent, (-high, -low), None, verdict, text)
    if reason or interval is None:
        return Change(name, scan.name, before, after, percent, None, None, UNKNOWN, reason)
    percent, low, high = interval(before, after)
    is_poor = not names_level(interval.held, interval.held_of)
    verdict = NO_CHANGE if low <= 0 <= high else DOUBTFUL if is_poor else CHANGED
    texts = {f"its interval held in {interval.held} of {interval.held_of} unchanged pairs only": is_poor,
             f"such volumes show {interval.recovered or 0:.0%} of a change of 10 %": interval.is_damped}  # fmt: skip
    reason = ", ".join(text for text, holds in texts.items() if holds)
    within = interval.repeats_within_percent
    return Change(name, scan.name, before, after, percent, (low, high), within, verdict, reason)


def warnings_of(first: Scan, scan: Scan) -> list[str]:
    """Return what may make two scans differ without a change.

    Raises:
        InputError: they are one image, or differ in contrast.
    """
    hashes = [[each["voxels_sha256"] for each in one.case["input"]["channels"]] for one in (first, scan)]
    if hashes[0] == hashes[1]:
        raise InputError(f"{first.name} and {scan.name} are of one image: give two scans.", "same-image")
    found, pair = [], f"{first.name} and {scan.name}"
    found += [f"The image of {one.name} is not at hand: its contrast was not compared." for one in (first, scan)
              if one.grey is None]  # fmt: skip
    drawn = [{int(each["value"]) for each in one.case["structures"] if each["voxels"]} - {0} for one in (first, scan)]
    common = sorted(drawn[0] & drawn[1])
    if first.grey is not None and scan.grey is not None and len(common) >= FEWEST_STRUCTURES:
        correlation = float(np.corrcoef(first.grey[common], scan.grey[common])[0, 1])
        if correlation < LEAST_CORRELATION:
            what = f"{pair} differ in contrast (correlation of the mean grey values {correlation:.2f})"
            raise InputError(f"{what}: compare scans of one protocol.", "other-contrast")
    spacings = [sorted(one.case["input"]["grid"]["spacing_mm"]) for one in (first, scan)]
    if max(max(a / b, b / a) for a, b in zip(*spacings, strict=True)) > OTHER_SPACING:
        texts = [" x ".join(f"{edge:.3g}" for edge in each) for each in spacings]
        found.append(f"{pair} have voxels of {texts[0]} and {texts[1]} mm: volumes may differ for that alone.")
    for one in (first, scan):
        given = (one.case.get("ood") or {}).get("warnings") or []  # cases of earlier versions lack it
        warned = len([each for each in given if each.get("structure") is None and each.get("severity") != "note"])
        found += [f"{one.name} is out of distribution in {warned} points: see its report."] if warned else []
    for total in first.case.get(WHOLES[0]) or []:
        if total.get("is_denominator") and first.volumes[total["name"]] > 0:
            change = scan.volumes[total["name"]] / first.volumes[total["name"]] - 1
            if abs(change) > OTHER_WHOLE:
                found.append(f"The {total['name']} of {pair} differs by {change:+.0%}: are they of one patient?")
    return found
