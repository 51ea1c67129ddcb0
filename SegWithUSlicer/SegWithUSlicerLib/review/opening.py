"""Start a review, or resume one: where its log is, whose segmentation is shown, which places are blind."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import slicer

from SegWithUCore.regions.region import Region
from SegWithUCore.review import opening as rules
from SegWithUCore.review.blind import BlindSample, SamplingInput
from SegWithUCore.review.log import AuditLog, NotStoredError, now_utc
from SegWithUCore.review.log_format import Action, Closed, Edited, Event, ParsedLog, read_lines
from SegWithUCore.review.opening import ReviewLocation, ReviewOptions, blind_places_of, case_key
from SegWithUCore.review.reviewer import log_path
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import InputError, OutputError

from ..i18n import _
from ..scene.case_images import array_of
from ..scene.case_nodes import CaseNodes
from ..scene.review_nodes import region_labels, regions_hash, regions_of, restore_original
from ..scene.segmentation import CONTENT_ATTRIBUTE, content_hash
from .edits import grid_of, read_labels
from .store import (
    keep_log,
    kept_log,
    last_location,
    load_reviewed,
    remember_location,
    review_folder,
    reviewed_by,
    save_reviewed,
    set_reviewed_by,
)


@dataclass
class OpenedReview:
    """A review that was started or resumed.

    Attributes:
        folder: where its files lie.
        log: open for writing.
        state: what holds after all lines of the log.
        regions: in the order of expected wrong volume, blind places among them.
        blind: the places; none if none were asked for.
        order: the order in which the reviewer went.
        region: id of the region where the reviewer stopped; None for a new review.
        notes: what the reviewer should know, one sentence each.
    """

    folder: Path
    log: AuditLog
    state: ReviewState
    regions: tuple[Region, ...]
    blind: BlindSample
    order: str
    region: int | None
    notes: list[str] = field(default_factory=list)


def obstacle(nodes: CaseNodes | None) -> str:
    """Return why this run cannot be reviewed, in one sentence; "" if it can."""
    if nodes is None:
        return _("Segment a volume first: its uncertain regions are then listed here.")
    if "error_probability" not in nodes.case.maps:
        return _("The model is not calibrated: without error probability there are no regions to review.")
    if nodes.regions_text is None or nodes.regions is None:
        return _("This run has no regions: it was made before regions existed, or they were deleted. Segment again.")
    if nodes.segmentation is None or "error_probability" not in nodes.maps:
        return _("A part of this run was deleted: segment again to review it.")
    try:
        regions = regions_of(nodes)
    except InputError as error:  # a scene that was edited by hand
        return str(error)
    if not regions:
        return _("No voxel is uncertain enough for a look. That does not mean that everything is correct.")
    return ""


def open_review(
    nodes: CaseNodes, reviewer: str, root: Path, options: ReviewOptions, clock: Callable[[], datetime] = now_utc
) -> OpenedReview:
    """Go on with a reviewer's review of a run, or begin one.

    Args:
        root: the folder of Slicer's user settings.
        clock: returns the time.

    Raises:
        UsageError, LogInUseError, InputError: as `AuditLog.open`.
        InputError: the reviewer's version of the segmentation is damaged.
        OutputError: another reviewer's edits, which must make room, cannot be kept.
    """
    folder = review_folder(nodes, root)
    name = log_path(folder, reviewer).name
    earlier = _earlier(nodes, folder / name)
    asked = blind_places_of(earlier) if earlier else options.blind_places
    blind = _blind_sample(nodes, asked)
    location = last_location(nodes, folder, name)
    order = location.order if location is not None and earlier else options.order
    settings = rules.review_settings(nodes.case.raw, order, asked, blind)
    header = rules.review_header(nodes.case.raw, regions_hash(nodes), settings)
    is_newest = _scene_is_newest(nodes, folder, name)
    with suppress(OSError):  # reported by the log
        folder.mkdir(parents=True, exist_ok=True)
    log = AuditLog.open(folder, reviewer, header, clock, kept_log(nodes, name))
    notes = list(log.notes)
    try:
        regions = tuple(blind.mixed(regions_of(nodes)))
        state = ReviewState.replayed(log.events, regions, expected_wrong_mm3(nodes), blind.ids)
        notes += _take_segmentation(nodes, folder, name, is_newest)
    except BaseException:
        log.close()
        raise
    stopped = (location.region if location is not None else state.last_region) if earlier else None
    known = {region.id for region in regions}
    return OpenedReview(folder, log, state, regions, blind, order, stopped if stopped in known else None, notes)


def decided_so_far(nodes: CaseNodes, reviewer: str, root: Path) -> tuple[int, int] | None:
    """Return how many regions of how many this reviewer has decided in an earlier session; None if there was none.

    Args:
        root: the folder of Slicer's user settings.

    Raises:
        UsageError, InputError: as `open_review`, which will refuse for the same reason.
    """
    folder = review_folder(nodes, root)
    earlier = _earlier(nodes, log_path(folder, reviewer))
    if not earlier:
        return None
    blind = _blind_sample(nodes, blind_places_of(earlier))
    state = ReviewState.replayed(earlier, blind.mixed(regions_of(nodes)), expected_wrong_mm3(nodes), blind.ids)
    progress = state.progress()
    return progress.decided, progress.regions


def newest_lines(nodes: CaseNodes, path: Path) -> ParsedLog | None:
    """Read a review so far, from its file or the scene's copy; None if neither is about these regions.

    Args:
        path: of its log.
    """
    copies = [kept_log(nodes, path.name).encode(), path.read_bytes() if path.is_file() else b""]
    for content in sorted(copies, key=len, reverse=True):
        try:
            lines = read_lines(content, str(path))
        except InputError:  # reported when the log is opened
            continue
        if lines.events and lines.regions_sha256 == regions_hash(nodes):
            return lines
    return None


def expected_wrong_mm3(nodes: CaseNodes) -> float:
    """Return the expected wrong volume of everything that was assessed."""
    return rules.expected_wrong_mm3(nodes.case.raw, regions_of(nodes))


def _earlier(nodes: CaseNodes, path: Path) -> Sequence[Event]:
    lines = newest_lines(nodes, path)
    return () if lines is None else lines.events


def _blind_sample(nodes: CaseNodes, count: int) -> BlindSample:
    if not count:
        return BlindSample(())
    shape, ijk_to_ras = grid_of(nodes)
    matrix = np.array([[ijk_to_ras.GetElement(row, column) for column in range(4)] for row in range(4)])
    structures = nodes.case.structures
    ground = SamplingInput(
        error_probability=array_of(nodes.maps["error_probability"].GetImageData()),
        labels=read_labels(nodes, original=True),
        region_labels=region_labels(nodes, shape),
        spacing_zyx=tuple(np.linalg.norm(matrix[:3, :3], axis=0)[::-1].tolist()),
        ijk_to_ras=matrix,
        names={0: "background", **{structure.value: structure.name for structure in structures}},
    )
    return rules.blind_sample(ground, regions_of(nodes), count, case_key(nodes.case.raw, regions_hash(nodes)))


def _take_segmentation(nodes: CaseNodes, folder: Path, log_name: str, scene_is_newest: bool) -> list[str]:
    """Show this reviewer's version of the segmentation; returns messages for the user.

    Args:
        scene_is_newest: the scene holds every edit that the log holds.
    """
    owner = reviewed_by(nodes)
    if owner not in ("", log_name):
        if _scene_is_newest(nodes, folder, owner):
            save_reviewed(nodes, folder, owner)
        restore_original(nodes)
    is_own = owner == log_name or (owner == "" and _was_edited(nodes.segmentation))
    # An older copy of the scene must not hide what was drawn after it was saved.
    loaded = not (is_own and scene_is_newest) and load_reviewed(nodes, folder, log_name)
    set_reviewed_by(nodes, log_name)
    return [_("Your edits of the earlier session are back.")] if loaded else []


def _scene_is_newest(nodes: CaseNodes, folder: Path, log_name: str) -> bool:
    """Check whether the scene's copy of a log holds every edit that its file holds."""
    path = folder / log_name
    stored = path.read_bytes() if path.is_file() else b""
    return _edits_in(kept_log(nodes, log_name).encode(), path) >= _edits_in(stored, path)


