"""`run.py baselines`: one segmentation for all rows, nothing fitted on test cases, whole or absent."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import compare_baselines
import pytest
import torch
from baselines.image_trees import TREES
from hippocampi import write_hippocampi
from repository import ROOT
from segwithu_command import Command, child, entries, finished, one_sentence, refused, tiny_bundle

from SegWithUCore.models.bundle import Bundle, read_bundle, write_bundle_json
from SegWithUCore.models.bundle_network import empty_network, write_weights
from SegWithUCore.network.weights import unique_state

pytestmark = pytest.mark.slow

ROLES = {
    "train": ("hippocampus_075", "hippocampus_197"),
    "select": ("again_1_hippocampus_075",),
    "calibration": ("hippocampus_251", "hippocampus_252"),
    "test": ("again_1_hippocampus_197", "hippocampus_319", "hippocampus_320"),
}
PATIENTS = {"hippocampus_319": "two", "hippocampus_320": "two"}
PROGRAM = (str(ROOT / "Testing" / "Benchmarks" / "run.py"), "baselines")
QUICK = ("--baselines", "softmax,temperature,distance,heads", "--repeats", "1")


@pytest.fixture
def compare(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the comparison in this process."""
    return Command(capfd, compare_baselines.main)


@pytest.fixture(autouse=True)
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at how good a baseline is, or how quick on average."""
    monkeypatch.setattr("baselines.benchmark.CASES", 1)
    monkeypatch.setitem(TREES, "max_iter", 5)


@pytest.fixture
def split(data_folder: Path, tmp_path: Path) -> Path:
    """Eight cases, two of the three test cases of one patient."""
    write_hippocampi(data_folder, tmp_path / "data", 8)
    rows = [f"{name},{PATIENTS.get(name, name)},{role}" for role, names in ROLES.items() for name in names]
    table = tmp_path / "data" / "split.csv"
    table.write_text("case,patient,role\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return table


def arguments(split: Path, model: Path, output: Path, *more: str | Path) -> list[str | Path]:
    """The comparison with test and calibration cases."""
    cases = ["--cases", f"{split}:test", "--calibration", f"{split}:calibration"]
    return ["--model", model, *cases, "--output", output, "--threads", "1", *more]


def reseeded(folder: Path, seed: int) -> Bundle:
    """A tiny bundle whose backbone has other random weights."""
    bundle = read_bundle(tiny_bundle(folder))
    torch.manual_seed(seed)
    network = empty_network(bundle)
    digest = write_weights(folder, unique_state(network.backbone), {"paper": network.head_state()})
    return write_bundle_json(Bundle(**{**bundle.__dict__, "weights_sha256": digest}), folder)


def measured(output: Path) -> dict[str, Any]:
    """The summary without what depends on the clock."""
    found: dict[str, Any] = json.loads((output / "baselines.json").read_text(encoding="utf-8"))
    del found["bare"], found["made_with"]
    for row in found["rows"]:
        del row["cost"]
    return found


def test_every_rival_judges_the_same_segmentation_in_one_table(compare: Command, split: Path, tmp_path: Path) -> None:
    model, output = tiny_bundle(tmp_path / "m"), tmp_path / "out"
    members = [tmp_path / "m1", tmp_path / "m2"]
    for seed, member in enumerate(members, 1):
        reseeded(member, seed)
    call = arguments(split, model, output, "--ensemble", *members, "--mirror", "--repeats", "1")
    outcome = compare(*call)
    assert outcome.code == 0, outcome.err
    result = json.loads((output / "baselines.json").read_text(encoding="utf-8"))
    assert (result["cases"], result["patients"], result["not_run"]) == (3, 2, {})
    assert result["fitted_on"] == {"calibration": 2}
    rows = {row["row"]: row for row in result["rows"]}
    assert len(rows) == 13
    passes = {row["baseline"]: row["passes"] for row in result["rows"]}
    assert (passes["softmax"], passes["augmentation"], passes["ensemble"]) == (1, 6, 3)
    assert "image-trees" in passes
    regions = {entry["region"]: entry for entry in result["regions"]}
    assert regions["whole"]["errors"] > regions["band"]["errors"] > 0
    costs = {row["baseline"]: row["cost"] for row in result["rows"]}
    assert costs["augmentation"]["cpu_share"] > 2
    text = (output / "baselines.md").read_text(encoding="utf-8")
    assert all(title in text for title in rows)


def test_what_is_not_given_is_said_in_the_table_and_can_be_added_later(
    compare: Command, split: Path, tmp_path: Path
) -> None:
    model, output = tiny_bundle(tmp_path / "m"), tmp_path / "out"
    few = ("--baselines", "softmax,ensemble", "--repeats", "1")
    assert compare(*arguments(split, model, output, *few)).code == 0
    first = measured(output)
    assert first["not_run"] == {
        "deep ensemble": "not run: no members given (--ensemble).",
    }
    for title, reason in first["not_run"].items():
        assert f"| {title} | - | - | {reason} |" in (output / "baselines.md").read_text(encoding="utf-8")
    reseeded(tmp_path / "m1", 1)
    one_sentence(compare(*arguments(split, model, output, *few)), str(output), "--overwrite")
    outcome = compare(*arguments(split, model, output, *few, "--ensemble", tmp_path / "m1", "--overwrite"))
    assert outcome.code == 0
    second = measured(output)
    assert second["not_run"] == {}
    assert [row["row"] for row in second["rows"]][-2] == "deep ensemble of 2"
    assert [row["metrics"] for row in second["rows"][:3]] == [row["metrics"] for row in first["rows"]]


def test_a_cancelled_benchmark_leaves_nothing(compare: Command, split: Path, tmp_path: Path) -> None:
    model, output = tiny_bundle(tmp_path / "m"), tmp_path / "outputs" / "out"
    process = child(*arguments(split, model, output, *QUICK), program=PROGRAM)
    deadline = time.monotonic() + 120
    while not output.parent.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    outcome = finished(process, 60)
    assert outcome.code == 130
    assert "cancelled" in outcome.err
    assert entries(output.parent) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--baselines", "softmax,magic"), ("magic", "image-trees")),
        (("--repeats", "0"), ("--repeats", "0")),
        (("--band", "3cm"), ("--band", "3cm")),
        (("--baselines", "ensemble"), ("No baseline", "--ensemble")),
    ],
)
def test_wrong_options_are_refused_before_anything_is_computed(
    compare: Command, split: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = compare(*arguments(split, tiny_bundle(tmp_path / "m"), tmp_path / "out", *options))
    one_sentence(outcome, *words, code=2)
    assert not (tmp_path / "out").exists()


def test_test_cases_among_those_that_are_fitted_on_are_refused(compare: Command, split: Path, tmp_path: Path) -> None:
    call = ["--model", tiny_bundle(tmp_path / "m"), "--cases", f"{split}:test", "--output", tmp_path / "o"]
    outcome = compare(*call, "--calibration", f"{split}:test")
    one_sentence(outcome, "3 cases", ROLES["test"][0], "--calibration", code=2)


def test_rows_are_compared_with_the_first_where_no_head_is_among_them(
    compare: Command, split: Path, tmp_path: Path
) -> None:
    model, output = tiny_bundle(tmp_path / "m"), tmp_path / "out"
    few = ("--baselines", "softmax,distance", "--repeats", "1")
    assert compare(*arguments(split, model, output, *few)).code == 0
    found = measured(output)
    assert found["reference"] == "maximum softmax"
    against = {row["row"]: row["against_reference"] for row in found["rows"]}
    assert against["maximum softmax"] == {}
    rows = {row["row"]: row["metrics"] for row in found["rows"]}
    for title, entry in against["distance to boundary"].items():
        if entry is None:
            assert title in ("nll", "brier", "ace")
            continue
        ours, theirs = rows["distance to boundary"][title]["mean"], rows["maximum softmax"][title]["mean"]
        assert entry["mean"] == pytest.approx(ours - theirs)
        assert entry["relative"]["mean"] == pytest.approx(ours / theirs - 1)
        assert entry["low"] <= entry["mean"] <= entry["high"]


def test_test_and_calibration_cases_of_one_image_are_refused(compare: Command, split: Path, tmp_path: Path) -> None:
    first, second = (split.parent / "images" / f"{ROLES[role][-1]}.nii.gz" for role in ("test", "calibration"))
    shutil.copy(first, second)
    shutil.copy(split.parent / "labels" / first.name, split.parent / "labels" / second.name)
    outcome = compare(*arguments(split, tiny_bundle(tmp_path / "m"), tmp_path / "out", *QUICK))
    refused(outcome, "cases-of-one-scan", first.name, second.name)
    assert not (tmp_path / "out").exists()
