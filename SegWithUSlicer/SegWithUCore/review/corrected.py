"""Cases whose segmentation a reviewer corrected: references that the calibration of a model can be fitted on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..case.case_file import DAMAGED, read_case
from ..case.case_folders import REVIEWED_PATTERN
from ..models.away import site_command
from ..util.errors import InputError
from .log_format import Verdict
from .reviewer import version_path
from .reviews import read_reviews

FACTOR_CASES, STAGE_CASES = 3, 10
"""From so many on a factor, and a second stage, are fitted."""
MOST_LOOKED_AT = 50
"""Cases that are read for their number."""
_IN_DOUBT = {Verdict.REJECTED, Verdict.SECOND_READER}


def corrected_segmentation(folder: Path, case: Mapping[str, Any]) -> Path | None:
    """Find the segmentation of a finished review: the version that its reviewer has saved.

    All regions have a verdict, and nothing is rejected or waits for a second reader.

    Raises:
        InputError: there are several, or regions are missing or damaged.
    """
    found, names = read_reviews(folder, case), [str(entry["name"]) for entry in case["structures"]]
    done = [
        path
        for review in found.reviews
        if len(verdicts := review.verdicts(found.regions)) == len(found.regions)
        and _IN_DOUBT.isdisjoint([*verdicts.values(), *(review.state.structure(name).verdict for name in names)])
        if (path := version_path(folder, review.path.name)).is_file()
    ]
    if len(done) > 1:
        files = ", ".join(path.name for path in done)
        raise InputError(f"{folder} has {len(done)} corrected segmentations ({files}): keep one.", "two-references")
    return done[0] if done else None


def corrected_cases_text(folder: Path, model: str) -> str:
    """Say how many cases of a model are corrected, here and next to here, and how they are added to it; "" for none.

    Args:
        folder: of a case.
    """
    count, places = 0, sorted({path.parent for path in folder.parent.glob(f"*/{REVIEWED_PATTERN}")})
    for place in places[:MOST_LOOKED_AT]:
        try:
            case = read_case(place)
            count += case["model"]["name"] == model and corrected_segmentation(place, case) is not None
        except (InputError, *DAMAGED):  # the command says what is wrong with it
            continue
    if not count:
        return ""
    what = "1 corrected case" if count == 1 else f"{count} corrected cases"
    what += " or more" if len(places) > MOST_LOOKED_AT else ""
    if count < STAGE_CASES:
        least = f"from {FACTOR_CASES} on they give it a factor" if count < FACTOR_CASES else "they give it a factor"
        what += f" ({least}, from {STAGE_CASES} on an error probability of their own)"
    return f"{what}: add them to the model by {site_command(model, folder.parent)}"
