"""What tests of the panel share: the module in the running Slicer, real cases, and a run to be reviewed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # needs Slicer
    from listed_cases import Listing
    from opened_module import Opened
    from real_slicer import RealSlicer
    from reviewing import Reviewing


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSlicer]:
    """The running application; reviews that tests leave are removed at the end."""
    from real_slicer import RealSlicer, reviews_folder

    os.environ["OMP_NUM_THREADS"] = "1"
    with RealSlicer(tmp_path_factory.mktemp("slicer")).running() as found:
        yield found
    shutil.rmtree(reviews_folder(), ignore_errors=True)


@pytest.fixture(scope="session")
def segmented(app: RealSlicer, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images` and `cases`, made once; tests copy it."""
    from listed_cases import segment_cases

    return segment_cases(data_folder, tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def opened(app: RealSlicer) -> Iterator[Opened]:
    """The module with an empty scene; an exception that only the application has seen fails the test."""
    from opened_module import Opened

    found = Opened(app)
    app.dialogs.reset()
    app.close_scene()
    app.enter_module()
    found.unfold("inputsButton", "overlayButton", "reviewButton")
    found.wait(lambda: not found.controller.is_busy)
    found.forget_ticks()
    app.take_errors()
    yield found
    assert app.take_errors() == []
    assert app.dialogs.unexpected == []


@pytest.fixture
def reviewing(opened: Opened) -> Iterator[Reviewing]:
    """The run in the scene, without any review of it."""
    from opened_module import segment_crop
    from reviewing import Reviewing

    found = Reviewing(opened)
    shutil.rmtree(found.folder(), ignore_errors=True)
    scene = opened.app.folder / "segmented.mrb"
    if scene.is_file():
        opened.app.load_scene(scene)
    else:
        segment_crop(opened)
        opened.app.save_scene(scene)
    opened.ui.goOnBox.checked = True
    opened.ui.orderBox.currentIndex = 0
    yield found
    found.panel.end()


@pytest.fixture
def listing(opened: Opened, segmented: Path, tmp_path: Path) -> Iterator[Listing]:
    """A copy of the cases, and the panel, which lists nothing yet."""
    from listed_cases import Listing

    home = Path(shutil.copytree(segmented, tmp_path / "home"))
    found = Listing(opened, home)
    panel = found.panel
    panel.list = None
    panel.moved._moves = []
    opened.ui.casesButton.collapsed = False
    found.ui.reviewerEdit.text = ""
    found.ui.goOnBox.checked = True
    for box in (found.ui.onlyFlaggedBox, found.ui.onlyOpenBox, found.ui.anonymousBox):
        box.checked = False
    found.ui.caseFilterEdit.text = ""
    found.ui.exportScopeBox.currentIndex = 1
    yield found
    found.reviewing.panel.end()
    panel.exports._stop()
    panel.exports.draw()
    found.settled()
