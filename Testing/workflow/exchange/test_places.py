"""What lies elsewhere than the image that was segmented, or was made on another image, does not go on with a case."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, copied, edited, judged
from segwithu_command import Command, Outcome, entries, refused
from web_client import WebClient, served

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_image import case_image
from SegWithUCore.case.segmentation_file import IMAGE_KEY, check_reviewed, mark_image, read_reviewed
from SegWithUCore.review.log_format import Verdict

MOVED, SOUND = CASES[:2]
VERSION = "segmentation_reviewed.Eve.seg.nrrd"


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    """Two cases with their images inside."""
    for name in (MOVED, SOUND):
        copied(segmented_cases / name, tmp_path / "cases")
    return tmp_path / "cases"


@pytest.fixture
def case(cases: Path) -> Path:
    return cases / MOVED


def mirrored(image: sitk.Image) -> None:
    """By its header alone, about its first voxel."""
    x, *others = image.GetDirection()
    image.SetDirection([-x, *others])


def mirrored_within(image: sitk.Image) -> None:
    """By its header alone, so that it covers the same space."""
    image.SetOrigin(image.TransformIndexToPhysicalPoint((image.GetWidth() - 1, 0, 0)))
    mirrored(image)


def moved(mm: float) -> Callable[[sitk.Image], None]:
    return lambda image: image.SetOrigin([image.GetOrigin()[0] + mm, *image.GetOrigin()[1:]])


def turned(image: sitk.Image) -> None:
    """By 1 degree about its third axis."""
    turn = sitk.VersorTransform((0, 0, 1), 0.01745)
    image.SetDirection(turn.GetMatrix())


CHANGES = {
    "mirrored": mirrored,
    "mirrored within": mirrored_within,
    "spacing": lambda image: image.SetSpacing([2 * edge for edge in image.GetSpacing()]),
    "moved": moved(20),
    "moved a little": moved(0.3),
    "turned": turned,
}


def changed(path: Path, change: Callable[[sitk.Image], None]) -> Path:
    """Change the header of a volume, and nothing else."""
    image = sitk.ReadImage(str(path))
    change(image)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def fails_alone(outcome: Outcome, error_code: str, *named: str | Path) -> None:
    """Check that one of two cases was refused and the other done."""
    assert (outcome.code, outcome.error_codes) == (1, [error_code]), outcome.err
    assert all(str(name) in outcome.err for name in named), outcome.err
    assert outcome.out


# -- the image --


@pytest.mark.parametrize("kind", CHANGES)
def test_an_image_at_another_place_is_refused_by_every_command(
    kind: str, cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    image = changed(case / "image.nii.gz", CHANGES[kind])
    checks = segwithu("check", cases)
    fails_alone(checks, "another-place", image)
    assert "1 changed, 1 whole" in checks.out
    fails_alone(segwithu("report", case, cases / SOUND), "another-place", image)
    assert not (case / "report.html").exists() and (cases / SOUND / "report.html").is_file()
    for number, options in enumerate(([], ["--anonymous"], ["--page", "--with-image"])):
        output = tmp_path / f"sent{number}"
        fails_alone(segwithu("export", cases, "--output", output, *options), "another-place", image)
        assert not any(MOVED in name for name in entries(output))
    with served(cases) as server:
        client = WebClient(server.gate.link)
        status, _, content = client.ask("GET", f"/api/cases/{client.case_id(MOVED)}")
        assert status == 409 and "[another-place]" in json.loads(content)["error"]
        assert client.get(f"/api/cases/{client.case_id(SOUND)}")["image"]


def test_both_places_are_named(case: Path, segwithu: Command) -> None:
    image = changed(case / "image.nii.gz", CHANGES["spacing"])
    places = ("32 x 47 x 41 voxels of 2 x 2 x 2 mm from RAS (1, 1, 1) to (63, 93, 81) mm", "(1, 1, 1) to (32, 47, 41)")
    refused(segwithu("report", case), "another-place", image, *places)


def test_an_image_elsewhere_is_refused_where_the_user_says_that_it_lies(
    case: Path, tmp_path: Path, segwithu: Command
) -> None:
    """Beside another image of that name; rounding of its header is no other place."""
    channel = read_case(case)["input"]["channels"][0]
    place, other = (tmp_path / "images" / name / Path(channel["file"]).name for name in ("here", "of another"))
    for path in (place, other):
        path.parent.mkdir(parents=True)
    shutil.copyfile(case.parent / SOUND / "image.nii.gz", other)
    (case / "image.nii.gz").rename(place)
    changed(place, moved(0.01))
    asked = ("export", case, "--images", tmp_path / "images", "--output")
    assert case_image(case, read_case(case), place)
    changed(place, moved(5))
    outcome = segwithu("report", case, "--image", place)
    refused(outcome, "another-place", place)
    if not Path(channel["file"]).is_absolute():  # else it is found where it was
        outcome = segwithu(*asked, tmp_path / "sent")
        assert outcome.code == 1 and "another-place" in outcome.error_codes


def test_a_volume_elsewhere_than_the_image_is_refused(
    cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    for path in case.glob("*.nii.gz"):
        if path.name != "image.nii.gz":
            changed(path, moved(20))
    fails_alone(segwithu("export", cases, "--output", tmp_path / "sent"), "another-place", case)
    assert segwithu("check", cases).code == 1
    assert segwithu("report", case).code == 1


# -- reviewers' versions of the segmentation --


def version_of(case: Path, change: Callable[[sitk.Image], None] | None = None) -> Path:
    """A reviewer's version whose header was changed."""
    path = edited(case, "Eve")
    judged(case, "Eve", {1: Verdict.CORRECTED})
    return path if change is None else changed(path, change)


