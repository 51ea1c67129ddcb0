"""A case for the page, as JSON: grid, volumes, structures, regions, flags; nothing of any reviewer."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..case.case_file import CaseDescription, MapInfo, asked_structures, is_mask_alone, naming_case
from ..case.case_files import regions_of_case
from ..case.case_regions import ijk_to_ras
from ..case.structures_table import table_entries
from ..io.roi import VoxelBox
from ..regions.region import Region, why
from ..report.tables import case_facts, expected_cell, volume_cell
from ..review.flags import case_flags, rules_of_case
from ..review.session import ReviewedCase
from ..review.status import Level, status_of
from .case_volumes import STEPS, CaseVolumes, box_json, map_window, region_masks

FORMAT = "segwithu-page-case"
FORMAT_VERSION = 1
# Sine of the angle from which a grid counts as oblique.
_AXIS_ALIGNED = 1e-4


class PageCase:
    """A case as the page shows it.

    Attributes:
        volumes: what is drawn.
        regions: by rank; empty if there are none, and `regions_trouble` says why.
        regions_sha256: a review belongs to these regions.
        reviewed: the case as reviews need it.
        masks: their voxels.
    """

    def __init__(self, volumes: CaseVolumes, crop: VoxelBox | None = None) -> None:
        """Describe a case.

        Args:
            volumes: those that are shown.
            crop: the part of the grid that the image was cut to; None for all of it.

        Raises:
            InputError: it is damaged.
        """
        self.volumes = volumes
        self._crop = crop
        with naming_case(volumes.folder):
            self.regions, self.regions_sha256, self.regions_trouble = _regions(volumes)
            labels = volumes.region_labels
            ids = [region.id for region in self.regions]
            self.masks = region_masks(np.zeros((0, 0, 0), np.uint8) if labels is None else labels, ids)
            self.reviewed = ReviewedCase(self.raw, self.regions, self.regions_sha256)
            self._facts = self._described()

    @property
    def raw(self) -> Mapping[str, Any]:
        """The content of `case.json`."""
        return self.volumes.description.raw

    def to_json(self, id_: str) -> dict[str, Any]:
        """Everything but the voxels."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, "id": id_, **self._facts}

    def identity(self) -> dict[str, Any]:
        """Return the case that a returned review must be about, and the first line of the review."""
        raw = self.raw
        return {
            "voxels_sha256": [str(channel.get("voxels_sha256") or "") for channel in raw["input"]["channels"]],
            "weights_sha256": str((raw.get("model") or {}).get("weights_sha256") or ""),
            "regions_sha256": self.regions_sha256,
            "case_sha256": self.reviewed.key,
            "opened": asdict(self.reviewed.header()),
        }

    def _described(self) -> dict[str, Any]:
        case, volumes, entries = self.volumes.description, self.volumes, page_entries(self.raw)
        flags = case_flags(self.raw, rules_of_case(self.raw))
        status = status_of(self.raw, flags)
        return {
            "name": case.name,
            "grid": _grid(volumes),
            "crop": None if self._crop is None else box_json(self._crop),
            "image": None if volumes.image is None else {"url": "volumes/image", **volumes.image.facts()},
            "image_trouble": volumes.image_trouble,
            "labels": {"url": "volumes/labels", **volumes.labels.facts()},
            "maps": {name: self._map(name, info) for name, info in case.maps.items()},
            "first_map": next(iter(case.maps), None),
            "structures": [
                {**asdict(structure), "percent": entry["percent"], "held_text": entry["held_text"]}
                for structure, entry in zip(case.structures, entries, strict=False)  # totals follow
            ],
            "wholes": entries[len(case.structures) :],
            "boxes": [{"side": box.side, "index": box.index_ijk, "size": box.size_ijk} for box in case.boxes],
            "status": {**status.to_json(), "alert": status.text if status.level is Level.DO_NOT_USE else ""},
            "reasons": list(dict.fromkeys([status.reason, *(flag.message for flag in flags)])),
            "facts": [list(fact) for fact in case_facts(self.raw)],
            "asked": list(asked_structures(self.raw)),
            "regions_trouble": self.regions_trouble,
            "regions": [self._region(region) for region in self.regions],
            "masks": {"url": "volumes/masks", "dtype": "uint8", "bytes": len(self.masks.data)},
            "identity": self.identity(),
        }

    def _map(self, name: str, info: MapInfo) -> dict[str, Any]:
        shown = {"url": f"volumes/{name}", "dtype": "uint8", "box": box_json(self.volumes.assessed), "steps": STEPS}
        return {**asdict(info), **shown, "window": list(map_window(info))}

    def _region(self, region: Region) -> dict[str, Any]:
        reason = why(region, bool(self.raw.get("roi")))
        return {
            **asdict(region),
            "peak_ijk": self.volumes.index_of(region.peak_ras_mm),
            "why": f"{reason[:1].upper()}{reason[1:]}.",
            "box": box_json(self.masks.boxes[region.id]),
            "mask_start": self.masks.starts[region.id],
        }


def page_entries(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the page's table, as `table_entries`; those of asymmetries with their `texts`."""
    return [
        each if "volume_mm3" in each else {**each, "texts": [volume_cell(each), expected_cell(each)]}
        for each in table_entries(case)
    ]


def _regions(volumes: CaseVolumes) -> tuple[tuple[Region, ...], str, str]:
    """Read the regions, their hash, and why there is nothing to review; the same sentences as in Slicer."""
    case: CaseDescription = volumes.description
    if "error_probability" not in case.maps and not is_mask_alone(case.raw):
        return (), "", "The model is not calibrated: without error probability there are no regions to review."
    if case.raw.get("regions") is None:
        return (), "", "This case has no regions: run segwithu regions."
    regions, sha256 = regions_of_case(volumes.folder, case.raw)
    nothing = "Nothing calls for a look. That does not mean that everything is correct."
    return regions, sha256, "" if regions else nothing


def _grid(volumes: CaseVolumes) -> dict[str, Any]:
    grid = volumes.grid
    directions = np.abs(np.reshape(grid.direction, (3, 3)))
    return {
        "size": list(grid.size),
        "spacing": list(grid.spacing),
        "ijk_to_ras": ijk_to_ras(grid).tolist(),
        "oblique": bool((np.minimum(directions, 1 - directions) > _AXIS_ALIGNED).any()),
        "voxel_mm3": float(np.prod(grid.spacing)),
    }
