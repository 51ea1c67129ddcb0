"""Figures of an edited segmentation, compared with a count voxel by voxel."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from SegWithUCore.regions.region import UNCERTAIN
from SegWithUCore.review.edited_figures import EditedFigures, edited_figures, with_figures

NAMES = {0: "background", 1: "left part", 2: "right part", 3: "other"}
FITTED = {
    "expected_volume_mm3": 9.0,
    "expected_interval_mm3": [8.0, 10.0],
    "held": 9,
    "held_of": 10,
    "predicted_dice": 0.9,
    "soft_dice": 0.9,
}
VOXEL_MM3 = 2.0


class Drawn:
    """A segmentation with noise of every kind, and what a reader did to it."""

    def __init__(self) -> None:
        random = np.random.default_rng(54)
        shape = (7, 9, 11)
        self.drawn = random.integers(0, 4, shape).astype(np.uint8)
        self.edited = np.where(random.random(shape) < 0.1, random.integers(0, 3, shape), self.drawn).astype(np.int16)
        self.edited[self.drawn == 3] = 3  # nobody touches it
        self.q = random.random(shape).astype(np.float32) ** 3
        self.q[0] = -1
        self.runner_up = random.integers(0, 4, shape).astype(np.uint8)
        self.regions = np.where(self.q > 0.1, random.integers(0, 6, shape), 0).astype(np.uint16)
        self.regions[(self.regions == 5) & (self.drawn == 3)] = 0
        self.edited[self.regions == 5] = (self.drawn[self.regions == 5] + 1) % 3

    def figures(self, accepted: set[int], finished: set[int]) -> EditedFigures:
        volumes = (self.drawn, self.edited, self.q, self.runner_up, self.regions)
        return edited_figures(*volumes, values=NAMES, accepted=accepted, finished=finished)

    def case(self) -> dict[str, Any]:
        """What the model says of it."""
        q = np.maximum(self.q, 0).astype(np.float64)
        structures = []
        for value, name in NAMES.items():
            mask = self.drawn == value
            above = float((q[mask] > UNCERTAIN).sum()) * VOXEL_MM3
            sizes = {"voxels": int(mask.sum()), "volume_mm3": mask.sum() * VOXEL_MM3, "uncertain_mm3": above}
            wrong = q[mask].sum() * VOXEL_MM3
            structures.append({"value": value, "name": name, **sizes, "expected_wrong_mm3": wrong, **FITTED})
        total = {"name": "both", "of": [1, 2], "volume_mm3": 1.0, **FITTED}
        warnings = [{"severity": "warning", "message": NAMES[value], "structure": value} for value in (1, 2, 3)]
        return {
            "name": "a",
            "input": {"grid": {"spacing_mm": [1.0, 1.0, 2.0]}},
            "model": {},
            "structures": structures,
            "totals": [total, {**total, "name": "all", "of": [1, 2, 3]}],
            "asymmetries": [{"name": "part", "percent": 1.0, "interval_percent": [0.0, 2.0]}],
            "regions": {"count": 5},
            "ood": {"warnings": warnings},
        }

    def counted(self, accepted: set[int], finished: set[int]) -> dict[str, Any]:
        """The same, one voxel after the other."""
        wrong, above, left = [0.0] * 4, [0] * 4, [0.0] * 6
        for at in np.ndindex(self.drawn.shape):
            old, q, region = int(self.drawn[at]), float(self.q[at]), int(self.regions[at])
            is_right = old != self.edited[at] or region in accepted or old in finished
            is_right |= old == 0 and (int(self.runner_up[at]) in finished or finished == {1, 2, 3})
            if q > 0 and not is_right:
                wrong[old] += q
                above[old] += q > UNCERTAIN
                left[region] += q if region else 0.0
        voxels = [int((self.edited == value).sum()) for value in NAMES]
        return {"voxels": voxels, "wrong": wrong, "above": above, "left": left}


def by_name(entries: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {str(entry["name"]): entry for entry in entries}


@pytest.mark.parametrize("accepted", [set(), {2, 4}])
@pytest.mark.parametrize("finished", [set(), {1}, {1, 2}, {1, 2, 3}])
def test_figures_are_those_of_a_count_voxel_by_voxel(accepted: set[int], finished: set[int]) -> None:
    drawn = Drawn()
    found = with_figures(drawn.case(), drawn.figures(accepted, finished), "Ana")
    counted = drawn.counted(accepted, finished)
    for value, entry in enumerate(found["structures"]):
        assert entry["voxels"] == counted["voxels"][value]
        assert entry["volume_mm3"] == counted["voxels"][value] * VOXEL_MM3
        assert entry["expected_wrong_mm3"] == pytest.approx(counted["wrong"][value] * VOXEL_MM3, abs=1e-9)
        assert entry["uncertain_mm3"] == counted["above"][value] * VOXEL_MM3
        assert entry["uncertain_share"] == pytest.approx(counted["above"][value] / counted["voxels"][value])
    assert found["regions"]["left_mm3"] == pytest.approx([left * VOXEL_MM3 for left in counted["left"]])
    assert found["regions"]["expected_wrong_mm3"] == pytest.approx(sum(counted["wrong"]) * VOXEL_MM3)
    assert found["regions"]["removed"] == [5]
    left, right, _ = counted["voxels"][1:]
    (asymmetry,) = found["asymmetries"]
    assert asymmetry["percent"] == pytest.approx(200 * (left - right) / (left + right))
    assert by_name(found["totals"])["both"]["volume_mm3"] == (left + right) * VOXEL_MM3
    if finished == {1, 2, 3}:
        assert found["regions"]["expected_wrong_mm3"] == 0 == found["structures"][0]["expected_wrong_mm3"]


@pytest.mark.parametrize("finished", [set(), {1}, {1, 2}, {3}])
def test_nothing_that_was_said_of_the_former_segmentation_stays(finished: set[int]) -> None:
    """What was edited or finished has no interval and no predicted Dice; the rest keeps what the model said."""
    drawn = Drawn()
    found = with_figures(drawn.case(), drawn.figures(set(), finished), "Ana")
    entries = by_name([*found["structures"], *found["totals"]])
    parts = {**{name: {value} for value, name in NAMES.items() if value}, "both": {1, 2}, "all": {1, 2, 3}}
    for name, own in parts.items():
        is_edited, is_read = bool(own & {1, 2}), own <= finished
        assert entries[name].get("read_by") == ("Ana" if is_read else None), name
        assert entries[name].get("edited") == (True if is_edited and not is_read else None), name
        assert {key: entries[name][key] for key in FITTED} == (
            dict.fromkeys(FITTED) if is_edited or is_read else FITTED
        )
    assert entries["background"]["expected_interval_mm3"] == FITTED["expected_interval_mm3"]
    assert found["asymmetries"][0]["interval_percent"] is None
    assert [each["structure"] for each in found["ood"]["warnings"]] == ([] if 3 in finished else [3])


def test_a_review_without_an_edit_changes_no_volume() -> None:
    drawn = Drawn()
    drawn.edited = drawn.drawn.astype(np.int16)
    case = drawn.case()
    found = with_figures(case, drawn.figures({1}, set()), "Ana")
    for before, after in zip(case["structures"], found["structures"], strict=True):
        assert {key: after[key] for key in ("voxels", "volume_mm3", *FITTED)} == {
            key: before[key] for key in ("voxels", "volume_mm3", *FITTED)
        }
        assert after["expected_wrong_mm3"] < before["expected_wrong_mm3"]
    assert found["asymmetries"][0]["interval_percent"] == [0.0, 2.0]
    assert found["regions"]["removed"] == []
