"""What a reader signs: the volume of each asked structure that is finished, or measured well enough to stop.

A signature is a line of the log. It holds until the review goes on, or the segmentation changes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..calibration.held import names_level
from ..case.case_file import SEGMENTATION_FILE
from ..case.case_files import FILE_SHA256, file_records
from ..util.errors import UsageError
from .flags import asked_of
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


def basis_of(entry: Mapping[str, Any]) -> str:
    """Return why the volume of a structure can be signed: `FINISHED`, `MEASURED`, or "" where it cannot be yet.

    Measured is a structure whose interval is within `TOLERANCE` and did not hold too rarely in real cases.

    Args:
        entry: of the structures of `case.json`, or of `reviewed_case`.
    """
    if entry.get("read_by"):
        return FINISHED
    expected, interval = entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3")
    if not expected or not interval or not names_level(entry.get("held"), entry.get("held_of")):
        return ""
    return MEASURED if (interval[1] - interval[0]) / 2 <= TOLERANCE * expected else ""


def signature(case: Mapping[str, Any], version: Path | None) -> Signed:
    """Return what a reader of a case signs now.

    Args:
        case: the content of `case.json` as `reviewed_case` makes it, with what the reader is asked for.
        version: the reader's own version of the segmentation, if there is one.

    Raises:
        UsageError: no asked structure is finished or measured, or an old case does not say what was segmented.
    """
    volumes = tuple(
        SignedVolume(str(entry["name"]), float(entry["volume_mm3"]), *_expected(entry), basis)
        for entry in asked_of(case)
        if (basis := basis_of(entry))
    )
    sha256 = _segmentation_sha256(case, version)
    if not volumes or not sha256:
        why = "no structure is finished or measured" if sha256 else "this case of an earlier version keeps no hashes"
        raise UsageError(f"Nothing can be signed: {why}.", "nothing-to-sign")
    return Signed(volumes, sha256)


def valid_signature(case: Mapping[str, Any], review: Review) -> Signed | None:
    """Return what the reader has signed, where the segmentation is still the same; `signed_at` of the state says when.

    Args:
        case: the content of its `case.json`.
    """
    signed = review.state.signed
    if signed is None or signed.segmentation_sha256 != _segmentation_sha256(case, review.version_file):
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
    for entry in asked_of(case):
        name, measured = str(entry["name"]), float(entry["volume_mm3"])
        own = [each for each in signed if each[0].structure == name]
        unsigned = SignedVolume(name, measured, *_expected(entry), basis_of(entry))
        for volume, by in own or [(unsigned, ("", "", ""))]:
            numbers = (volume.volume_mm3, volume.expected_volume_mm3, *(volume.expected_interval_mm3 or (None, None)))
            cells = ["" if number is None else round(number, 4) for number in numbers]
            rows.append([str(case["name"]), name, int(entry["value"]), *cells, volume.basis, *by, made_by])
    return rows


def signed_text(volume: SignedVolume) -> str:
    """Say what was signed of a structure: "left hippocampus 3512 mm³ (3301 to 3723), measured"."""
    ends = volume.expected_interval_mm3
    number = volume.volume_mm3 if ends is None or volume.expected_volume_mm3 is None else volume.expected_volume_mm3
    interval = "" if ends is None else f" ({ends[0]:.0f} to {ends[1]:.0f})"
    return f"{volume.structure} {number:.0f} mm³{interval}, {volume.basis}"


def _expected(entry: Mapping[str, Any]) -> tuple[float | None, tuple[float, float] | None]:
    """Return the expected volume and its interval; a finished structure has neither."""
    expected, interval = entry.get("expected_volume_mm3"), entry.get("expected_interval_mm3")
    return (None if expected is None else float(expected)), (interval and (float(interval[0]), float(interval[1])))


def _segmentation_sha256(case: Mapping[str, Any], version: Path | None) -> str:
    if version is None:
        return file_records(case).get(SEGMENTATION_FILE, {}).get(FILE_SHA256, "")
    with version.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
