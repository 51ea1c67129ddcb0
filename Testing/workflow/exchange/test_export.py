"""Cases sent to a colleague and back: everything needed is there, nothing is told about people, nothing is lost."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import (
    CASES,
    changed_case,
    copied,
    edited,
    header_of,
    judged,
    limited,
    listed_regions,
    rest_accepted,
    review,
)
from segwithu_command import MODEL, Command, entries, one_sentence

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.case.case_image import case_image
from SegWithUCore.export.case_export import Exported, write_names
from SegWithUCore.review.log_format import Commented, Edited, StructureJudged, Verdict, read_log
from SegWithUCore.review.merge import merge_reviews
from SegWithUCore.util.errors import InputError

SECRETS = {
    "patient name": "Krzywicka",
    "first name": "Bogumila",
    "patient id": "PID-7741093",
    "birth date": "19531127",
    "study date": "20240318",
    "accession": "ACC0098812",
    "institution": "Hospital_Zabrze",
    "uid": "1.2.840.113619.2.55.3.604688",
    "reviewer": "Wachowiak",
    "comment": "phone her daughter",
    "segment": "Bogumila tumour",
}


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / CASES[0], tmp_path / "ours")


def voxels(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


@pytest.fixture(scope="module")
def identified(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case whose every place that takes text tells who it is: segmented from an NRRD file as converters write it."""
    from SegWithUCore.cli.__main__ import main

    root = tmp_path_factory.mktemp("identified")
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"))
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    for key, value in SECRETS.items():
        image.SetMetaData(f"DICOM_{key.replace(' ', '_')}", value)
    name = "Krzywicka^Bogumila_PID-7741093_20240318"
    source = root / "Hospital_Zabrze" / "Krzywicka" / f"{name}.nrrd"
    source.parent.mkdir(parents=True)
    sitk.WriteImage(image, str(source))
    output = root / "Hospital_Zabrze" / "cases"
    options = ["--model", str(MODEL), "--output", str(output), "--include-image"]
    assert main(["segment", str(source), *options]) == 0
    folder = output / name
    assert folder.is_dir()
    reviewer = "Dr Wachowiak 20240318"
    region = listed_regions(folder)[0].id
    judged(
        folder,
        reviewer,
        {1: Verdict.REJECTED, 2: Verdict.SECOND_READER},
        comment="phone her daughter ACC0098812 1.2.840.113619.2.55.3.604688",
    )
    review(
        folder,
        reviewer,
        Commented(region, "Krzywicka, again: phone her daughter"),
        Edited(region, "Bogumila tumour", 10, 2, 12.0),
        StructureJudged("Bogumila tumour", Verdict.ACCEPTED, "PID-7741093"),
    )
    fields = {f"Segment2_{key}": value for key, value in
              {"ID": "Bogumila", "Name": "Bogumila tumour", "LabelValue": "3", "Layer": "0",
               "Tags": "DICOM.PatientID:PID-7741093|TerminologyEntry:x|"}.items()}  # fmt: skip
    edited(folder, reviewer, {**fields, "PatientName": "Krzywicka", "StudyDate": "20240318"})
    warning = {"severity": "warning", "message": f"{source} is out of distribution.", "kind": "noise"}
    changed_case(folder, lambda c: c.update(ood={"warnings": [warning]}, patient="Krzywicka"))
    (folder / "notes.txt").write_text("Krzywicka")
    described = sitk.ReadImage(str(folder / "image.nii.gz"))
    described.SetMetaData("ITK_FileNotes", "Krzywicka Bogumila 19531127")
    sitk.WriteImage(described, str(folder / "image.nii.gz"), useCompression=True)
    return folder


def told(folder: Path) -> dict[str, set[str]]:
    """Which secrets stand in file names and in bytes of a folder, packed ones too."""
    found: dict[str, set[str]] = {}
    for path in [folder, *folder.rglob("*")]:
        data = path.name.encode()
        if path.is_file():
            raw = path.read_bytes()
            data += raw
            if raw[:2] == b"\x1f\x8b":
                data += gzip.decompress(raw) + raw[:64]
            elif path.suffix == ".nrrd" and b"encoding: gzip" in raw:
                data += gzip.decompress(raw[raw.index(b"\n\n") + 2 :])
        folded = data.lower()
        for what, secret in SECRETS.items():
            forms = (secret, f"{secret[:4]}-{secret[4:6]}-{secret[6:]}") if secret.isdecimal() else (secret,)
            if any(form.lower().encode() in folded or form.encode("utf-16-le") in data for form in forms):
                found.setdefault(what, set()).add(path.name)
    return found


