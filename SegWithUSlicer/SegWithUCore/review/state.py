"""State of a review: verdicts, comments, time and progress, made by replaying the log."""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from ..regions.region import Kind, Region
from ..util.errors import InputError
from . import log_format as log
from .verdicts import SEEN, Verdict

__all__ = ["Progress", "ReviewState", "StructureVerdict", "Verdict"]

_MIXED = "the log was combined from several reviews or edited manually"


@dataclass(frozen=True)
class Progress:
    """How far a review is.

    Attributes:
        decided, regions: how many have a verdict of somebody who looked, and how many there are.
        seen_share: part of the regions' expected wrong volume that is accepted, corrected, or of a finished structure,
            0 to 1; None without a model.
        unseen: how many were taken without a look.
        finished, structures: how many asked structures are finished, and how many there are.
        sampled, sample: how many places of the blind sample have a verdict, and how many there are once it is due.
    """

    decided: int
    regions: int
    seen_share: float | None
    unseen: int = 0
    finished: int = 0
    structures: int = 0
    sampled: int = 0
    sample: int = 0

    @property
    def text(self) -> str:
        """For people: "1 of 4 structures finished; 7 of 12 regions, 86 % of their expected error decided"."""
        # Rounded down: 100 % is shown only when nothing is left.
        unseen = f", {self.unseen} not looked at" if self.unseen else ""
        share = None if self.seen_share is None else int(self.seen_share * 100 + 1e-9)
        text = f"{self.finished} of {self.structures} structures finished; {self.decided} of {self.regions} regions"
        text += f"{unseen}{'' if share is None else f', {share} % of their expected error'} decided"
        return text + (f"; blind sample: {self.sampled} of {self.sample}" if self.sample else "")


@dataclass(frozen=True)
class StructureVerdict:
    """Review status of a structure.

    Attributes:
        verdict: the reviewer's own, else accepted when all its regions are accepted or corrected, else None.
        explicit: whether the reviewer gave it.
        decided, regions: how many of its regions have a verdict of somebody who looked, and how many there are.
        flagged: how many have a verdict that wants attention.
        unseen: how many were taken without a look.
    """

    verdict: Verdict | None
    explicit: bool
    decided: int
    regions: int
    flagged: int
    unseen: int = 0


@dataclass(frozen=True)
class _Step:
    """A line that can be undone, and the state before it."""

    line: int
    action: log.VerdictGiven | log.RestAccepted | log.Commented | log.StructureJudged | log.PlaceAdded | log.Edited
    before: tuple[Verdict | None, str] = (None, "")


