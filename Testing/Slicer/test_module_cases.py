"""The list of cases through the panel: opened, filtered, sorted; a click opens a case and its review goes on."""

# ruff: noqa: E402  (the host is imported only where it can run)

from __future__ import annotations

import pytest
import SlicerHost

reason = SlicerHost.missing_reason()
if reason:
    pytest.skip(reason, allow_module_level=True)

from listed_cases import CASES, Listing, listing, segmented, segwithu  # noqa: F401
from opened_module import opened, opened_once  # noqa: F401


def test_a_folder_is_listed_with_the_most_benefit_of_a_look_first(listing: Listing) -> None:  # noqa: F811
    from SegWithUCore.review.case_file import case_folders
    from SegWithUCore.review.worklist import make_worklist

    listing.list_folder()
    entries = make_worklist(case_folders([listing.cases])).entries
    assert listing.shown == [entry.name for entry in entries]
    for entry in entries:
        told = tuple(listing.cell(entry.name, column) for column in range(1, 7))
        wrong = f"{entry.expected_wrong_mm3:.0f} mm³"
        assert told == ("not begun", "", entry.worst_structure, wrong, str(entry.regions), f"{entry.minutes:.1f}")


def test_a_click_opens_a_case_with_its_image_and_closes_the_one_before(listing: Listing) -> None:  # noqa: F811
    listing.list_folder()
    listing.click(CASES[1])
    assert (listing.open_case, listing.volumes()) == (CASES[1], [CASES[1]])
    listing.click(CASES[0])
    assert (listing.open_case, listing.volumes()) == (CASES[0], [CASES[0]])
    assert listing.opened.coloured() > 10