def test_the_search_finds_what_is_to_be_found(identified: Path) -> None:
    """The tests below cannot be blind: every secret that is looked for stands in the case somewhere."""
    assert set(told(identified.parents[1])) == set(SECRETS)
    assert "image.nii.gz" in told(identified)["birth date"], "the NIfTI header told nothing to begin with"
    assert "segmentation_reviewed.Dr Wachowiak 20240318.seg.nrrd" in told(identified)["segment"]


def test_an_anonymous_export_tells_nobody(identified: Path, tmp_path: Path, segwithu: Command) -> None:
    limited(identified, wrong_share=0.01)
    outcome = segwithu("export", identified, "--output", tmp_path / "sent", "--anonymous")
    assert outcome.code == 0, outcome.err
    assert told(tmp_path / "sent") == {}
    everything = b"".join(path.read_bytes() for path in (tmp_path / "sent").rglob("*") if path.is_file())
    for place in (str(tmp_path), str(identified.parent), read_case(identified)["created"][:10]):
        assert place.encode() not in everything
    assert b"2026-01-01" not in everything  # when the reviews were made
    names = json.loads((tmp_path / "sent-names.json").read_text(encoding="utf-8"))
    assert names["cases"] == {"case-001": str(identified)}
    assert not {name for name in entries(tmp_path / "sent") if re.search(r"(?<!p)review", name)}, "reviews stay here"


def test_an_anonymous_export_still_holds_everything_that_is_needed(
    identified: Path, tmp_path: Path, segwithu: Command
) -> None:
    assert segwithu("export", identified, "--output", tmp_path / "sent", "--anonymous").code == 0
    case, sent = read_case(identified), tmp_path / "sent" / "case-001"
    assert {"README.txt", "worklist.csv", "worklist.json", "case-001/report.html"} <= set(entries(tmp_path / "sent"))
    content = read_case(sent)
    case_image(sent, content)  # found inside, and its hash fits
    assert content["structures"] == case["structures"]
    for path in identified.glob("*.nii.gz"):
        np.testing.assert_array_equal(voxels(sent / path.name), voxels(path))
        first, second = (sitk.ReadImage(str(folder / path.name)) for folder in (identified, sent))
        assert second.GetPixelID() == first.GetPixelID()
        np.testing.assert_allclose(second.GetDirection(), first.GetDirection())
        np.testing.assert_allclose([*second.GetOrigin(), *second.GetSpacing()],
                                   [*first.GetOrigin(), *first.GetSpacing()])  # fmt: skip
    assert listed_regions(sent) == listed_regions(identified)
    own, copy = (sitk.ReadImage(str(folder / "segmentation.seg.nrrd")) for folder in (identified, sent))
    assert {key: own.GetMetaData(key) for key in own.GetMetaDataKeys() if key.startswith("Seg")} == {
        key: copy.GetMetaData(key) for key in copy.GetMetaDataKeys() if key.startswith("Seg")
    }


