"""What a reader signs: the volume of each asked structure that is finished, or measured well enough to stop.

A signature is a line of the log. It holds until the review goes on, or the segmentation changes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..calibration.held import names_level
from ..case.case_file import SEGMENTATION_FILE
from ..case.case_files import FILE_SHA256, file_records
from ..util.errors import UsageError
from .flags import asked_of, case_flags, rules_of_case
from .log_format import Signed, SignedVolume
from .reviews import Review

TOLERANCE = 0.1
"""Half width of its interval, relative to the expected volume, at which a structure counts as measured."""
FINISHED, MEASURED = "finished", "measured"
COLUMNS = (
    *("case", "structure", "label", "volume_mm3", "expected_volume_mm3", "expected_low_mm3", "expected_high_mm3"),
    *("basis", "reader", "signed", "segmentation_sha256", "model"),
)
"""Of `volumes.csv`."""


def volumes_of(case: Mapping[str, Any], reviews: Sequence[Review]) -> list[SignedVolume]:
    """Return the volume of each asked structure with its basis: `FINISHED`, `MEASURED`, or "" where it has none yet.

    Measured is a structure that nobody edited, whose interval is within `TOLERANCE` and did not hold too rarely in real
    cases; it, and the case as a whole, have no flag, which doubts by a reviewer raise, too.

    Args:
        case: the content of `case.json`, or of `reviewed_case`.
        reviews: those that count.
    """
    doubted, found = {flag.structure for flag in case_flags(case, rules_of_case(case), reviews)}, list[SignedVolume]()
    doubted |= {name for review in reviews for name in review.state.edited}  # of two readers no figures are shown
    for entry in asked_of(case):
        name, basis = str(entry["name"]), FINISHED if entry.get("read_by") else ""
        expected, interval = entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3")
        ends = None if interval is None else (float(interval[0]), float(interval[1]))
        if expected and ends and names_level(entry.get("held"), entry.get("held_of")) and not {name, None} & doubted:
            basis = basis or (MEASURED if (ends[1] - ends[0]) / 2 <= TOLERANCE * expected else "")
        found.append(
            SignedVolume(name, float(entry["volume_mm3"]), None if expected is None else float(expected), ends, basis)
        )
    return found


def signature(case: Mapping[str, Any], review: Review) -> Signed:
    """Return what a reader of a case signs now.

    Args:
        case: the content of `case.json` as `reviewed_case` makes it, with what the reader is asked for.

    Raises:
        UsageError: no asked structure is finished or measured, or an old case does not say what was segmented.
    """
    volumes, sha256 = [each for each in volumes_of(case, [review]) if each.basis], _segmentation_sha256(case, review)
    if not volumes or not sha256:
        why = "no structure is finished or measured" if sha256 else "this case of an earlier version keeps no hashes"
        raise UsageError(f"Nothing can be signed: {why}.", "nothing-to-sign")
    return Signed(tuple(volumes), sha256)


def valid_signature(case: Mapping[str, Any], review: Review) -> Signed | None:
    """Return what the reader has signed, where the segmentation is still the same; `signed_at` of the state says when.

    Args:
        case: the content of its `case.json`.
    """
    signed = review.state.signed
    if signed is None or signed.segmentation_sha256 != _segmentation_sha256(case, review):
        return None
    return signed


def volume_rows(case: Mapping[str, Any], reviews: Sequence[Review]) -> list[list[Any]]:
    """Return the rows of `volumes.csv` of a case: of each asked structure one for each reader who signed it, else one.

    Args:
        case: the content of `case.json`, or what `shown_case` makes of it.
    """
    signed = [
        (volume, (review.reviewer, "" if case.get("anonymous") else review.state.signed_at, found.segmentation_sha256))
        for review in reviews
        if (found := valid_signature(case, review))
        for volume in found.volumes
    ]
    model, rows = case.get("model") or {}, list[list[Any]]()
    made_by = f"{model.get('name', '')} {model.get('version', '')}".strip()
    values = {entry["name"]: int(entry["value"]) for entry in asked_of(case)}
    for unsigned in volumes_of(case, reviews):
        name = unsigned.structure
        for volume, by in [each for each in signed if each[0].structure == name] or [(unsigned, ("", "", ""))]:
            numbers = (volume.volume_mm3, volume.expected_volume_mm3, *(volume.expected_interval_mm3 or (None, None)))
            cells = ["" if number is None else round(number, 4) for number in numbers]
            rows.append([str(case["name"]), name, values[name], *cells, volume.basis, *by, made_by])
    return rows


def signed_text(volume: SignedVolume) -> str:
    """Say what was signed of a structure: "left hippocampus 3512 mm³ (3301 to 3723), measured"."""
    ends = volume.expected_interval_mm3
    number = volume.volume_mm3 if ends is None or volume.expected_volume_mm3 is None else volume.expected_volume_mm3
    interval = "" if ends is None else f" ({ends[0]:.0f} to {ends[1]:.0f})"
    return f"{volume.structure} {number:.0f} mm³{interval}, {volume.basis}"


def _segmentation_sha256(case: Mapping[str, Any], review: Review) -> str:
    if review.version_file is None:
        return file_records(case).get(SEGMENTATION_FILE, {}).get(FILE_SHA256, "")
    with review.version_file.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
