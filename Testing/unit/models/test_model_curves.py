"""`curves.json`: what is written is read, other models' curves are not shown, and damage is named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from segwithu_command import MODEL

from SegWithUCore.metrics.curves import curves_of_case
from SegWithUCore.models.bundle import read_bundle, with_head
from SegWithUCore.models.curves import (
    CURVES_FILE,
    REMEDY,
    ModelCurves,
    find_curves,
    read_curves,
    write_curves,
)
from SegWithUCore.util.errors import InputError

WEIGHTS, CALIBRATION = "a" * 64, "b" * 64


def some_curves(head: str = "context", weights: str = WEIGHTS, calibration: str = CALIBRATION) -> ModelCurves:
    """Of ten thousand voxels."""
    generator = np.random.default_rng(1)
    probability = (generator.random(10_000) ** 5).astype(np.float32)
    whole = curves_of_case(probability, generator.random(10_000) < probability)
    return ModelCurves(head, weights, calibration, 7, {"whole": whole})


def test_what_is_written_is_read_and_found_by_weights_and_calibration(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = some_curves(), some_curves("paper", calibration="c" * 64)
    for curves in (one, other):
        write_curves(tmp_path / "b", curves)
    folders = [tmp_path / "a", tmp_path / "b"]
    found = find_curves(folders, WEIGHTS, CALIBRATION)
    assert found is not None and (found.head, found.cases) == ("context", 7)
    assert np.allclose(found.regions["whole"].risk, one.regions["whole"].risk, rtol=1e-8)
    assert len(found.regions["whole"].bins) == len(one.regions["whole"].bins)
    assert find_curves(folders, WEIGHTS, "c" * 64) is not None
    assert find_curves(folders, "d" * 64, CALIBRATION) is None, "they are another model's"


def test_a_head_that_is_measured_again_replaces_its_own_and_what_is_left_of_other_weights(tmp_path: Path) -> None:
    for curves in (some_curves(), some_curves("paper"), replace(some_curves(), cases=8)):
        write_curves(tmp_path, curves)
    assert [(entry.head, entry.cases) for entry in read_curves(tmp_path)] == [("context", 8), ("paper", 7)]
    write_curves(tmp_path, some_curves("paper", weights="e" * 64))
    assert [entry.head for entry in read_curves(tmp_path)] == ["paper"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format_version",), 2),
        (("curves", 0, "regions"), {}),
        (("curves", 0, "regions", "whole", "aurc"), 1.5),
        (("curves", 0, "regions", "whole", "voxels"), "many"),
        (("curves", 0, "regions", "whole", "risk"), [0.5]),
        (("curves", 0, "regions", "whole", "coverage", 1), 0.0),
        (("curves", 0, "regions", "whole", "bins"), None),
    ],
)
def test_a_damaged_file_is_named_and_can_be_made_again(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    write_curves(tmp_path, some_curves())
    content = json.loads((tmp_path / CURVES_FILE).read_text(encoding="utf-8"))
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    (tmp_path / CURVES_FILE).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=CURVES_FILE) as caught:
        read_curves(tmp_path)
    assert REMEDY in str(caught.value)
    write_curves(tmp_path, some_curves())
    assert len(read_curves(tmp_path)) == 1


@pytest.mark.parametrize("head", ["context", "paper"])
def test_the_shipped_curves_are_those_of_the_figures_on_its_card(head: str) -> None:
    bundle = with_head(read_bundle(MODEL), head)
    assert bundle.calibration_sha256 is not None and bundle.figures is not None
    found = find_curves([MODEL], bundle.weights_sha256, bundle.calibration_sha256)
    assert found is not None and (found.head, found.cases) == (head, bundle.figures["cases"])
    pooled = bundle.figures["comparisons"]["error probability ece band, pooled"]
    assert found.regions["band"].expected_calibration_error == pytest.approx(pooled, rel=1e-4)
    wrong = [figures["wrong voxels"] for figures in bundle.figures["by_case"].values()]
    assert found.regions["whole"].errors == pytest.approx(sum(wrong), rel=1e-4)