def test_numbers_of_anonymous_cases_do_not_follow_names_and_stay_known(
    segmented_cases: Path, tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.SystemRandom.shuffle", lambda _, order: order.reverse())
    assert segwithu("export", segmented_cases, "--output", tmp_path / "sent", "--anonymous").code == 0
    names = json.loads((tmp_path / "sent-names.json").read_text(encoding="utf-8"))["cases"]
    assert [Path(folder).name for _, folder in sorted(names.items())] == list(reversed(CASES))
    (tmp_path / "sent").rename(tmp_path / "posted")
    again = segwithu("export", segmented_cases, "--output", tmp_path / "sent", "--anonymous")
    one_sentence(again, "sent-names.json", "earlier export", "--output")
    assert json.loads((tmp_path / "sent-names.json").read_text(encoding="utf-8"))["cases"] == names
    assert not (tmp_path / "sent").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of files as POSIX knows them")
def test_who_is_who_is_for_this_user_from_the_first_moment_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, open_to_others = Path.write_text, list[int]()

    def watched(self: Path, *arguments: str, **options: str) -> int:
        open_to_others.append(self.stat().st_mode & 0o077)
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", watched)
    write_names(tmp_path / "names.json", Exported({"case-001": tmp_path / "Krzywicka"}))
    assert [*open_to_others, (tmp_path / "names.json").stat().st_mode & 0o077] == [0, 0]


def test_a_folder_that_would_tell_a_name_is_refused(case: Path, tmp_path: Path, segwithu: Command) -> None:
    output = tmp_path / f"for-{CASES[0]}"
    one_sentence(segwithu("export", case, "--output", output, "--anonymous"), "name", code=2)
    assert not output.exists()


def test_only_flagged_cases_go_and_a_broken_one_does_not_stop_them(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    cases = [copied(segmented_cases / name, tmp_path / "ours") for name in CASES]
    for case in cases:
        limited(case)  # so that verdicts alone flag a case
    judged(cases[0], "Ana", {1: Verdict.REJECTED})
    judged(cases[1], "Ana", {1: Verdict.SECOND_READER})
    (cases[1] / "image.nii.gz").write_bytes((cases[0] / "image.nii.gz").read_bytes())
    outcome = segwithu("export", tmp_path / "ours", "--output", tmp_path / "sent", "--flagged")
    assert outcome.code == 1
    assert "other voxels" in outcome.messages[-1]
    assert [folder.name for folder in case_folders([tmp_path / "sent"])] == [CASES[0]]
    unflagged = segwithu("export", cases[2], "--output", tmp_path / "none", "--flagged")
    one_sentence(unflagged, "none is flagged")
    assert not (tmp_path / "none").exists()


def test_verdicts_come_back_and_nothing_is_lost(case: Path, tmp_path: Path, segwithu: Command) -> None:
    ours = judged(case, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED})
    assert segwithu("export", case, "--output", tmp_path / "sent", "--anonymous").code == 0
    there = tmp_path / "sent" / "case-001"
    theirs = judged(there, "Ben", {1: Verdict.CORRECTED, 2: Verdict.REJECTED})
    edited(there, "Ben")
    before, sent = ours.read_bytes(), theirs.read_bytes()
    outcome = segwithu("merge-reviews", tmp_path / "sent", "--into", case.parent, "--table", tmp_path / "verdicts.csv")
    assert outcome.code == 0, outcome.err
    assert "disagree on 1 region " in outcome.out
    assert (case / "review.Ben.jsonl").read_bytes() == sent
    assert ours.read_bytes() == before
    assert (case / "segmentation_reviewed.Ben.seg.nrrd").is_file()
    assert len((tmp_path / "verdicts.csv").read_text().splitlines()) == 1 + 2 * len(listed_regions(case))
    again = segwithu("merge-reviews", tmp_path / "sent", "--into", case.parent)
    assert "has nothing new" in again.out
    assert (case / "review.Ben.jsonl").read_bytes() == sent


def test_what_was_taken_without_a_look_comes_back_as_that(case: Path, tmp_path: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED, 3: Verdict.REJECTED})
    assert segwithu("export", case, "--output", tmp_path / "sent", "--anonymous").code == 0
    there = tmp_path / "sent" / "case-001"
    rest = rest_accepted(there, "Ben", {1: Verdict.ACCEPTED, 2: Verdict.CORRECTED})
    outcome = segwithu("merge-reviews", tmp_path / "sent", "--into", case.parent, "--table", tmp_path / "verdicts.csv")
    assert outcome.code == 0, outcome.err
    assert "disagree on 0 regions" in outcome.out, "who did not look does not disagree"
    assert f"; {len(rest.regions) - 1} taken without a look" in outcome.out
    assert (tmp_path / "verdicts.csv").read_text().count(",not looked at,") == len(rest.regions)


