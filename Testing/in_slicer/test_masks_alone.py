"""A mask without a model: its case is listed, reviewed and edited; what only a model gives is not shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from listed_cases import Listing, segwithu
from mask_cases import LABELS, LEFT, SPACING, even_mask, with_hole, with_island, write, write_image
from opened_module import Opened

from SegWithUCore.regions.region import Kind

NAME = "head"
VOXEL_MM3 = float(np.prod(SPACING))


@pytest.fixture(scope="module")
def home(app: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image and the case of its mask, which has an island and a hole."""
    folder = tmp_path_factory.mktemp("masks")
    image = write_image(folder / "images" / f"{NAME}.nii.gz")
    mask = write(with_hole(with_island(even_mask())), folder / "masks" / f"{NAME}.nii.gz")
    segwithu("review", image, mask, "-o", folder / "cases", "--labels", *LABELS)
    return folder


@pytest.fixture
def listing(opened: Opened, home: Path) -> Iterator[Listing]:
    found = Listing(opened, home)
    found.panel.list = None
    opened.ui.casesButton.collapsed = False
    for box in (found.ui.onlyFlaggedBox, found.ui.onlyOpenBox, found.ui.anonymousBox):
        box.checked = False
    found.ui.caseFilterEdit.text = ""
    yield found
    found.reviewing.panel.end()
    found.settled()


def _hidden(table: Any) -> list[str]:
    places = range(table.columnCount)
    return [table.horizontalHeaderItem(each).text() for each in places if table.isColumnHidden(each)]


def test_a_mask_alone_is_listed_reviewed_and_edited(listing: Listing) -> None:
    listing.list_folder()
    assert listing.shown == [NAME]
    assert _hidden(listing.ui.casesTable) != []
    listing.click(NAME)
    nodes, reviewing = listing.opened.nodes, listing.reviewing
    assert len(_hidden(listing.ui.structuresTable)) == 3
    assert nodes.maps == {}
    reviewing.start("Ana")
    assert {region.kind for region in reviewing.session.regions} == {Kind.ISLAND, Kind.HOLE}
    island = next(region for region in reviewing.session.regions if region.kind is Kind.ISLAND)
    assert reviewing.session.current.id == reviewing.ids[0]
    reviewing.judge("accepted")
    reviewing.ui.regionsTable.setCurrentCell(reviewing.ids.index(island.id), 0)
    assert reviewing.session.current.id == island.id
    planted = with_island(even_mask()) != even_mask()
    assert np.array_equal(reviewing.voxels(), planted)
    assert max(reviewing.off_peak_mm()) < 1
    reviewing.paint_region(erase=True)
    listing.settled()
    assert reviewing.session.check_for_edits() or reviewing.session.figures()
    left = np.count_nonzero(even_mask() == LEFT) * VOXEL_MM3
    assert reviewing.session.figures()["left organ"]["volume_mm3"] == pytest.approx(left)
    if picture := os.environ.get("SEGWITHU_PICTURE"):
        slicer.util.mainWindow().grab().toImage().save(picture)
    reviewing.judge("corrected")
    events = [line["event"] for line in listing.log(NAME)]
    assert {"opened", "edited", "verdict"} <= set(events)
    assert (listing.cases / NAME / "segmentation_reviewed.Ana.seg.nrrd").is_file()


def test_of_a_mask_alone_no_contour_is_scrolled(listing: Listing) -> None:
    from SegWithUCore.util.errors import InputError

    listing.list_folder()
    listing.click(NAME)
    listing.reviewing.start("Ben")
    with pytest.raises(InputError):
        listing.reviewing.session.contour(listing.cases / NAME, True)