class ReviewState:
    """The review of one case by one reviewer.

    Attributes:
        lines: events replayed so far, which is the number of the log's last line.
        edits: logged edits, oldest first.
        last_region: the region of the last line, where a resumed review continues; None at the start.
        asked: names of the structures to be measured.
        signed: the line in which the reader signed what is there now; None without one.
    """

    def __init__(self, regions: Sequence[Region], asked: Sequence[str]) -> None:
        """Start an empty review.

        Args:
            regions: of the case, those of the blind sample included.
            asked: names of the structures to be measured, until a line asks for others.
        """
        self.lines = 0
        self.edits: list[log.Edited] = []
        self.last_region: int | None = None
        self.asked = tuple(asked)
        self.signed: log.Signed | None = None
        self.signed_at = ""
        self._regions = {region.id: region for region in regions}
        self._is_mask_alone = any(region.expected_wrong_mm3 is None for region in regions)
        self._verdicts: dict[int, Verdict] = {}
        self._comments: dict[int, str] = {}
        self._structures: dict[str, tuple[Verdict | None, str]] = {}
        self._steps: list[_Step] = []
        self._unfinished = frozenset(asked)

    @classmethod
    def replayed(cls, events: Iterable[log.Event], regions: Sequence[Region], asked: Sequence[str]) -> "ReviewState":
        """Apply all `events`, the lines of one log from its first on.

        Raises:
            InputError: a line does not fit the regions or the lines before it.
        """
        state = cls(regions, asked)
        for event in events:
            state.apply(event)
        return state

    def copied(self) -> "ReviewState":
        """Return the same state, to go on from without changing this one."""
        other = copy.copy(self)
        vars(other).update({name: copy.copy(value) for name, value in vars(self).items()})
        return other

    def apply(self, event: log.Event) -> None:
        """Go on by one event.

        Raises:
            InputError: its region does not exist, or it undoes another line than the last. The state stays as it was.
        """
        self.check(event.action)
        self.lines += 1
        self._note_signature(event)
        match event.action:
            case log.VerdictGiven(region, verdict, comment):
                self._steps.append(_Step(self.lines, event.action, self._of_region(region)))
                self._set_region(region, verdict, self.comment_of(region) if comment is None else comment)
                self.last_region = region
            case log.RestAccepted(regions, _):
                self._steps.append(_Step(self.lines, event.action))
                self._verdicts |= dict.fromkeys(regions, Verdict.NOT_LOOKED_AT)
            case log.Commented(region, comment):
                self._steps.append(_Step(self.lines, event.action, self._of_region(region)))
                self._set_region(region, self.verdict_of(region), comment)
                self.last_region = region
            case log.StructureJudged(structure, verdict, comment):
                before = self._structures.get(structure, (None, ""))
                self._steps.append(_Step(self.lines, event.action, before))
                self._structures[structure] = (verdict, comment)
            case log.PlaceAdded(region, structure, ras_mm):
                self._steps.append(_Step(self.lines, event.action))
                value = next(
                    (each.structure_value for each in self._regions.values() if each.structure == structure), 0
                )
                self._regions[region] = _place(region, structure, value, ras_mm)
                self.last_region = region
            case log.Asked(structures):
                self.asked = structures
            case log.RegionViewed(region):
                self.last_region = region
            case log.Edited(region):
                self._add_edit(event.action)
                self.last_region = self.last_region if region is None else region
            case log.Undone():
                self._take_back(self._steps.pop())
        self._unfinished = frozenset(self.asked) - self.finished

    def _note_signature(self, event: log.Event) -> None:
        if isinstance(event.action, log.Signed):
            self.signed, self.signed_at = event.action, event.when
        elif not isinstance(event.action, log.Opened | log.Closed | log.RegionViewed | log.Commented):
            self.signed = None

    def check(self, action: log.Action) -> None:
        """Check that a line could come next.

        Raises:
            InputError: as `apply`.
        """
        line = self.lines + 1
        named = action.regions if isinstance(action, log.RestAccepted) else (getattr(action, "region", None),)
        if isinstance(action, log.PlaceAdded):
            named = () if action.region == self.next_place() else named
        for region in named:
            if region is None or (region in self._regions and not isinstance(action, log.PlaceAdded)):
                continue
            message = f"Line {line} of the review is about region {region}, which this case does not have: {_MIXED}."
            raise InputError(message, "damaged-log")
        decided = [region for region in getattr(action, "regions", ()) if region in self._verdicts]
        if isinstance(action, log.RestAccepted) and (decided or len(set(action.regions)) < len(action.regions)):
            which = f"region {decided[0]}, which has a verdict" if decided else "a region twice"
            raise InputError(f"Line {line} of the review accepts {which}, without a look: {_MIXED}.")
        if isinstance(action, log.Undone) and action != (due := self.next_undo()):
            expected = f"only line {due.line} can be undone there" if due else "there is nothing to undo"
            what = f"line {action.line} ({action.what})"
            raise InputError(f"Line {line} of the review undoes {what}, but {expected}: {_MIXED}.")

    def verdict_of(self, region_id: int) -> Verdict | None:
        """Return the current verdict; None while undecided."""
        return self._verdicts.get(region_id)

    def comment_of(self, region_id: int) -> str:
        """Return the current comment; "" for none."""
        return self._comments.get(region_id, "")

    def decided(self, region_id: int) -> bool:
        """Whether the region has a verdict, even without a look."""
        return region_id in self._verdicts

    @property
    def seen_ids(self) -> frozenset[int]:
        """Regions that are accepted or corrected."""
        return frozenset(region for region, verdict in self._verdicts.items() if verdict in SEEN)

    @property
    def unseen_ids(self) -> frozenset[int]:
        """Regions that were taken without a look."""
        return frozenset(region for region, verdict in self._verdicts.items() if verdict is Verdict.NOT_LOOKED_AT)

    @property
    def finished(self) -> frozenset[str]:
        """Structures that the reviewer has looked through and accepted, or corrected."""
        return frozenset(name for name, (verdict, _) in self._structures.items() if verdict in SEEN)

    @property
    def edited(self) -> frozenset[str]:
        """Names of the structures that were edited."""
        return frozenset(name for edit in self.edits for name in edit.structure.split(", "))

    @property
    def is_done(self) -> bool:
        """Whether all asked structures are finished, and the blind sample is judged."""
        return self._all_finished and all(region.id in self._verdicts for region in self.blind_sample())

    @property
    def _all_finished(self) -> bool:
        return bool(self.asked) and not self._unfinished

    def listed(self) -> list[Region]:
        """Return the regions of the asked structures, and, once these are finished, the blind sample."""
        return [*self._in_question(), *(self.blind_sample() if self._all_finished else ())]

    def blind_sample(self) -> list[Region]:
        """Return the places that close the review: as many as the case has of one structure."""
        places = [region for region in self._regions.values() if region.kind is Kind.BLIND]
        own = sorted((place for place in places if place.structure in self.asked), key=lambda place: place.rank)
        return own[: max(Counter(place.structure for place in places).values(), default=0)]

    def _in_question(self) -> list[Region]:
        # What was judged, or is at hand, stays: the reviewer would miss it.
        gone = {*self.edits[-1].removed} - self._verdicts.keys() - {self.last_region} if self.edits else ()
        regions = (region for region in self._regions.values() if region.kind is not Kind.BLIND)
        return [region for region in regions if region.is_about(self.asked) and region.id not in gone]

    def is_open(self, region: Region) -> bool:
        """Whether a region has no verdict, and an asked structure in it, or its own where none is, is not finished."""
        is_asked, is_settled = region.is_about(self.asked), region.structure in self.finished
        is_left = region.is_about(self._unfinished) if is_asked else not is_settled
        return region.id not in self._verdicts and (region.kind is Kind.BLIND or is_left)

    def next_place(self) -> int:
        """Return the number of the next place that the reviewer adds."""
        return max(self._regions, default=0) + 1

    def rest(self) -> log.RestAccepted:
        """Return what to log and apply in order to take all open regions of the asked structures as they are."""
        regions = tuple(sorted(region.id for region in self._in_question() if self.is_open(region)))
        return log.RestAccepted(regions, round(self.expected_mm3_of(regions), 3))

    def expected_mm3_of(self, regions: Iterable[int]) -> float:
        """Sum up the expected wrong volume of regions."""
        return fsum(self._regions[region].expected_wrong_mm3 or 0.0 for region in regions)

    def next_undecided(self, order: Sequence[int], after: int | None = None) -> int | None:
        """Find the first open region behind `after`, then from the start on; None if there is none.

        Args:
            order: region ids the way the reviewer sees them.
            after: an id, or None to look from the start.
        """
        start = order.index(after) + 1 if after in order else 0
        ring = (order[(start + step) % len(order)] for step in range(len(order)))
        return next((region for region in ring if self.is_open(self._regions[region])), None)

    def previous(self, order: Sequence[int], before: int) -> int | None:
        """Find the region before `before` in `order`, decided or not; None for the first or an unknown one."""
        index = order.index(before) if before in order else 0
        return order[index - 1] if index else None

    def stopped_at(self, order: Sequence[int]) -> int | None:
        """Find where a resumed review continues: the region of the last line, or the next without a verdict."""
        stopped = self.last_region
        following = self.next_undecided(order, stopped) if stopped in self._verdicts else None
        return stopped if following is None else following

    def next_undo(self) -> log.Undone | None:
        """Return what to log and apply in order to undo the last action; None if there is nothing.

        An accepted rest is one thing.
        """
        if not self._steps:
            return None
        step = self._steps[-1]
        without = log.StructureJudged | log.RestAccepted | log.PlaceAdded
        region = None if isinstance(step.action, without) else step.action.region
        return log.Undone(step.line, log.NAMES[type(step.action)], region)

    def progress(self) -> Progress:
        """How far the review is."""
        regions = self._in_question()
        ids = {region.id for region in regions}
        unseen, looked = ids & self.unseen_ids, ids & self._verdicts.keys() - self.unseen_ids
        right = self.seen_ids
        seen = [region.id for region in regions if region.id in right or not region.is_about(self._unfinished)]
        total = self.expected_mm3_of(ids)
        share = None if self._is_mask_alone else self.expected_mm3_of(seen) / total if total > 0 else 1.0
        sample = self.blind_sample() if self._all_finished else []
        return Progress(decided=len(looked), regions=len(ids), seen_share=share, unseen=len(unseen),
                        finished=len(self.asked) - len(self._unfinished), structures=len(self.asked),
                        sampled=sum(place.id in self._verdicts for place in sample), sample=len(sample))  # fmt: skip

    def structure(self, name: str) -> StructureVerdict:
        """Return a structure's status; one without regions is accepted only by the reviewer's own word."""
        members = [each for each in self._regions.values() if each.kind is not Kind.BLIND and each.structure == name]
        verdicts = [self._verdicts[region.id] for region in members if region.id in self._verdicts]
        seen = sum(verdict in SEEN for verdict in verdicts)
        unseen = verdicts.count(Verdict.NOT_LOOKED_AT)
        looked = len(verdicts) - unseen
        explicit = self._structures.get(name, (None, ""))[0]
        derived = Verdict.ACCEPTED if members and seen == len(members) else None
        return StructureVerdict(explicit or derived, explicit is not None, looked, len(members), looked - seen, unseen)

    def _add_edit(self, edit: log.Edited) -> None:
        if edit.runs:
            self._steps.append(_Step(self.lines, edit))
        else:  # it may have changed the voxels of any gesture before
            self._steps = [step for step in self._steps if not isinstance(step.action, log.Edited)]
        self.edits.append(edit)

    def _take_back(self, step: _Step) -> None:
        if isinstance(step.action, log.StructureJudged):
            self._structures[step.action.structure] = step.before
        elif isinstance(step.action, log.PlaceAdded):
            del self._regions[step.action.region]
        elif isinstance(step.action, log.Edited):
            self.edits.pop()
        elif isinstance(step.action, log.RestAccepted):
            for region in step.action.regions:
                del self._verdicts[region]
        else:
            self._set_region(step.action.region, *step.before)
            self.last_region = step.action.region

    def _of_region(self, region: int) -> tuple[Verdict | None, str]:
        return self.verdict_of(region), self.comment_of(region)

    def _set_region(self, region: int, verdict: Verdict | None, comment: str) -> None:
        self._comments[region] = comment
        if verdict is None:
            self._verdicts.pop(region, None)
        else:
            self._verdicts[region] = verdict


def _place(region: int, structure: str, value: int, ras_mm: tuple[float, float, float]) -> Region:
    return Region(id=region, rank=region, structure=structure, structure_value=value, kind=Kind.ADDED,
                  expected_wrong_mm3=0.0, volume_mm3=0.0, peak=0.0, peak_ras_mm=ras_mm, centre_ras_mm=ras_mm,
                  size_mm=(0.0, 0.0, 0.0))  # fmt: skip
