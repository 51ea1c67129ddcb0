"""The words of the list of cases as users read them."""

from SegWithUCore.review.flags import Rule
from SegWithUCore.review.worklist import WorklistEntry

from ..cases.case_list import CaseItem, CaseList, standing
from ..i18n import _

RULES = {
    Rule.WRONG_VOLUME: _("wrong volume"),
    Rule.WRONG_SHARE: _("wrong share"),
    Rule.INTERVAL: _("wide interval"),
    Rule.DICE: _("low Dice"),
    Rule.FINGERPRINT: _("unlike training"),
    Rule.REVIEWER: _("reviewer"),
}
"""Short for a column; the reasons stand below the list."""

COLUMN_TIPS = (
    _("The name of the case."),
    _("How many regions you have decided, then how many others have. Enter your name in Selective review."),
    _("Which rules flag the case; the reasons stand below the list when it is selected."),
    _("How much of the worst structure is expected to be wrong."),
    _("Number of regions worth a look."),
    _("How many minutes looking at the regions takes that nobody has accepted or corrected."),
    _("The structure with the largest expected wrong volume."),
)


def name_text(entry: WorklistEntry) -> str:
    """The name of a case, with that of its folder where that is another one: copies are told apart by it."""
    folder = entry.name if entry.folder is None else entry.folder.name
    return entry.name if entry.name == folder else _("{case} ({folder})").format(case=entry.name, folder=folder)


def status_text(entry: WorklistEntry, reviewer: str) -> str:
    """How far a case is: the reviewer's own part first, then the others'."""
    if entry.regions is None:
        return _("not calibrated")
    if entry.regions == 0:
        return _("no region")
    now = standing(entry, reviewer)
    others = [_("{name}: {part}").format(name=n, part=_part(d, entry.regions)) for n, d in now.others.items()]
    if not reviewer:
        return "; ".join(others) or _("not begun")
    own = _("not begun") if now.own is None else _part(now.own, entry.regions)
    return "; ".join([own, *others])


def _part(decided: int, regions: int) -> str:
    return _("done") if decided >= regions else _("{n} of {all}").format(n=decided, all=regions)


def cell_tips(item: CaseItem) -> dict[int, str]:
    """What does not fit into the cells of a case, by column."""
    entry = item.entry
    place = _("Only in the scene, in no case folder.") if entry.folder is None else str(entry.folder)
    tips = {0: f"{entry.name}\n{place}", 2: "\n".join(flag.sentence for flag in entry.flags)}
    tips |= {3: entry.worst_structure or "", 6: entry.worst_structure or ""}
    lines = [status.text for status in entry.reviews] + list(entry.notes) + ([entry.trouble] if entry.trouble else [])
    return {column: tip for column, tip in {**tips, 1: "\n".join(lines)}.items() if tip}


def summary_text(found: CaseList, shown: int, reviewer: str) -> str:
    """The line about a list.

    Args:
        shown: how many of its cases pass the filter.
    """
    if not found.items:
        return found.source.empty_text
    count, entries = len(found.items), [item.entry for item in found.items]
    flagged = sum(bool(entry.flags) for entry in entries)
    waiting = sum(standing(entry, reviewer).is_open for entry in entries)
    text = _("{count} cases, {flagged} flagged, {waiting} open for {who}; {place}").format(
        count=count, flagged=flagged, waiting=waiting, who=reviewer or _("you"), place=found.source.title
    )
    return text if shown == count else _("{shown} of {summary}").format(shown=shown, summary=text)


def about_case(item: CaseItem) -> list[str]:
    """What is told of the selected case: why it is flagged, and what is odd about it."""
    entry = item.entry
    if entry.trouble:
        return [entry.trouble]
    reasons = [flag.sentence for flag in entry.flags] or [_("No rule flags {case}.").format(case=entry.name)]
    return [*reasons, *entry.notes]
