"""A case from DICOM that is sent away tells no string of its header, and nothing of who reviewed it, where and when."""

import base64
import getpass
import gzip
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import as_mr, told_everywhere, write_series
from exchanged_cases import CASES, edited, judged, review
from segwithu_command import MODEL, Command

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.cli.__main__ import main
from SegWithUCore.review.log_format import Commented, Edited, Verdict

REVIEWER = "Dr Ilse Wachowiak-Nowak"
COMMENTS = ("Fam17zqx called twice", "ask Schwester Reinhild, Zimmer 4711")
NAME = "Krzywicka Bogumiła 7741093"


@pytest.fixture(scope="module")
def told_case(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real hippocampus, sent through a DICOM series whose header is full, segmented, reviewed and edited."""
    root = tmp_path_factory.mktemp("Klinikum Nordstadt")
    image = sitk.ReadImage(str(data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"))
    series = root / "Radiologie Haus B" / NAME
    change = as_mr(**{**told_everywhere(), "SpecificCharacterSet": "ISO_IR 192"})
    write_series(image, series, scale=lambda number: (1, 0), change=change)
    output = root / "Ergebnisse 2024"
    assert main(["segment", str(series), "--model", str(MODEL), "--output", str(output)]) == 0
    case = output / NAME
    regions = read_regions(case)
    judged(case, REVIEWER, {1: Verdict.REJECTED, 2: Verdict.SECOND_READER}, comment=COMMENTS[0])
    review(case, REVIEWER, Commented(regions[2].id, COMMENTS[1]), Edited(regions[0].id, "Tumor Krzywicka", 10, 2, 12.0))
    fields = {"ID": "S3", "Name": "Tumor Krzywicka", "LabelValue": "3", "Layer": "0", "Tags": "Who:Fam17zqx|"}
    edited(case, REVIEWER, {f"Segment2_{key}": value for key, value in fields.items()})
    return case


def secrets(case: Path) -> dict[str, str]:
    """What must not be told: text of the header, names, places, times. By what it is."""
    found: dict[str, str] = {}
    series = case.parents[1] / "Radiologie Haus B" / NAME
    for file in sorted(series.iterdir()):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        for element in [*dataset.file_meta, *dataset]:
            if element.VR in ("US", "OB", "SS", "FL", "FD", "SQ", "IS", "DS") or element.keyword in STANDARD:
                continue
            for number, part in enumerate(re.split(r"[\^=\\]", str(element.value))):
                found[f"{element.keyword} {number}"] = part
                if element.VR == "DA":
                    found[f"{element.keyword} iso"] = f"{part[:4]}-{part[4:6]}-{part[6:]}"
        found[f"file {file.name}"] = file.name
    for path in [case, *case.parents][:3]:
        found[f"folder {path.name}"] = path.name
    names = {"reviewer": REVIEWER, "surname": "Wachowiak", "host": socket.gethostname(), "user": getpass.getuser()}
    made = {"made": read_case(case)["created"][:10], "series": "Radiologie", "segment": "Tumor"}
    found |= names | made | {f"comment {n}": comment for n, comment in enumerate(COMMENTS)}
    return {what: text for what, text in found.items() if len(text) >= SHORTEST}


STANDARD = {
    *("SOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID", "SpecificCharacterSet"),
    *("PhotometricInterpretation", "ImplementationVersionName", "ImplementationClassUID"),
}
"""Values that DICOM itself and its writer prescribe: they tell of nobody."""
SHORTEST = 5
"""Shorter words are found by chance in voxels."""


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what is packed in them: gzip, NRRD, PNG, pictures in HTML."""
    raw = path.read_bytes()
    yield raw[:1024] if raw[:2] == b"\x1f\x8b" else re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", raw)
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if path.suffix == ".nrrd" and b"encoding: gzip" in raw:
        yield gzip.decompress(raw[raw.index(b"\n\n") + 2 :])
    for picture in re.findall(rb"base64,([A-Za-z0-9+/=]+)", raw) if path.suffix == ".html" else []:
        yield from _png(base64.b64decode(picture))


def _png(data: bytes) -> Iterator[bytes]:
    """All chunks of a picture, and its pixels unpacked."""
    place, pixels = 8, b""
    while place < len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunk = data[place + 8 : place + 8 + length]
        if kind == b"IDAT":
            pixels += chunk
        else:
            yield kind + chunk
        place += length + 12
    yield zlib.decompress(pixels)


def leaks(folder: Path, wanted: dict[str, str]) -> set[tuple[str, str]]:
    """What is told, and the file that tells it, in names and bytes of everything in a folder."""
    forms = {
        what: {text.casefold().encode(), text.casefold().encode("latin-1", "replace")} for what, text in wanted.items()
    }
    found = set()
    for path in [folder, *sorted(folder.rglob("*"))]:
        packed = contents(path) if path.is_file() else iter(())
        for data in [path.name.encode(), *packed]:
            told = readable(data)
            found |= {(what, path.name) for what, ways in forms.items() if any(way in told for way in ways)}
    return found


def readable(data: bytes) -> bytes:
    """What may be text in some bytes, in small letters; text of two bytes a letter too."""
    runs = [run for way in (data, data.replace(b"\0", b"")) for run in re.findall(rb"[^\x00-\x1f\x7f]{5,}", way)]
    return b"\n".join(runs).decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


def test_the_header_is_full_and_the_search_finds_what_is_there(told_case: Path) -> None:
    wanted = secrets(told_case)
    assert len(wanted) > 700
    for keyword in ("PatientName", "PatientBirthDate", "AccessionNumber", "InstitutionName", "StudyInstanceUID"):
        assert f"{keyword} 0" in wanted
    root = told_case.parents[1]
    told = {what for what, _ in leaks(root, wanted)}
    assert set(wanted) - told <= {"host", "user"} | {what for what in wanted if what.endswith("iso")}


def test_an_anonymous_export_tells_no_string_of_the_header(told_case: Path, tmp_path: Path, segwithu: Command) -> None:
    outcome = segwithu("export", told_case, "--output", tmp_path / "sent", "--anonymous")
    assert outcome.code == 0, outcome.err
    assert leaks(tmp_path / "sent", secrets(told_case)) == set()
    pictures = (tmp_path / "sent" / "case-001" / "report.html").read_bytes().count(b"base64,")
    assert pictures > 10
    assert len(list((tmp_path / "sent").rglob("*"))) > 15
