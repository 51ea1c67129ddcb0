"""Two reviewers do not see each other's verdicts before both have said everything."""

from collections.abc import Sequence
from dataclasses import replace

from ..regions.region import Region
from .opening import has_ended
from .reviewer import clean_reviewer_name
from .reviews import CaseReviews, Review


def ended(review: Review, regions: Sequence[Region]) -> bool:
    """Whether a review has come to its end: every region has a verdict, and blind places are revealed.

    Args:
        regions: of the case.
    """
    return has_ended(review.events, all(review.state.decided(region.id) for region in regions))


def seen_by(reviewer: str, found: CaseReviews) -> CaseReviews:
    """Leave the reviews that a reviewer may see: the own one, and with it ended, those of others that have too.

    Args:
        reviewer: name as entered; "" for nobody, who sees none.
    """
    name = clean_reviewer_name(reviewer) if reviewer.strip() else ""
    own = [review for review in found.reviews if review.reviewer == name]
    done = any(ended(review, found.regions) for review in own)
    others = [review for review in found.reviews if review not in own and done and ended(review, found.regions)]
    return replace(found, reviews=tuple(sorted((*own, *others), key=lambda review: review.reviewer)))
