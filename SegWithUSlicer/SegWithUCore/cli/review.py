"""`segwithu regions`: the regions of segmented cases that are worth a look."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SegWithUError, UsageError
from ..regions.region import ORDERS, Region, in_order
from .arguments import finite_number
from .console import Console, failure_sentence, table

if TYPE_CHECKING:
    from ..regions.find_regions import FoundRegions, RegionSettings

_MOST_ROWS = 30


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `regions`."""
    command = commands.add_parser(
        "regions",
        parents=[common],
        help="list the regions of a segmented case that are worth a look",
        description="Group the uncertain voxels of case folders into regions worth a look each, write regions.csv and "
        "regions.nii.gz into them and print the list. segment has done so already with the standard settings.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASE", help="case folder that segment wrote")
    command.add_argument(
        "--order", choices=sorted(ORDERS), default="expected wrong volume", help="how the printed list is sorted"
    )
    command.add_argument(
        "--threshold", type=finite_number, help="error probability above which a voxel is uncertain (0.25)"
    )
    command.add_argument("--extent-mm", type=finite_number, help="largest diagonal of a merged region in mm (20)")
    command.add_argument(
        "--overwrite", action="store_true", help="also where a review belongs to the regions that are there"
    )
    command.add_argument(
        "--thumbnails",
        action="store_true",
        help="also draw each region into the case's folder regions/ (PNG, from the image)",
    )
    command.add_argument("--image", type=Path, help="where the image of the case lies now, if it was moved")
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Make and print regions; a case that fails does not stop the others."""
    from ..case.case_regions import make_regions_again
    from ..inference.region_pictures import draw_regions

    settings = _settings(options)
    if options.image and len(options.cases) > 1:
        raise UsageError("--image goes with one CASE.")
    failed = 0
    for folder in options.cases:
        try:
            found = make_regions_again(folder, settings, options.overwrite)
            if options.thumbnails:
                draw_regions(folder, found.regions, options.image)
        except SegWithUError as error:
            console.error(failure_sentence(error))
            failed += 1
            continue
        regions = in_order(found.regions, options.order)
        data = {"case": str(folder), **found.summary(settings), "regions": [asdict(region) for region in regions]}
        console.result(_text(folder, regions, found), data)
    return 1 if failed else 0


def _settings(options: argparse.Namespace) -> "RegionSettings":
    from ..regions.find_regions import RegionSettings

    given = {"threshold": options.threshold, "extent_mm": options.extent_mm}
    settings = RegionSettings(**{name: value for name, value in given.items() if value is not None})
    if not 0 < settings.threshold < 1:
        raise UsageError(f"--threshold {settings.threshold}: give an error probability between 0 and 1.")
    if settings.extent_mm <= 0:
        raise UsageError(f"--extent-mm {settings.extent_mm}: give a length above 0.")
    return settings


def _text(folder: Path, regions: Sequence[Region], found: "FoundRegions") -> str:
    lines = [str(folder)]
    if regions:
        header = ["rank", "id", "structure", "kind", "wrong mm3", "mm3", "peak", "R", "A", "S", "most likely"]
        lines.append(table(header, [_row(region) for region in regions[:_MOST_ROWS]], words=(2, 3, 10)))
    if len(regions) > _MOST_ROWS:
        lines.append(f"... and {len(regions) - _MOST_ROWS} more in regions.csv")
    inside, haze = sum(region.expected_wrong_mm3 for region in regions), sum(found.haze_mm3.values())
    lines.append(
        f"{len(regions)} regions hold {inside:.0f} of the {found.expected_wrong_mm3:.0f} mm3 that are expected to be "
        f"wrong; {haze:.0f} mm3 are spread thin along boundaries, the rest over voxels that are hardly uncertain."
    )
    return "\n".join(lines)


def _row(region: Region) -> list[str]:
    way = region.competing[0]
    return [
        str(region.rank),
        str(region.id),
        region.structure,
        region.kind.value,
        f"{region.expected_wrong_mm3:.0f}",
        f"{region.volume_mm3:.0f}",
        f"{region.peak:.2f}",
        *(f"{value:.1f}" for value in region.peak_ras_mm),
        f"{way.truth} read as {way.read_as} ({way.share:.0%})",
    ]
