"""Start a review, or resume one: where its log is, whose segmentation is shown."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from SegWithUCore.case.case_file import is_mask_alone
from SegWithUCore.review.log import AuditLog, now_utc
from SegWithUCore.review.log_format import Edited, read_lines
from SegWithUCore.review.reviewer import log_path
from SegWithUCore.review.session import ReviewedCase, Session, newest_lines
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.review_nodes import regions_hash, regions_of, restore_original
from . import store


def obstacle(nodes: CaseNodes | None) -> str:
    """Return why this run cannot be reviewed; "" if it can."""
    if nodes is None:
        return _("Segment a volume first: its uncertain regions are then listed here.")
    is_alone = is_mask_alone(nodes.case.raw)
    if "error_probability" not in nodes.case.maps and not is_alone:
        return _("The model is not calibrated: without error probability there are no regions to review.")
    if nodes.regions_text is None or nodes.regions is None:
        return _("This run has no regions: it was made before regions existed, or they were deleted. Segment again.")
    if nodes.segmentation is None or ("error_probability" not in nodes.maps and not is_alone):
        return _("A part of this run was deleted: segment again to review it.")
    try:
        regions = regions_of(nodes)
    except InputError as error:  # a scene that was edited
        return str(error)
    if not regions:
        return _("Nothing calls for a look. This does not mean that everything is correct.")
    return ""


def open_review(
    nodes: CaseNodes, reviewer: str, root: Path, order: str, clock: Callable[[], datetime] = now_utc
) -> tuple[Session, list[str]]:
    """Resume a reviewer's review of a run, or begin one.

    Args:
        root: the folder of Slicer's user settings.
        order: of a new review.
        clock: returns the time.

    Returns:
        The review, and messages for the reviewer.

    Raises:
        UsageError, LogInUseError, InputError: as `Session.open`.
        InputError: the reviewer's version of the segmentation is damaged.
        OutputError: another reviewer's edits, which have to be saved before, cannot be written.
    """
    folder = store.review_folder(nodes, root)
    name = log_path(folder, reviewer).name
    is_newest = _scene_is_newest(nodes, folder, name)
    with suppress(OSError):  # reported by the log
        folder.mkdir(parents=True, exist_ok=True)
    copy = store.kept_log(nodes, name)

    def keep(log: AuditLog) -> None:
        if nodes.hub.GetScene() is not None:
            store.keep_log(nodes, name, log.text)

    session = Session.open(reviewed_case(nodes), folder, reviewer, order, clock, copy, keep)
    try:
        return session, [*session.log.notes, *_take_segmentation(nodes, folder, name, is_newest)]
    except BaseException:
        session.log.close()
        raise


def reviewed_case(nodes: CaseNodes) -> ReviewedCase:
    """Return a run as the core's reviews need it."""
    return ReviewedCase(nodes.case.raw, regions_of(nodes), regions_hash(nodes))


def earlier_state(nodes: CaseNodes, reviewer: str, root: Path) -> ReviewState | None:
    """Return what this reviewer has done in an earlier session; None if there was none.

    Args:
        root: the folder of Slicer's user settings.

    Raises:
        UsageError, InputError: as `open_review`, which will refuse for the same reason.
    """
    path, case = log_path(store.review_folder(nodes, root), reviewer), reviewed_case(nodes)
    lines = newest_lines(path, case.regions_sha256, store.kept_log(nodes, path.name))
    if lines is None:
        return None
    return Session(case, AuditLog.in_memory(path, reviewer, lines)).state


def _take_segmentation(nodes: CaseNodes, folder: Path, log_name: str, scene_is_newest: bool) -> list[str]:
    """Show this reviewer's version of the segmentation; returns messages for the user.

    Args:
        scene_is_newest: the scene holds every edit that the log holds.
    """
    owner = store.reviewed_by(nodes)
    if owner not in ("", log_name):
        if _scene_is_newest(nodes, folder, owner):
            store.save_reviewed(nodes, folder, owner)
        restore_original(nodes)
    is_own = owner == log_name or (owner == "" and store.has_unkept_edits(nodes, folder, owner))
    # An older copy of the scene must not hide what was drawn after it was saved.
    loaded = not (is_own and scene_is_newest) and store.load_reviewed(nodes, folder, log_name)
    store.set_reviewed_by(nodes, log_name)
    return [_("Your edits of the earlier session are back.")] if loaded else []


def _scene_is_newest(nodes: CaseNodes, folder: Path, log_name: str) -> bool:
    """Check whether the scene's copy of a log holds every edit that its file holds."""
    path = folder / log_name
    stored = path.read_bytes() if path.is_file() else b""
    return _edits_in(store.kept_log(nodes, log_name).encode(), path) >= _edits_in(stored, path)


def _edits_in(content: bytes, path: Path) -> int:
    try:
        return sum(isinstance(event.action, Edited) for event in read_lines(content, str(path)).events)
    except InputError:  # reported when the log is opened
        return 0
