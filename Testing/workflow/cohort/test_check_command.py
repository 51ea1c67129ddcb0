"""`segwithu check`: what is whole, what is refused, and which finished cases are not to be relied on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, copied, judged
from segwithu_command import MODEL, Command, refused

from SegWithUCore.cli.__main__ import main
from SegWithUCore.review.log_format import Verdict


@pytest.fixture(scope="module")
def own_case(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case segmented from an image beside it, which is not copied into the case folder."""
    place = tmp_path_factory.mktemp("own")
    image = place / "images" / f"{CASES[0]}.nii.gz"
    image.parent.mkdir()
    shutil.copyfile(data_folder / "hippocampus" / "images" / image.name, image)
    assert main(["segment", str(image), "--model", str(MODEL), "--output", str(place / "cases")]) == 0
    return place


@pytest.fixture
def own(own_case: Path, tmp_path: Path) -> Path:
    """The same where tests may change it: paths from the case to its image stay as they were."""
    shutil.copytree(own_case, tmp_path / "own")
    return tmp_path / "own"


def checked(segwithu: Command, *arguments: str | Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was said of each file or folder."""
    outcome = segwithu("check", *arguments, "--json")
    events = [json.loads(line) for line in outcome.out.splitlines()]
    return outcome.code, {Path(e["source"]).name: e for e in events if e["event"] == "checked"}


def test_images_are_read_and_the_damaged_one_stops_no_other(
    data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"))
    for name in ("a.mha", "b.nrrd", "c.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    content = bytearray((tmp_path / "a.mha").read_bytes())
    content[-1000] ^= 4
    (tmp_path / "a.mha").write_bytes(content)
    (tmp_path / "empty").mkdir()
    code, found = checked(segwithu, tmp_path)
    assert code == 1
    assert {name: one["outcome"] for name, one in found.items()} == {
        "a.mha": "refused",
        "empty": "refused",
        "b.nrrd": "whole",
        "c.nii.gz": "whole",
    }
    assert found["b.nrrd"]["voxels_sha256"] == found["c.nii.gz"]["voxels_sha256"]
    words = segwithu("check", tmp_path)
    assert "a.mha" in words.err and "4 checked: 2 refused, 2 whole." in words.out


def test_a_header_without_a_place_is_a_warning_and_no_failure(tmp_path: Path, segwithu: Command) -> None:
    ramp = sitk.Cast(sitk.PhysicalPointSource(sitk.sitkVectorFloat32, [8, 8, 8]), sitk.sitkVectorFloat32)
    sitk.WriteImage(sitk.VectorIndexSelectionCast(ramp, 0), str(tmp_path / "a.nrrd"))
    text = (tmp_path / "a.nrrd").read_bytes()
    lines = [line for line in text.split(b"\n", 12) if not line.startswith(b"space")]
    (tmp_path / "a.nrrd").write_bytes(b"\n".join(lines))
    code, found = checked(segwithu, tmp_path / "a.nrrd")
    assert code == 0
    assert found["a.nrrd"]["outcome"] == "warning"
    assert "has no axes" in found["a.nrrd"]["warnings"][0]


def test_finished_cases_are_whole_where_their_images_are(segmented_cases: Path, segwithu: Command) -> None:
    code, found = checked(segwithu, segmented_cases)
    assert code == 0
    assert {one["outcome"] for one in found.values()} == {"whole"}
    assert set(found) == set(CASES)


def test_a_damaged_volume_of_a_case_is_named(segmented_cases: Path, tmp_path: Path, segwithu: Command) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path)
    (case / "ranking.nii.gz").write_bytes((case / "ranking.nii.gz").read_bytes()[:-40])
    code, found = checked(segwithu, case)
    assert code == 1
    assert "ranking.nii.gz" in found[case.name]["warnings"][0]


def test_a_case_is_refused_or_changed_by_what_its_image_is_now(own_case: Path, own: Path, segwithu: Command) -> None:
    assert checked(segwithu, own_case / "cases")[1][CASES[0]]["outcome"] == "whole"
    image, case = own / "images" / f"{CASES[0]}.nii.gz", own / "cases" / CASES[0]
    whole = image.read_bytes()
    image.write_bytes(whole[:-500])
    code, found = checked(segwithu, case, "--images", own / "images")
    assert (code, found[case.name]["outcome"]) == (1, "refused")
    assert "0." in found[case.name]["version"] and image.name in found[case.name]["warnings"][0]
    sitk.WriteImage(sitk.ReadImage(str(own_case / "images" / image.name)) + 1, str(image))
    code, found = checked(segwithu, case, "--images", own / "images")
    assert (code, found[case.name]["outcome"]) == (1, "changed")


def test_the_path_in_a_case_of_others_is_not_followed_unasked(own: Path, segwithu: Command) -> None:
    case = own / "cases" / CASES[0]
    changed_case(case, lambda content: content["input"]["channels"][0].pop("file_mac", None))
    code, found = checked(segwithu, case)
    assert (code, found[case.name]["outcome"]) == (0, "image not found")
    assert "--images" in found[case.name]["warnings"][0]
    assert checked(segwithu, case, "--images", own / "images")[1][case.name]["outcome"] == "whole"


def _older(content: dict[str, Any]) -> None:
    """What earlier versions did not write is gone, and a later one has added something."""
    for key in ("light", "flags", "ood", "placement", "engine", "timings_s", "created"):
        del content[key]
    del content["model"]["calibrated_with_image"], content["input"]["patient_mac"]
    content["later"] = content["structures"][0]["later"] = {"any": [1]}


ODD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a volume below nothing": (lambda case: case["structures"][1].update(volume_mm3=-5.0), "structures/1/volume_mm3"),
    "no hash": (lambda case: case["model"].update(weights_sha256="abc"), "model/weights_sha256"),
    "half a pass": (lambda case: case.update(passes=0.5), "passes"),
    "an interval upside down": (
        lambda case: case["structures"][1].update(expected_interval_mm3=[9.0, 1.0]),
        "expected_interval_mm3",
    ),
    "a warning of no severity": (
        lambda case: case["ood"].update(warnings=[{"severity": "dire", "message": "x", "kind": "noise"}]),
        "severity",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_case_that_does_not_fit_the_schema_is_refused_with_the_place(
    kind: str, segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path)
    change, place = ODD[kind]
    changed_case(case, change)
    refused(segwithu("check", case), "damaged-case", str(case / "case.json"), place)


def test_a_case_of_an_earlier_or_later_version_fits_the_schema(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path)
    changed_case(case, _older)
    assert checked(segwithu, case)[1][case.name]["outcome"] == "whole"


def test_review_logs_are_read_line_by_line(segmented_cases: Path, tmp_path: Path, segwithu: Command) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path)
    log = judged(case, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED}, comment="why")
    assert checked(segwithu, case)[1][case.name]["outcome"] == "whole"
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    code, found = checked(segwithu, case)
    assert (code, found[case.name]["outcome"]) == (0, "warning")
    assert log.name in found[case.name]["warnings"][0]
    log.write_bytes(whole.replace(b'"seconds": 8.0', b'"seconds": -8.0', 1))
    refused(segwithu("check", case), "damaged-log", f"{log}, line 2", "seconds")
    log.write_bytes(whole.replace(b'"rejected"', b'"perhaps"', 1))
    assert segwithu("check", case).code == 1
