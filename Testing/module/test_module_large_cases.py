"""Large cases from the list: opened in steps, and given up where another one is chosen or the scene is closed."""

from __future__ import annotations

from typing import Any

import pytest
import slicer
from listed_cases import CASES, Listing

A, B, C = CASES


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Load in the smallest steps; what is put into the list is called once, between two of them."""
    from SegWithUSlicerLib.panels import case_opener

    monkeypatch.setattr(case_opener, "SLICE_S", 0.0)
    acts: list[Any] = []
    live = case_opener.CaseOpener._let_window_live

    def lived(self: Any, case: Any, turn: int, fraction: float) -> None:
        if acts and fraction > 0:
            acts.pop()()
        live(self, case, turn, fraction)

    monkeypatch.setattr(case_opener.CaseOpener, "_let_window_live", lived)
    return acts


def test_a_large_case_is_opened_in_steps_and_another_click_in_the_middle_wins(
    listing: Listing, acts: list[Any]
) -> None:
    opener, said = listing.panel.opener, []
    acts.append(lambda: said.append(listing.ui.caseLabel.text))
    assert opener.open(listing.cases / A)
    assert said[0].split(":")[0] == f"Opening {A}"
    acts.append(lambda: said.append(opener.open(listing.cases / C)))
    assert not opener.open(listing.cases / B)
    assert (said[1], listing.opened.nodes.label) == (True, C)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    assert not any(name.startswith((A, B)) for name in names), "nothing of the case that was given up stays"


def test_a_closed_scene_ends_the_opening_of_a_large_case(listing: Listing, acts: list[Any]) -> None:
    acts.append(listing.host.close_scene)
    assert not listing.panel.opener.open(listing.cases / A)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert listing.opened.nodes is None
