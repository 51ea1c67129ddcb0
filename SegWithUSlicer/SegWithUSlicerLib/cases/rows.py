"""Rows of a list of cases from the open scene: one a result that it holds. Nothing is loaded or removed."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import slicer

from SegWithUCore.errors import InputError
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.reviews import LOG_PATTERN, CaseReviews, review_of
from SegWithUCore.review.worklist import SECONDS_PER_REGION, CaseReading, WorklistEntry, reading_of

from ..folder_rows import files_stamp
from ..i18n import _
from ..review.opening import expected_wrong_mm3, newest_lines
from ..review.store import is_same_case, kept_log_names, log_nodes, review_folder
from ..scene.case_nodes import CaseNodes, find_cases
from ..scene.review_nodes import regions_hash, regions_of
from .case_list import CaseItem, Stamp
from .case_switch import holds_logs


class SceneRows:
    """One row a result in the scene, named as the overlay names it.

    A row's reviews are those that the scene carries and those that lie where its review lies on the disk; of two copies
    of a log the longer one counts.

    Args:
        root: the folder of Slicer's user settings.

    Raises:
        InputError: the scene holds no result.
    """

    comes_and_goes = True
    is_sorted = False
    rules: FlagRules | None = None
    seconds_per_region = SECONDS_PER_REGION

    def __init__(self, root: Path) -> None:
        self._root = root
        self.title = _("the open scene")
        self.empty_text = _(
            "The open scene holds no result: segment a volume, or load a scene that was saved with one."
        )
        if not find_cases(slicer.mrmlScene):
            raise InputError(self.empty_text)

    def rows(self, known: Sequence[CaseItem]) -> list[CaseItem]:
        """The results that the scene holds now."""
        runs = {nodes.hub: nodes for nodes in find_cases(slicer.mrmlScene)}
        old = [item for item in known if item.key in runs]
        listed = {item.key for item in old}
        new = [
            CaseItem(WorklistEntry(nodes.label, None), hub, nodes) for hub, nodes in runs.items() if hub not in listed
        ]
        return [*old, *new]

    def key_of(self, nodes: CaseNodes) -> Hashable:
        """The node that holds the result together."""
        return nodes.hub

    def stamp(self, item: CaseItem) -> Stamp:
        """The files where the review lies, and the nodes that tell of the result."""
        nodes = _nodes(item)
        parts = [nodes.hub, nodes.regions_text, *log_nodes(nodes)]
        told = [(part.GetID() or "", 0, part.GetMTime()) for part in parts if part is not None]
        return (*told, *files_stamp(item.folder, item.elsewhere))

    def read(self, item: CaseItem, rules: FlagRules | None) -> CaseReading:
        """Read what the scene, and the logs on the disk, tell of the result.

        Raises:
            InputError: a part of it was deleted or damaged.
        """
        nodes = _nodes(item)
        item.elsewhere = review_folder(nodes, self._root)
        case = {**nodes.case.raw, "name": nodes.label}
        try:
            return reading_of(_case_folder(nodes), case, _reviews(nodes, item.elsewhere), rules)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = _("{result} is damaged ({error}): segment it again.")
            raise InputError(text.format(result=nodes.label, error=repr(error))) from error

    def unreadable(self, item: CaseItem, error: InputError) -> WorklistEntry:
        """The row of a result that cannot be read."""
        return WorklistEntry(_nodes(item).label, None, trouble=str(error))


def _case_folder(nodes: CaseNodes) -> Path | None:
    """The folder that holds the result whole, its reviews included; None where only the scene does."""
    folder = nodes.case_folder
    is_whole = folder is not None and is_same_case(folder, nodes) and holds_logs(folder, nodes)
    return folder if is_whole else None


def _reviews(nodes: CaseNodes, place: Path) -> CaseReviews:
    """All that was said about a result.

    Args:
        place: where its review lies on the disk.
    """
    if nodes.case.raw.get("regions") is None:
        return CaseReviews((), (), ())
    if nodes.regions_text is None:
        raise InputError(_("The regions of {result} were deleted: segment it again.").format(result=nodes.label))
    regions, wanted, total_mm3 = regions_of(nodes), regions_hash(nodes), expected_wrong_mm3(nodes)
    reviews, notes = [], []
    for name in sorted({*kept_log_names(nodes), *(path.name for path in place.glob(LOG_PATTERN))}):
        lines = newest_lines(nodes, place / name)
        if lines is None:
            text = _("{file} is damaged or about other regions of this case: its verdicts are not counted.")
            notes.append(text.format(file=name))
        else:
            reviews.append(review_of(place / name, lines, regions, wanted, total_mm3))
    return CaseReviews(regions, tuple(reviews), tuple(notes))


def _nodes(item: CaseItem) -> CaseNodes:
    assert item.nodes is not None  # every row of this source has them
    return item.nodes
