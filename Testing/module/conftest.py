"""What tests of the panel share: the module opened once for a test file, real cases, and a run to be reviewed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # needs what only tests of the host may need
    from listed_cases import Listing
    from opened_module import Opened
    from reviewing import Reviewing

OUR_PACKAGES = ("SegWithUCore", "SegWithULab", "SegWithUSlicerLib")


@pytest.fixture(scope="module", autouse=True)
def our_modules_as_before() -> Iterator[None]:
    """Put our packages back as they were: Reload makes new ones, whose classes are not those of other test files."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in OUR_PACKAGES}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in OUR_PACKAGES]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture(scope="session")
def segmented(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images` and `cases`, made once for all test files; tests copy it."""
    from listed_cases import segment_cases

    return segment_cases(data_folder, tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def opened_once() -> Iterator[Opened]:
    """One application for a test file: a worker takes seconds to start."""
    from opened_module import MODULE, Opened
    from SlicerHost.host import SlicerHost

    with SlicerHost(MODULE) as host:
        yield Opened(host)


@pytest.fixture
def opened(opened_once: Opened) -> Iterator[Opened]:
    """The module with an empty scene; findings left at the end fail the test."""
    from SlicerHost import strict

    opened_once.host.close_scene()
    opened_once.host.enter_module()
    opened_once.wait(lambda: not opened_once.controller.is_busy)
    yield opened_once
    found, strict.STRICT[:] = list(strict.STRICT), []
    assert not found, "\n".join(map(str, found))


@pytest.fixture
def reviewing(opened: Opened) -> Iterator[Reviewing]:
    """The run in the scene, without any review of it."""
    from opened_module import segment_crop
    from reviewing import Reviewing

    found = Reviewing(opened)
    shutil.rmtree(found.folder(), ignore_errors=True)
    scene = opened.host.folder / "segmented.mrb"
    if scene.is_file():
        opened.host.load_scene(scene)
    else:
        segment_crop(opened)
        opened.host.save_scene(scene)
    opened.ui.goOnBox.checked = True
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
    found.ui.reviewerEdit.text = ""
    found.ui.goOnBox.checked = True
    for box in (found.ui.onlyFlaggedBox, found.ui.onlyOpenBox, found.ui.anonymousBox):
        box.checked = False
    found.ui.caseFilterEdit.text = ""
    yield found
    found.reviewing.panel.end()
    panel.exports._stop()
    panel.exports.draw()
    found.settled()