def is_refused_everywhere(error_code: str, case: Path, tmp_path: Path, segwithu: Command) -> None:
    """Check all commands that read a reviewer's version, and that a merge leaves our case as it was."""
    path, ours = case / VERSION, copied(case, tmp_path / "ours", SOUND)
    for left in (ours / VERSION, ours / "review.Eve.jsonl"):
        left.unlink()
    before = entries(ours)
    for number, call in enumerate((["report"], ["export"], ["check"])):
        output = ["--output", tmp_path / f"out{number}"] if call[0] == "export" else []
        outcome = segwithu(*call, case, *output)
        assert (outcome.code, outcome.error_codes) == (1, [error_code]), outcome.err
        assert str(path) in outcome.err
    outcome = segwithu("merge-reviews", case, "--into", ours)
    assert (outcome.code, outcome.error_codes) == (1, [error_code]), outcome.err
    assert str(path) in outcome.err
    assert entries(ours) == before
    with served(case.parent) as server:
        client = WebClient(server.gate.link)
        opened = client.open(client.case_id(case.name), "Eve").opened
        assert opened["labels"] is None
        assert any(f"[{error_code}]" in note for note in opened["notes"])


@pytest.mark.parametrize("kind", CHANGES)
def test_a_version_at_another_place_is_refused(kind: str, case: Path, tmp_path: Path, segwithu: Command) -> None:
    version_of(case, CHANGES[kind])
    is_refused_everywhere("another-place", case, tmp_path, segwithu)


def test_a_version_of_another_patient_is_refused(cases: Path, case: Path, tmp_path: Path, segwithu: Command) -> None:
    """On the same lattice, where nothing but the hash in the file can tell."""
    version_of(case)
    image = sitk.ReadImage(str(case / VERSION))
    other = sitk.ReadImage(str(cases / SOUND / "segmentation.seg.nrrd"))
    image.SetMetaData(IMAGE_KEY, other.GetMetaData(IMAGE_KEY))
    sitk.WriteImage(image, str(case / VERSION), useCompression=True)
    is_refused_everywhere("other-image", case, tmp_path, segwithu)


def test_a_version_without_a_hash_is_taken_with_a_note(case: Path, tmp_path: Path, segwithu: Command) -> None:
    version_of(case, lambda image: image.EraseMetaData(IMAGE_KEY))
    ours = copied(case, tmp_path / "ours")
    (ours / VERSION).unlink()
    outcomes = [segwithu("check", case), segwithu("export", case, "--output", tmp_path / "sent")]
    outcomes.append(segwithu("merge-reviews", case, "--into", ours))
    assert segwithu("report", case).code == 0
    said = "does not say on which image it was made"
    for outcome in outcomes:
        assert outcome.code == 0 and said in outcome.out + outcome.err
    assert "1 warning" in outcomes[0].out
    assert said in (case / "report.html").read_text(encoding="utf-8")
    mark_image(case / VERSION, read_case(case)["input"]["channels"][0]["voxels_sha256"])
    assert check_reviewed(case / VERSION, case, read_case(case)) == ""
    before, after = (sitk.ReadImage(str(folder / VERSION)) for folder in (tmp_path / "sent" / MOVED, case))
    assert not sitk.GetArrayFromImage(before != after).any()


def test_a_version_that_slicer_cropped_is_read_and_one_with_labels_outside_is_not(
    case: Path, segwithu: Command
) -> None:
    path = version_of(case)
    content, whole = read_case(case), sitk.ReadImage(str(path))
    known, note = read_reviewed(path, sitk.ReadImage(str(case / "image.nii.gz")), content)
    assert note == "" and known.any()
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(whole > 0)
    i, j, k, *size = shape.GetBoundingBox(1)
    part = sitk.RegionOfInterest(whole, size, (i, j, k))
    part.SetMetaData(IMAGE_KEY, whole.GetMetaData(IMAGE_KEY))
    for key in whole.GetMetaDataKeys():
        part.SetMetaData(key, whole.GetMetaData(key))
    sitk.WriteImage(part, str(path))
    assert (read_reviewed(path, sitk.ReadImage(str(case / "image.nii.gz")), content)[0] == known).all()
    assert segwithu("check", case).code == 0
    changed(path, moved(-200))
    assert segwithu("check", case).error_codes == ["another-place"]


def test_an_empty_version_reaches_the_page_without_bytes(case: Path, tmp_path: Path, segwithu: Command) -> None:
    """A reviewer who rightly deleted everything; Slicer then writes one voxel, wherever."""
    version_of(case)
    empty = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    sitk.WriteImage(empty, str(case / VERSION))
    mark_image(case / VERSION, read_case(case)["input"]["channels"][0]["voxels_sha256"])
    assert segwithu("check", case).code == 0
    assert segwithu("report", case).code == 0
    assert segwithu("export", case, "--output", tmp_path / "sent").code == 0
    with served(case.parent) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(case.name)
        opened = client.open(id_, "Eve").opened
        assert opened["labels"]["box"]["size"] == [0, 0, 0]
        assert client.bytes(f"/api/cases/{id_}/{opened['labels']['url']}") == b""
