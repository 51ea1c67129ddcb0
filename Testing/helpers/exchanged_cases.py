"""Cases as reviewers leave them, for tests of flags, worklist, report and export."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from review_cases import Clock

from SegWithUCore.case.case_file import read_case, write_case
from SegWithUCore.case.case_files import file_record
from SegWithUCore.case.region_files import read_regions, regions_hash
from SegWithUCore.regions.region import Kind, Region
from SegWithUCore.review.log import AuditLog
from SegWithUCore.review.log_format import Action, Closed, Opened, RestAccepted, Verdict, VerdictGiven

CASES = ("hippocampus_075", "hippocampus_319", "hippocampus_320")
VERDICTS_THERE = {1: Verdict.CORRECTED, 2: Verdict.ACCEPTED, 3: Verdict.REJECTED, 4: Verdict.SECOND_READER}
"""What a colleague says of the regions of these ranks."""


def copied(case: Path, target: Path, name: str | None = None) -> Path:
    """A copy of a case folder in `target`."""
    copy = target / (name or case.name)
    shutil.copytree(case, copy)
    return copy


def changed_case(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of `case.json`, as a command would that wrote it so."""
    case = read_case(folder)
    change(case)
    write_case(folder, case)


def accepted(folder: Path, *names: str) -> None:
    """Take files of a case as they are now for those that were written."""
    changed_case(folder, lambda case: case["files"].update({name: file_record(folder / name) for name in names}))


def limited(folder: Path, **limits: float) -> None:
    """Give the model of a case limits of flags, as a calibration fits them."""
    rules = {name: {"limit": limit, "useful": True, "message": "For the test."} for name, limit in limits.items()}
    changed_case(folder, lambda case: case["model"]["flags"].update(rules=rules))


def changed_regions(folder: Path, text: str) -> None:
    """Change `regions.csv` as `segwithu regions` does, which tells `case.json` of it."""
    (folder / "regions.csv").write_text(text, encoding="utf-8")
    accepted(folder, "regions.csv")


def listed_regions(folder: Path) -> list[Region]:
    """Regions of a case without the blind sample, which the last rows are."""
    return [region for region in read_regions(folder) if region.kind is not Kind.BLIND]


def header_of(folder: Path) -> Opened:
    """What the first line of a review says."""
    case = read_case(folder)
    model = case["model"]
    regions = regions_hash((folder / "regions.csv").read_text(encoding="utf-8"))
    hashes = (model["weights_sha256"], model["calibration_sha256"] or "", regions)
    return Opened(case["name"], model["name"], model["version"], model["head"], *hashes)


def review(folder: Path, reviewer: str, *facts: Action) -> Path:
    """Go on with a review, or begin one; returns its log."""
    log = AuditLog.open(folder, reviewer, header_of(folder), Clock())
    for fact in facts:
        log.append(fact)
    log.append(Closed())
    log.close()
    return log.path


def judged(
    folder: Path, reviewer: str, verdicts: Mapping[int, Verdict], comment: str = "", seconds: float = 8.0
) -> Path:
    """A review with a verdict on the regions of these ranks, all with one comment."""
    ids = {region.rank: region.id for region in read_regions(folder)}
    return review(folder, reviewer, *(VerdictGiven(ids[n], v, comment or None, seconds) for n, v in verdicts.items()))


def rest_accepted(folder: Path, reviewer: str, verdicts: Mapping[int, Verdict]) -> RestAccepted:
    """A review with a verdict on the regions of these ranks; all others are taken without a look."""
    regions = listed_regions(folder)
    rest = [region for region in regions if region.rank not in verdicts]
    given = [VerdictGiven(region.id, verdicts[region.rank], None, 8.0) for region in regions if region not in rest]
    wrong = sum(region.expected_wrong_mm3 for region in rest)
    fact = RestAccepted(tuple(region.id for region in rest), round(wrong, 3))
    review(folder, reviewer, *given, fact)
    return fact


def edited(folder: Path, reviewer: str, fields: Mapping[str, str] | None = None) -> Path:
    """A reviewer's version of the segmentation: 5 x 5 x 5 voxels more around the first region's peak.

    Args:
        fields: more entries of the header.
    """
    image = sitk.ReadImage(str(folder / "segmentation.seg.nrrd"))
    region = listed_regions(folder)[0]
    r, a, s = region.peak_ras_mm
    i, j, k = image.TransformPhysicalPointToIndex((-r, -a, s))
    image[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = region.structure_value
    for key, value in (fields or {}).items():
        image.SetMetaData(key, value)
    path = folder / f"segmentation_reviewed.{reviewer}.seg.nrrd"
    sitk.WriteImage(image, str(path), useCompression=True)
    return path
