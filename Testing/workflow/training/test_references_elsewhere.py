"""References stored in another order change no figure of any command, and references elsewhere are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from hippocampi import write_hippocampi
from segwithu_command import MODEL, Command, entries, refused, tiny_bundle
from toy_data_set import write_data_set, write_recipe

from SegWithUCore.models.bundle import read_bundle

Change = Callable[[sitk.Image], sitk.Image]
CASES = 4


def flipped(image: sitk.Image) -> sitk.Image:
    return sitk.Flip(image, [True, False, False])


def permuted(image: sitk.Image) -> sitk.Image:
    return sitk.Flip(sitk.PermuteAxes(image, [2, 0, 1]), [True, False, True])


def moved(image: sitk.Image) -> sitk.Image:
    image.SetOrigin([value + 50 for value in image.GetOrigin()])
    return image


def spaced(image: sitk.Image) -> sitk.Image:
    image.SetSpacing([2.0, 2.0, 2.0])
    return image


def with_references(table: Path, target: Path, change: Change) -> Path:
    """Copy a data set with its references changed; returns its table."""
    shutil.copytree(table.parent, target)
    for path in (target / "labels").iterdir():
        sitk.WriteImage(change(sitk.ReadImage(str(path))), str(path))
    return target / table.name


@pytest.fixture(scope="module")
def hippocampi(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real cases, each in three roles."""
    folder = tmp_path_factory.mktemp("hippocampi") / "data"
    rows = "".join(f"{name},test\n" for name in write_hippocampi(data_folder, folder, CASES))
    (folder / "split.csv").write_text(f"case,role\n{rows}", encoding="utf-8")
    return folder / "split.csv"


def readings(segwithu: Command, table: Path) -> dict[str, Any]:
    cases = ("--cases", f"{table}:test", "--allow-seen-cases")
    outcome = segwithu("check-calibration", "--model", MODEL, *cases, "--json")
    assert outcome.code == 0, outcome.err
    assert not outcome.error_codes
    (result,) = (event for event in outcome.events if event["event"] == "result")
    return dict(result)


@pytest.mark.slow
def test_the_order_of_a_reference_changes_no_reading(hippocampi: Path, tmp_path: Path, segwithu: Command) -> None:
    expected = readings(segwithu, hippocampi)
    assert sum(one["voxels"] for one in expected["readings"]) > 1000
    for change in (flipped, permuted):
        assert readings(segwithu, with_references(hippocampi, tmp_path / change.__name__, change)) == expected


@pytest.mark.slow
def test_the_order_of_a_reference_changes_no_figure(
    hippocampi: Path, tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("SegWithULab.evaluation.evaluate.DRAWS", 20)
    model, found = tiny_bundle(tmp_path / "m"), []
    for table in (hippocampi, with_references(hippocampi, tmp_path / "permuted", permuted)):
        output = tmp_path / f"{table.parent.name}.json"
        outcome = segwithu("evaluate", "--model", model, "--cases", f"{table}:test", "--output", output)
        assert outcome.code == 0, outcome.err
        found.append(json.loads(output.read_text(encoding="utf-8"))["by_case"])
    assert found[0] == found[1]


@pytest.mark.parametrize("change", [moved, spaced])
@pytest.mark.parametrize(
    "call",
    [
        ("check-calibration", "--model", "MODEL", "--cases", "TABLE:test"),
        ("calibrate", "--model", "MODEL", "--add", "TABLE:test", "--output", "OUT"),
        ("calibrate", "--model", "RAW", "--cases", "TABLE:test", "--output", "OUT"),
        ("evaluate", "--model", "MODEL", "--cases", "TABLE:test", "--report", "OUT"),
        ("plan", "PLANNED", "--output", "OUT"),
    ],
    ids=lambda call: "-".join(call[:2]),
)
def test_references_elsewhere_are_refused(
    call: tuple[str, ...], change: Change, hippocampi: Path, tmp_path: Path, segwithu: Command
) -> None:
    table = with_references(hippocampi, tmp_path / "data", change)
    places = {
        "MODEL": str(tiny_bundle(tmp_path / "m")),
        "RAW": str(tiny_bundle(tmp_path / "raw", calibrated=False)),
        "OUT": str(tmp_path / "out"),
        "PLANNED": str(table.with_name("planned.csv")),
    }
    Path(places["PLANNED"]).write_text(table.read_text(encoding="utf-8").replace(",test", ",train"), encoding="utf-8")
    arguments = [places.get(word, word.replace("TABLE", str(table))) for word in call]
    outcome = segwithu(*arguments)
    assert outcome.code == 1 and set(outcome.error_codes) == {"other-grid"}, outcome.err
    assert str(table.parent / "labels") in outcome.err
    assert not entries(tmp_path / "out")


def test_a_table_that_leads_out_of_its_data_is_refused(hippocampi: Path, tmp_path: Path, segwithu: Command) -> None:
    table = with_references(hippocampi, tmp_path / "data", flipped)
    (tmp_path / "h.nii.gz").write_bytes(next((table.parent / "images").iterdir()).read_bytes())
    with table.open("a", encoding="utf-8") as file:
        file.write("../../h,test\n")
    model = tiny_bundle(tmp_path / "m")
    for command, more in (("check-calibration", ()), ("calibrate", ("--output", tmp_path / "out")), ("evaluate", ())):
        outcome = segwithu(command, "--model", model, "--cases", f"{table}:test", *more)
        refused(outcome, "unusable-name", table)
    refused(segwithu("plan", table, "--output", tmp_path / "out"), "unusable-name", table)
    assert not entries(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("threads_and_signals_as_before")
def test_a_run_is_calibrated_by_the_places_of_references(tmp_path: Path, segwithu: Command) -> None:
    table, run = write_data_set(tmp_path / "balls"), tmp_path / "run"
    roles = ("--run", run, "--cases", f"{table}:train", "--select", f"{table}:select")
    assert segwithu("train-backbone", *roles, "--recipe", write_recipe(tmp_path / "recipe.json")).code == 0
    assert segwithu("train-head", *roles).code == 0

    def calibrated(table: Path, output: Path) -> Any:
        return segwithu("calibrate", "--run", run, "--cases", f"{table}:calibration", "--output", output, "--no-graphs")

    found = []
    for change in (sitk.Image, flipped, permuted):
        output = tmp_path / f"by {change.__name__}"
        outcome = calibrated(with_references(table, tmp_path / change.__name__, change), output)
        assert outcome.code == 0, outcome.err
        found.append(read_bundle(output).calibration)
    assert found[0] is not None and found[0] == found[1] == found[2]
    elsewhere = with_references(table, tmp_path / "moved", moved)
    refused(calibrated(elsewhere, tmp_path / "out"), "other-grid", elsewhere.parent / "labels")
    assert not entries(tmp_path / "out")


@pytest.mark.slow
def test_a_table_of_test_cases_alone_is_nothing_to_plan_on(hippocampi: Path, tmp_path: Path, segwithu: Command) -> None:
    outcome = segwithu("plan", hippocampi, "--output", tmp_path / "out")
    refused(outcome, "no-data-set", hippocampi, code=2)
