"""Files of a case that were saved over, exchanged or lost: named by every command that would pass the case on."""

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, copied, edited, judged
from segwithu_command import Command, Outcome, entries, refused
from web_client import WebClient, served

from SegWithUCore.case.case_file import read_case, read_description
from SegWithUCore.case.case_files import file_record
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.review.log_format import Edited, Verdict, read_log
from SegWithUCore.review.worklist import make_worklist

OURS, SOUND = CASES[:2]
DRAWN, NRRD = "segmentation.nii.gz", "segmentation.seg.nrrd"
COMMANDS = {
    "check": ["check", "{cases}"],
    "worklist": ["worklist", "{cases}", "--output", "{out}"],
    "report": ["report", f"{{cases}}/{OURS}", f"{{cases}}/{SOUND}"],
    "export": ["export", "{cases}", "--output", "{out}"],
    "anonymous": ["export", "{cases}", "--output", "{out}", "--anonymous"],
    "page": ["export", "{cases}", "--output", "{out}", "--page", "--without-image"],
    "bids": ["export", "{cases}", "--output", "{out}", "--bids"],
    "nnunet": ["export", "{cases}", "--output", "{out}/Dataset101_H", "--nnunet"],
}


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    """Two cases, both accepted by a reviewer, so that every export takes them."""
    for name in (OURS, SOUND):
        case = copied(segmented_cases / name, tmp_path / "cases")
        judged(case, "Ana", {region.rank: Verdict.ACCEPTED for region in read_regions(case)})
    return tmp_path / "cases"


@pytest.fixture
def case(cases: Path) -> Path:
    return cases / OURS


def array(path: Path) -> np.ndarray:
    found: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return found


def saved_over(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """As another program saves: other voxels, or none, in the same place."""
    image = sitk.ReadImage(str(path))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path), useCompression=True)
    return path


def grown(labels: np.ndarray) -> np.ndarray:
    """A reviewer's stroke: a block of the first structure."""
    labels = labels.copy()
    labels[10:14, 10:14, 10:14] = 1
    return labels


