"""The pictures of README and docs, taken in the real application: whole windows of 1,400 x 860, and the panel alone."""

from __future__ import annotations

from typing import Any

import slicer
from real_user import User
from real_workflows import cases

SIZE = (1400, 860)
PANEL_WIDTH = 420
MOST_UNCERTAIN = 0.1
"""Threshold of the third picture: more is coloured than with the usual 0.25."""


def documentation_pictures(user: User) -> None:
    """Go through the first steps, a list of cases and the models, and take a picture of each for README and docs."""
    user.set_size(*SIZE)
    user.set_panel_width(PANEL_WIDTH)
    user.click("tryItButton")
    user.pause(3.0)
    take(user, "step1")
    user.click("runButton")
    nodes = user.finish()
    user.find("show3DBox").checked = True
    user.pause(1.0)
    take(user, "step2")
    take_panel(user, "panel")
    user.find("thresholdSlider").value = MOST_UNCERTAIN
    user.pause(0.5)
    take(user, "step3")
    take_views(user, "views")
    user.find("thresholdSlider").value = 0.25
    user.start_review()
    user.pause(0.5)
    take(user, "step4")
    take(user, "wide")
    user.check("the review shows its regions", user.find("regionsTable").rowCount > 0)
    user.click("endReviewButton")
    segments = nodes.segmentation.GetSegmentation().GetNumberOfSegments()
    user.check("all structures are in the picture", segments == len(nodes.case.structures), segments)
    user.restore()
    cases(user)
    user.unfold("casesButton")
    user.pause(0.5)
    take_panel(user, "cases")
    user.unfold("modelsButton")
    user.pause(0.5)
    take_panel(user, "models")


def take(user: User, name: str) -> None:
    """Take a picture of the window."""
    slicer.app.processEvents()
    _save(user, slicer.util.mainWindow(), name)


def take_panel(user: User, name: str) -> None:
    """Take a picture of the whole panel, as long as it is."""
    slicer.app.processEvents()
    _save(user, user.scroll_area.widget(), name)


def take_views(user: User, name: str) -> None:
    """Take a picture of the views."""
    slicer.app.processEvents()
    _save(user, slicer.app.layoutManager().viewport(), name)


def _save(user: User, widget: Any, name: str) -> None:
    path = user.folder / f"{name}.png"
    if not widget.grab().toImage().save(str(path)):
        raise OSError(f"no picture could be written to {path}")
    user.seen.pictures.append(path.name)