def test_a_continued_log_grows_and_a_diverged_one_stays_beside(case: Path, tmp_path: Path, segwithu: Command) -> None:
    judged(case, "Ana", {1: Verdict.ACCEPTED})
    longer, other = (copied(case, tmp_path / name) for name in ("longer", "other"))
    judged(longer, "Ana", {2: Verdict.REJECTED})
    judged(other, "Ana", {3: Verdict.CORRECTED})
    assert "lines more" in segwithu("merge-reviews", longer, "--into", case).out
    merged = (case / "review.Ana.jsonl").read_bytes()
    assert merged == (longer / "review.Ana.jsonl").read_bytes()
    outcome = segwithu("merge-reviews", other, "--into", case)
    assert "is kept as" in outcome.out
    assert (case / "review.Ana.jsonl").read_bytes() == merged
    (kept,) = case.glob("review.Ana.jsonl.from-*")
    assert kept.read_bytes() == (other / "review.Ana.jsonl").read_bytes()
    assert read_log(case / "review.Ana.jsonl").regions_sha256 == header_of(case).regions_sha256


def test_a_strange_case_stays_where_it_is(segmented_cases: Path, case: Path, tmp_path: Path, segwithu: Command) -> None:
    stranger = copied(segmented_cases / CASES[1], tmp_path / "back", CASES[0])
    judged(stranger, "Ben", {1: Verdict.ACCEPTED})
    outcome = segwithu("merge-reviews", stranger, "--into", case.parent)
    assert outcome.code == 1
    assert "image, model and regions" in outcome.messages[-1]
    assert list(case.glob("review.*")) == []


def test_the_cases_of_a_list_are_exported_with_images_from_where_they_lie_now(
    segmented_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    cases = [copied(segmented_cases / name, tmp_path / "cases") for name in CASES]
    for case in cases:
        (case / "image.nii.gz").rename(tmp_path / f"{case.name}.nii.gz")
        changed_case(case, lambda content: content["input"]["channels"][0].update(file="gone.nii.gz"))
    rows = [{"folder": f"cases/{name}", "image": f"{name}.nii.gz"} for name in CASES[:2]]
    wanted = tmp_path / "wanted.json"
    wanted.write_text(json.dumps({"format": "segwithu-worklist", "cases": rows}), encoding="utf-8")
    outcome = segwithu("export", "--list", wanted, "--output", tmp_path / "sent", "--json")
    assert outcome.code == 0, outcome.out
    assert outcome.events[0] == {"event": "started", "pid": os.getpid()}
    assert outcome.events[-1]["exported"] == sorted(CASES[:2])
    for name in CASES[:2]:
        sent, own = (
            sitk.ReadImage(str(path / "image.nii.gz")) for path in (tmp_path / "sent" / name, segmented_cases / name)
        )
        assert (sitk.GetArrayViewFromImage(sent) == sitk.GetArrayViewFromImage(own)).all()
    one_sentence(segwithu("export", "--output", tmp_path / "more"), "--list", code=2)


def test_reviews_come_home_to_cases_that_lie_in_many_places(segmented_cases: Path, tmp_path: Path) -> None:
    homes = [copied(segmented_cases / name, tmp_path / "homes") for name in CASES]
    back = [copied(home, tmp_path / "back") for home in homes]
    for case in back:
        judged(case, "Ben", {1: Verdict.ACCEPTED})
    stranger = copied(segmented_cases / CASES[0], tmp_path / "other")
    changed_case(stranger, lambda content: content["model"].update(weights_sha256="f" * 64))
    done, troubles = merge_reviews([tmp_path / "back", stranger], tmp_path / "homes")
    assert sorted(merged.folder for merged in done) == sorted(homes)
    assert len(troubles) == 1 and str(stranger) in troubles[0]


def test_all_that_lies_in_a_folder_of_cases_may_be_named(segmented_cases: Path, tmp_path: Path) -> None:
    cases = [copied(segmented_cases / name, tmp_path) for name in CASES]
    beside = [tmp_path / "failed.csv", tmp_path / "index.html", tmp_path / "notes.txt"]
    for path in beside:
        path.write_text("-", encoding="utf-8")
    assert case_folders([*cases, *beside[:2]]) == cases
    with pytest.raises(InputError, match=r"notes\.txt.*\[not-a-case\]"):
        case_folders([*cases, *beside])
    with pytest.raises(InputError, match=r"index\.html.*\[not-a-case\]"):
        case_folders(beside[1:2])
