"""How far a review is, in words."""

from SegWithUCore.review.events import Verdict

from ..i18n import _
from ..review.session import ReviewSession
from ..scene.readout import volume_text
from .review_words import wrappable


def progress_text(session: ReviewSession) -> str:
    """Regions decided, errors seen, time left, what edits have changed, and what the disk does not take."""
    lines = [session.state.progress().text]
    score = session.rescore
    if score is not None:
        text = _(
            "Remaining expected wrong volume {left}; {inside} voxels changed in regions, {outside} outside."
        ).format(left=volume_text(score.remaining_mm3), inside=score.inside_voxels, outside=score.outside)
        lines.append(text)
    return "\n".join(filter(None, [*lines, wrappable(session.trouble)]))


def closing_text(session: ReviewSession) -> str:
    """What is said when every region has a verdict; "" before."""
    if not session.is_done:
        return ""
    state = session.state
    given = [state.verdict_of(region.id) for region in session.regions]
    text = _("All {n} regions are decided: {rejected} rejected, {second} for a second reader.").format(
        n=len(given), rejected=given.count(Verdict.REJECTED), second=given.count(Verdict.SECOND_READER)
    )
    more = _("End the review to read what the blind places tell.") if session.has_blind_places else ""
    return " ".join(filter(None, [text, more]))


def kept_text(session: ReviewSession) -> str:
    """What is said after the end: why not everything is on disk, or where it is."""
    if session.trouble:
        return session.trouble
    return _("{progress}: kept in {folder}.").format(progress=session.state.progress().text, folder=session.folder)
