"""`segwithu evaluate --report`: a whole folder or none, a page that needs nothing else, clear refusals."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from segwithu_command import Command, entries, one_sentence, tiny_bundle

from SegWithULab.evaluation.report import PAGE_FILE

NAMES = ("hippocampus_075", "hippocampus_197", "hippocampus_251")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at how wide an interval over cases is."""
    monkeypatch.setattr("SegWithULab.evaluation.evaluate.DRAWS", 20)


@pytest.fixture
def split(data_folder: Path, tmp_path: Path) -> Path:
    """Three real cases, two of them of one patient, in a folder of their own that tests may change."""
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for name in NAMES:
            shutil.copy(data_folder / "hippocampus" / part / f"{name}.nii.gz", tmp_path / "data" / part)
    table = tmp_path / "data" / "split.csv"
    rows = [f"{name},{'one' if name == NAMES[0] else 'two'},test" for name in NAMES]
    table.write_text("case,patient,role\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return table


@pytest.mark.slow
def test_a_report_has_tables_diagrams_and_one_page(segwithu: Command, split: Path, tmp_path: Path) -> None:
    model, report, output = tiny_bundle(tmp_path / "m"), tmp_path / "r", tmp_path / "all.json"
    outcome = segwithu("evaluate", "--model", model, "--cases", f"{split}:test", "--report", report, "--output", output)
    assert outcome.code == 0
    assert str(report / PAGE_FILE) in outcome.err
    result = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    assert result == json.loads(output.read_text(encoding="utf-8"))
    assert (result["cases"], result["patients"]) == (3, 2)
    with (report / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(entry["case"], entry["patient"]) for entry in rows] == list(zip(NAMES, ("one", "two", "two"), strict=True))
    for entry in rows:
        for title, value in result["by_case"][entry["case"]].items():
            assert float(entry[title]) == pytest.approx(value, rel=1e-6)
    text = (report / "metrics.md").read_text(encoding="utf-8")
    assert "3 cases of 2 patients" in text
    page = (report / PAGE_FILE).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://", page)
    for title in re.findall(r"^## (.+)$", text, re.MULTILINE):
        assert f"<h2>{title}</h2>" in page


def test_an_existing_report_is_refused_before_anything_is_computed(
    segwithu: Command, split: Path, tmp_path: Path
) -> None:
    report = tmp_path / "r"
    report.mkdir()
    (report / "mine.txt").write_text("mine", encoding="utf-8")
    outcome = segwithu(
        "evaluate", "--model", tiny_bundle(tmp_path / "m"), "--cases", f"{split}:test", "--report", report
    )
    one_sentence(outcome, str(report), "--overwrite")
    assert "evaluating" not in outcome.err
    assert entries(report) == ["mine.txt"]


def test_a_case_that_fails_leaves_no_report(segwithu: Command, split: Path, tmp_path: Path) -> None:
    (split.parent / "labels" / f"{NAMES[1]}.nii.gz").write_bytes(b"cut")
    report = tmp_path / "reports" / "r"
    outcome = segwithu(
        "evaluate", "--model", tiny_bundle(tmp_path / "m"), "--cases", f"{split}:test", "--report", report
    )
    one_sentence(outcome, f"{NAMES[1]}.nii.gz")
    assert entries(report.parent) == []


def test_a_reference_on_another_grid_is_refused(segwithu: Command, split: Path, tmp_path: Path) -> None:
    labels = split.parent / "labels"
    shutil.copy(labels / f"{NAMES[1]}.nii.gz", labels / f"{NAMES[0]}.nii.gz")
    outcome = segwithu("evaluate", "--model", tiny_bundle(tmp_path / "m"), "--cases", f"{split}:test")
    one_sentence(outcome, f"{NAMES[0]}.nii.gz", "not on the grid")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--band", "3cm"), ("3cm", "3mm", "2px")),
        (("--record", "--band", "2px"), ("--record", "--band")),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(
    segwithu: Command, split: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    outcome = segwithu("evaluate", "--model", tiny_bundle(tmp_path / "m"), "--cases", f"{split}:test", *options)
    one_sentence(outcome, *words, code=2)
