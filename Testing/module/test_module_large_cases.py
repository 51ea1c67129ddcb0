"""Large cases from the list: opened in steps, and given up where another one is chosen or the scene is closed."""

from __future__ import annotations

from typing import Any

import pytest
import slicer
from listed_cases import CASES, Listing

A, B, C = CASES


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Treat every case as large; what is put into the list is called once, in a turn of the event loop."""
    from SegWithUSlicerLib.panels import case_opener
    from SegWithUSlicerLib.scene import read_case

    for module in (case_opener, read_case):
        monkeypatch.setattr(module, "LATER_ABOVE_VOXELS", 1000)
    monkeypatch.setattr(case_opener, "SLICE_S", 0.0)
    acts: list[Any] = []
    turn, steps = case_opener.Waiting._turn, case_opener.Waiting.for_steps
    loading: list[bool] = []

    def turned(self: Any) -> None:
        if acts and loading:
            acts.pop()()
        turn(self)

    def with_steps(self: Any, *arguments: Any) -> Any:
        loading.append(True)
        try:
            return steps(self, *arguments)
        finally:
            loading.pop()

    monkeypatch.setattr(case_opener.Waiting, "_turn", turned)
    monkeypatch.setattr(case_opener.Waiting, "for_steps", with_steps)
    return acts


def test_a_large_case_is_opened_in_steps_and_another_click_in_the_middle_wins(
    listing: Listing, all_are_large: list[Any]
) -> None:
    opener, said = listing.panel.opener, []
    all_are_large.append(lambda: said.append(listing.ui.caseLabel.text))
    assert opener.open(listing.cases / A)
    assert (list(listing.opened.nodes.maps), said[0].split(":")[0]) == (["error_probability"], f"Opening {A}")
    all_are_large.append(lambda: said.append(opener.open(listing.cases / C)))
    assert not opener.open(listing.cases / B)
    assert (said[1], listing.opened.nodes.label) == (True, C)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    assert not any(name.startswith((A, B)) for name in names), "nothing of the case that was given up stays"


def test_a_closed_scene_ends_the_opening_of_a_large_case(listing: Listing, all_are_large: list[Any]) -> None:
    all_are_large.append(listing.host.close_scene)
    assert not listing.panel.opener.open(listing.cases / A)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert listing.opened.nodes is None