def _edits_in(content: bytes, path: Path) -> int:
    try:
        return sum(isinstance(event.action, Edited) for event in read_lines(content, str(path)).events)
    except InputError:  # reported when the log is opened
        return 0


def _was_edited(node: "slicer.vtkMRMLSegmentationNode | None") -> bool:
    return node is not None and node.GetAttribute(CONTENT_ATTRIBUTE) != content_hash(node)


class AuditTrail:
    """Appends events to the log before they take effect. Call `close` when done; the log is locked until then.

    Args:
        clock: returns the time.

    Attributes:
        state: the state of the review after all events.
    """

    def __init__(self, nodes: CaseNodes, opened: OpenedReview, clock: Callable[[], datetime]) -> None:
        self.nodes = nodes
        self.state = opened.state
        self._folder, self._log, self._clock = opened.folder, opened.log, clock
        self._keep()

    @property
    def trouble(self) -> str:
        """Why the disk does not hold all lines; "" if it does."""
        return "" if self._log.trouble is None else str(self._log.trouble)

    @property
    def log_name(self) -> str:
        """The file name of the log, which is the reviewer's own."""
        return self._log.path.name

    @property
    def events(self) -> list[Action]:
        """All events, oldest first."""
        return [event.action for event in self._log.events]

    def append(self, fact: Action) -> None:
        """Append an event and apply it. If it cannot be written it stays in memory and `trouble` says why."""
        try:
            event = self._log.append(fact)
        except NotStoredError as error:  # tried again with the next line
            event = error.event
        self.state.apply(event)
        self._keep()

    def flush(self) -> None:
        """Try again to bring lines to disk that are not there yet."""
        with suppress(OutputError):  # reported as `trouble`
            self._log.flush()

    def remember(self, region_id: int | None, order: str) -> None:
        """Remember where the reviewer is."""
        location = ReviewLocation(region_id, order, self._clock().isoformat(timespec="microseconds"))
        with suppress(OutputError):  # the scene has it; the log reports it as `trouble`
            remember_location(self.nodes, self._folder, self.log_name, location)

    def close(self) -> None:
        """Tell the end, and let others write the log."""
        self.append(Closed())
        with suppress(OutputError):  # reported as `trouble`; the scene has the lines
            self._log.close()

    def _keep(self) -> None:
        if self.nodes.hub.GetScene() is not None:
            keep_log(self.nodes, self.log_name, self._log.text)