def doubled_by_its_header(path: Path) -> None:
    """The same stored numbers, of which readers make twice the values."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<ff", content, 112, 2.0, 0.0)
    path.write_bytes(gzip.compress(bytes(content)))


def of_another(case: Path) -> None:
    shutil.copyfile(case.parent / SOUND / DRAWN, case / DRAWN)


SAVED: dict[str, Callable[[Path], object]] = {
    "mirrored": lambda case: saved_over(case / DRAWN, lambda labels: labels[:, :, ::-1].copy()),
    "emptied": lambda case: saved_over(case / DRAWN, np.zeros_like),
    "labels exchanged": lambda case: saved_over(case / DRAWN, lambda v: np.where(v > 0, 3 - v, 0).astype(v.dtype)),
    "a label of no structure": lambda case: saved_over(case / DRAWN, lambda v: np.where(v == 2, 9, v).astype(v.dtype)),
    "one voxel": lambda case: saved_over(case / DRAWN, grown),
    "slope": lambda case: doubled_by_its_header(case / DRAWN),
}


def run(name: str, cases: Path, out: Path, segwithu: Command) -> Outcome:
    return segwithu(*(str(word).format(cases=cases, out=out) for word in COMMANDS[name]))


def refuses(name: str, code: str, file: Path, cases: Path, out: Path, segwithu: Command) -> None:
    """Check that a command names the file, passes on nothing of its case, and everything of the other."""
    outcome = run(name, cases, out, segwithu)
    assert (outcome.code, outcome.error_codes) == (1, [code]), (name, outcome.err)
    assert str(file) in outcome.err
    assert not any(OURS in entry for entry in entries(out) if name not in ("worklist", "page"))
    assert not (cases / OURS / "report.html").exists()
    assert outcome.out or (cases / SOUND / "report.html").is_file(), name


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", SAVED)
def test_a_segmentation_that_was_saved_over_is_not_passed_on(
    kind: str, name: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    SAVED[kind](case)
    refuses(name, "changed-file", case / DRAWN, cases, tmp_path / "out", segwithu)


@pytest.mark.parametrize("name", ["check", "report", "export"])
def test_a_file_for_slicer_that_is_lost_is_missed(
    name: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    (case / NRRD).unlink()
    refuses(name, "missing-file", case / NRRD, cases, tmp_path / "out", segwithu)


def test_another_patients_segmentation_is_not_passed_on(
    cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    of_another(case)
    for name in COMMANDS:
        outcome = run(name, cases, tmp_path / name, segwithu)
        assert outcome.code == 1
        assert outcome.error_codes in (["changed-file"], ["another-place"]), outcome.err


def scaled(name: str) -> Callable[[Path], object]:
    return lambda case: saved_over(case / name, lambda values: values * 2)


OTHERS: dict[str, Callable[[Path], object]] = {
    "error_probability.nii.gz": scaled("error_probability.nii.gz"),
    "ranking.nii.gz": scaled("ranking.nii.gz"),
    "runner_up.nii.gz": lambda case: saved_over(case / "runner_up.nii.gz", np.zeros_like),
    NRRD: lambda case: saved_over(case / NRRD, np.zeros_like),
    "data_percentile.nii.gz": lambda case: changed_case(
        case, lambda content: content["files"].pop("data_percentile.nii.gz")
    ),
    "case.json": lambda case: (case / "case.json").write_text(
        (case / "case.json").read_text(encoding="utf-8").replace('"voxels": 1', '"voxels": 2'), encoding="utf-8"
    ),
}


@pytest.mark.parametrize("file", OTHERS)
def test_every_other_file_is_compared_by_those_who_pass_it_on(
    file: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    OTHERS[file](case)
    for name in ("check", "export"):
        refuses(name, "changed-file", case / file, cases, tmp_path / name, segwithu)
    if file in ("error_probability.nii.gz", "ranking.nii.gz", "case.json"):
        for name in ("report", "anonymous", "page", *(["bids"] if file != "ranking.nii.gz" else [])):
            refuses(name, "changed-file", case / file, cases, tmp_path / name, segwithu)


@pytest.mark.parametrize("lost", [False, True])
def test_tables_and_pictures_are_noted_and_never_passed_on_changed(
    lost: bool, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    table, picture, before = case / "structures.csv", case / "preview.png", (case / "structures.csv").read_bytes()
    table.write_text(table.read_text().replace("anterior", "posterior"))
    shutil.copyfile(case.parent / SOUND / "preview.png", picture)
    if lost:
        table.unlink()
        picture.unlink()
    for name in COMMANDS:
        outcome = run(name, cases, tmp_path / name, segwithu)
        assert outcome.code == 0, (name, outcome.err)
        if name in ("check", "export"):
            assert str(table) in outcome.out + outcome.err and str(picture) in outcome.out + outcome.err
    sent = tmp_path / "export" / OURS
    assert (sent / "structures.csv").read_bytes() == before and not (sent / "preview.png").exists()
    assert segwithu("check", tmp_path / "export").code == 0


def doubled(content: dict[str, object]) -> None:
    content["structures"][1]["volume_mm3"] *= 2  # type: ignore[index]


def renamed(content: dict[str, object]) -> None:
    first, second = content["structures"][1:3]  # type: ignore[index]
    first["name"], second["name"] = second["name"], first["name"]


CONTENTS = {
    "volumes": doubled,
    "names": renamed,
    "warnings": lambda content: content.update(ood={"warnings": []}),
    "file of a map": lambda content: content["maps"]["ranking"].update(file="error_probability.nii.gz"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_case_json_that_was_edited_is_not_passed_on(
    kind: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    changed_case(case, lambda content: content["ood"]["warnings"].append({"severity": "warning", "message": "Noise."}))
    content = json.loads((case / "case.json").read_text(encoding="utf-8"))
    CONTENTS[kind](content)
    (case / "case.json").write_text(json.dumps(content), encoding="utf-8")
    for name in COMMANDS:
        refuses(name, "changed-file", case / "case.json", cases, tmp_path / name, segwithu)


def test_a_file_with_the_same_voxels_at_the_same_place_is_the_same(
    cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    """Compressed again, of another type, with another line end: nothing of it is a change."""
    for path in case.glob("*.nii.gz"):
        kind = sitk.sitkInt16 if path.name in (DRAWN, "runner_up.nii.gz", "regions.nii.gz") else sitk.sitkFloat64
        sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), kind), str(path), True, 9)
    for name in ("structures.csv", "regions.csv"):
        (case / name).write_bytes((case / name).read_bytes().replace(b"\n", b"\r\n"))
    for name in COMMANDS:
        outcome = run(name, cases, tmp_path / name, segwithu)
        assert outcome.code == 0, (name, outcome.err)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_segmentation_whose_header_was_moved_or_flipped_is_not_passed_on(
    name: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    image = sitk.ReadImage(str(case / DRAWN))
    x, *others = image.GetDirection()
    image.SetDirection([-x, *others])
    sitk.WriteImage(image, str(case / DRAWN), True)
    refuses(name, "another-place", case / DRAWN, cases, tmp_path / "out", segwithu)


LOST: dict[str, Callable[[Path], object]] = {
    "missing-file": lambda path: path.unlink(),
    "link-to-nothing": lambda path: (path.unlink(), path.symlink_to(".not-fetched")),
    "unusable-input": lambda path: (path.unlink(), path.symlink_to("../.git/annex/x")),
}


@pytest.mark.parametrize("file", ["runner_up.nii.gz", "model_percentile.nii.gz", "data_percentile.nii.gz"])
def test_a_file_of_the_regions_that_is_lost_is_missed_by_check_and_exports(
    file: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    (case / file).unlink()
    for name in ("check", "export", "anonymous"):
        refuses(name, "missing-file", case / file, cases, tmp_path / name, segwithu)
    for name in ("worklist", "report"):
        assert run(name, cases, tmp_path / name, segwithu).code == 0


def of_an_earlier_version(case: Path) -> None:
    content = read_case(case)
    files = content.pop("files")
    del content["content_sha256"]
    content["regions"]["files_sha256"] = {name: files[name]["sha256"] for name in ("regions.csv", "regions.nii.gz")}
    (case / "case.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("is_old", [True, False])
def test_a_case_without_its_ranking_is_reviewed_with_a_note(
    is_old: bool, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    if is_old:
        of_an_earlier_version(case)
    (case / "ranking.nii.gz").unlink()
    assert list(read_description(case).maps) == ["error_probability", "calibration"]
    (entry,) = [entry for entry in make_worklist([cases / OURS, cases / SOUND]).entries if entry.folder == case]
    assert not entry.trouble and any("ranking.nii.gz" in note for note in entry.notes)
    assert segwithu("report", case).code == 0
    assert "ranking.nii.gz" in (case / "report.html").read_text(encoding="utf-8")
    with served(cases) as server:
        client = WebClient(server.gate.link)
        number = client.case_id(OURS)
        assert list(client.get(f"/api/cases/{number}")["maps"]) == ["error_probability", "calibration"]
        assert "ranking.nii.gz" in json.dumps(client.get("/api/worklist?reviewer=Ana"))
    for name in ("check", "export", "anonymous", "page"):
        (case / "report.html").unlink(missing_ok=True)
        refuses(name, "missing-file", case / "ranking.nii.gz", cases, tmp_path / name, segwithu)


@pytest.mark.parametrize("map_name", ["error_probability", "ranking"])
@pytest.mark.parametrize("kind", LOST)
def test_a_case_without_a_map_that_it_names_is_not_passed_on_unsaid(
    kind: str, map_name: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    path = case / f"{map_name}.nii.gz"
    LOST[kind](path)
    without = {"error_probability": {"nnunet"}, "ranking": {"nnunet", "bids"}}  # formats that have no such map
    reviewing = {"worklist", "report"} if (map_name, kind) == ("ranking", "missing-file") else set()
    for name in COMMANDS.keys() - without[map_name] - reviewing:
        outcome = run(name, cases, tmp_path / name, segwithu)
        assert (outcome.code, outcome.error_codes) == (1, [kind]), (name, outcome.err)
        assert str(path) in outcome.err or path.name in outcome.err
    assert segwithu("check", tmp_path / "export").code == 0
    viewers = segwithu("export", cases, "--output", tmp_path / "again", "--json").events[-1]["viewers"]
    assert all(Path(word).is_file() for line in viewers for word in str(line).split() if "/" in word)  # type: ignore[attr-defined]
    with served(cases) as server:
        client = WebClient(server.gate.link)
        number = client.case_id(OURS)
        if map_name == "error_probability":
            assert client.ask("GET", f"/api/cases/{number}")[0] == 409
        else:
            assert client.ask("GET", f"/api/cases/{number}/volumes/{map_name}")[0] in (404, 409)


def test_maps_that_are_null_are_one_sentence(case: Path, tmp_path: Path, segwithu: Command) -> None:
    changed_case(case, lambda content: content.update(maps=None))
    for options in (["--anonymous"], ["--bids"], []):
        refused(segwithu("export", case, "--output", tmp_path / "out", *options), "damaged-case", case)


def test_the_page_and_a_resumed_cohort_compare_the_files(
    data_folder: Path, cases: Path, case: Path, segwithu: Command
) -> None:
    saved_over(case / DRAWN, grown)
    with served(cases) as server:
        client = WebClient(server.gate.link)
        status, _, content = client.ask("GET", f"/api/cases/{client.case_id(OURS)}")
        assert status == 409 and "[changed-file]" in json.loads(content)["error"]
        assert client.get(f"/api/cases/{client.case_id(SOUND)}")["labels"]
    images = [data_folder / "hippocampus" / "images" / f"{name}.nii.gz" for name in (OURS, SOUND)]
    outcome = segwithu.segment(*images, "--resume", output=cases)
    assert (outcome.code, outcome.error_codes[0]) == (1, "changed-file") and DRAWN in outcome.err


@pytest.mark.parametrize("name", [DRAWN, NRRD])
@pytest.mark.parametrize("other_model", [False, True])
def test_a_resumed_cohort_never_loses_an_edit(
    name: str, other_model: bool, data_folder: Path, cases: Path, case: Path, segwithu: Command
) -> None:
    if other_model:
        changed_case(case, lambda content: content["model"].update(name="liver"))  # type: ignore[attr-defined]
    edited_bytes = saved_over(case / name, grown).read_bytes()
    image = data_folder / "hippocampus" / "images" / f"{OURS}.nii.gz"
    for options in (["--resume"], ["--resume", "--overwrite"]):
        outcome = segwithu.segment(image, *options, output=cases)
        assert (outcome.code, outcome.error_codes) == (1, ["changed-file"]), outcome.err
        assert "--take-as-edit" in outcome.err and "--restore" in outcome.err
    assert (case / name).read_bytes() == edited_bytes


def test_an_anonymous_export_has_the_hashes_of_its_own_files(
    cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    assert segwithu("export", cases, "--output", tmp_path / "sent", "--anonymous").code == 0
    assert segwithu("check", tmp_path / "sent").code == 0
    sent = tmp_path / "sent" / "case-001"
    files = read_case(sent)["files"]
    assert set(files) == {path.name for path in sent.iterdir()} - {
        *("case.json", "image.nii.gz", "report.html", "itksnap_labels.txt")
    }
    assert files == {name: file_record(sent / name) for name in files}
    saved_over(sent / DRAWN, grown)
    refused(segwithu("export", sent, "--output", tmp_path / "more"), "changed-file", sent / DRAWN)


def test_cases_of_earlier_versions_are_read_and_check_says_that_nothing_was_compared(
    cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    for folder in cases.iterdir():
        of_an_earlier_version(folder)
    for name in COMMANDS:
        outcome = run(name, cases, tmp_path / name, segwithu)
        assert (outcome.code, outcome.error_codes) == (0, []), outcome.err
    checked = [json.loads(line) for line in segwithu("check", cases, "--json").out.splitlines()]
    found = {one["outcome"]: one["warnings"] for one in checked if one["event"] == "checked"}
    assert [len(found["whole"])] == [1]
    assert segwithu("regions", cases / OURS, "--threshold", "0.3", "--overwrite").code == 0
    assert segwithu("export", cases / OURS, "--output", tmp_path / "new").code == 0


# -- the two ways out --


def test_an_edit_of_another_program_becomes_a_reviewers_and_the_case_is_whole_again(
    cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    before = (case / DRAWN).read_bytes()
    drawn = array(saved_over(case / DRAWN, grown))
    outcome = segwithu("check", case)
    assert "--take-as-edit" in outcome.err and "--restore" in outcome.err
    assert segwithu("check", case, "--take-as-edit", "Zoë B.").code == 0
    assert (case / DRAWN).read_bytes() == before
    version = case / "segmentation_reviewed.Zoë B_.seg.nrrd"
    np.testing.assert_array_equal(array(version), drawn)
    events = read_log(case / "review.Zoë B_.jsonl").events
    (edit,) = [event.action for event in events if isinstance(event.action, Edited)]
    changed = int((array(case / DRAWN) != drawn).sum())
    assert edit.structure == "anterior hippocampus"
    assert edit.voxels_inside + edit.voxels_outside == changed
    assert edit.changed_mm3 == pytest.approx(changed)
    assert {event.reviewer for event in events} == {"Zoë B."}
    for name in COMMANDS:
        if name != "nnunet":  # which asks whose review counts
            assert run(name, cases, tmp_path / name, segwithu).code == 0
    assert (tmp_path / "export" / OURS / version.name).is_file()
    before_all = entries(case)
    for reviewer, code in (("Zoë B.", "exists-already"), ("Eve", "unusable-input")):
        refused(segwithu("check", case, "--take-as-edit", reviewer), code)
    assert entries(case) == before_all


def test_what_slicer_saved_over_the_case_keeps_its_own_segments(case: Path, segwithu: Command) -> None:
    path, values = case / NRRD, array(case / DRAWN)
    image = sitk.ReadImage(str(edited(case, "x")))
    (case / "segmentation_reviewed.x.seg.nrrd").unlink()
    for key in ("SegWithU_ImageSHA256",):
        image.EraseMetaData(key)
    for key, value in {"ID": "Segment_9", "Name": "lesion", "LabelValue": "9", "Layer": "0"}.items():
        image.SetMetaData(f"Segment2_{key}", value)
    sitk.WriteImage(image, str(path), True)
    refused(segwithu("check", case), "changed-file", path)
    assert segwithu("check", case, "--take-as-edit", "Eve").code == 0
    version = sitk.ReadImage(str(case / "segmentation_reviewed.Eve.seg.nrrd"))
    assert version.GetMetaData("Segment2_Name") == "lesion"
    assert version.GetMetaData("SegWithU_ImageSHA256") == read_case(case)["input"]["channels"][0]["voxels_sha256"]
    np.testing.assert_array_equal(array(path), values)


@pytest.mark.parametrize("name", [DRAWN, NRRD])
def test_a_segmentation_is_restored_from_its_other_file(name: str, case: Path, segwithu: Command) -> None:
    before = array(case / name)
    saved_over(case / name, np.zeros_like)
    assert segwithu("check", case, "--restore").code == 0
    np.testing.assert_array_equal(array(case / name), before)
    if name == NRRD:
        assert sitk.ReadImage(str(case / NRRD)).GetMetaData("Segment0_Name") == "anterior hippocampus"
    (case / name).unlink()
    assert segwithu("check", case, "--restore").code == 0
    assert [path for path in entries(case) if path.startswith(("review", "segmentation_reviewed"))] == [
        "review.Ana.jsonl"
    ]


@pytest.mark.parametrize("way", [["--restore"], ["--take-as-edit", "Eve"]])
def test_what_cannot_be_restored_or_taken_leaves_the_case_as_it_was(
    way: list[str], case: Path, segwithu: Command
) -> None:
    whole = (case / NRRD).read_bytes()
    for name in (DRAWN, NRRD):
        saved_over(case / name, grown)
    before = {path.name: path.read_bytes() for path in case.iterdir()}
    refused(segwithu("check", case, *way), "changed-file", case, "--overwrite")
    (case / NRRD).write_bytes(whole)
    if way != ["--restore"]:
        saved_over(case / DRAWN, lambda labels: np.where(labels == 2, 9, labels).astype(labels.dtype))
        before = {path.name: path.read_bytes() for path in case.iterdir()}
        refused(segwithu("check", case, *way), "unknown-label", case / DRAWN)
    else:
        (case / NRRD).write_bytes(before[NRRD])
    assert {path.name: path.read_bytes() for path in case.iterdir()} == before
    refused(segwithu("check", case, case, *way), "contradicting-options", code=2)
