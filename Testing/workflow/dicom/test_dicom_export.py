"""Results as DICOM: others read every voxel where the case has it; patient, codes and origin are told; else refused."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_cases import KINDS, NAMES, STUDY
from dicom_phantoms import SERIES
from dicom_readers import by_dcmqi, frames, inside, slices_by_uid
from exchanged_cases import accepted, changed_case, copied, edited, judged
from pydicom.dataset import Dataset
from segwithu_command import Command

from SegWithUCore.case.case_file import read_case
from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.input_spec import Code, Label, terminology_tag
from SegWithUCore.review.log_format import Verdict

TUMOUR = Label(
    3, "Tumour", (255, 0, 0), Code("SCT", "49755003", "Morphologically Altered Structure"),
    Code("SCT", "108369006", "Neoplasm")
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(dicom_cases: Path) -> Path:
    output = dicom_cases / "exported"
    assert main(["export-dicom", str(dicom_cases / "cases"), "--output", str(output)]) == 0
    return output


@pytest.fixture
def case(dicom_cases: Path, tmp_path: Path) -> Path:
    """A copy of the axial case, which finds its series no more."""
    return copied(dicom_cases / "cases" / "axial", tmp_path / "cases")


def read(path: Path) -> Dataset:
    dataset: Dataset = pydicom.dcmread(path)
    return dataset


def with_tumour(folder: Path, reviewer: str) -> None:
    """The reviewer corrects one structure and adds a segment that overlaps another: a second layer, as Slicer does."""
    path = edited(folder, reviewer)
    first = sitk.ReadImage(str(path))
    second = sitk.Image(first.GetSize(), first.GetPixelID())
    second.CopyInformation(first)
    second[10:20, 12:30, 8:20] = 1
    layers = sitk.Compose(first, second)
    for key in first.GetMetaDataKeys():
        layers.SetMetaData(key, first.GetMetaData(key))
    entry = (terminology_tag(TUMOUR) or "").removesuffix("^^~^^") + "SCT^10200004^Liver~SCT^7771000^Left"
    tags = f"Segmentation.Status:inprogress|TerminologyEntry:{entry}|"
    told = {"ID": "Segment_3", "Name": "Tumour", "Color": "1 0 0", "LabelValue": "1", "Layer": "1", "Tags": tags}
    for key, value in told.items():
        layers.SetMetaData(f"Segment2_{key}", value)
    sitk.WriteImage(layers, str(path), useCompression=True)


@pytest.mark.parametrize("kind", KINDS)
def test_dcmqi_reads_every_voxel_where_the_case_has_it(
    kind: str, dicom_cases: Path, exported: Path, tmp_path: Path
) -> None:
    folder = dicom_cases / "cases" / kind
    known = sitk.ReadImage(str(folder / "segmentation.nii.gz"))
    masks = by_dcmqi("segimage2itkimage", exported / kind / "segmentation.dcm", tmp_path / "seg")
    assert list(masks) == ["1.nrrd", "2.nrrd"]
    for value, mask in enumerate(masks.values(), start=1):
        found = sitk.GetArrayFromImage(mask) > 0
        np.testing.assert_array_equal(found, inside(mask, known) == value)
        assert found.sum() == (sitk.GetArrayFromImage(known) == value).sum() > 100
    probability = sitk.ReadImage(str(folder / "error_probability.nii.gz"))
    (map_read,) = by_dcmqi("paramap2itkimage", exported / kind / "error_probability.dcm", tmp_path / "map").values()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(map_read), inside(map_read, probability))
    values = sitk.GetArrayFromImage(probability)
    assert map_read.GetSize()[2] == (values >= 0).any(axis=(1, 2)).sum()
    assert (values >= 0).sum() == (sitk.GetArrayFromImage(map_read) >= 0).sum() > 10000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["segmentation.dcm", "error_probability.dcm"])
def test_each_frame_lies_on_the_slice_that_it_names(kind: str, file: str, dicom_cases: Path, exported: Path) -> None:
    dataset, slices = read(exported / kind / file), slices_by_uid(dicom_cases / "series" / kind)
    volume = sitk.ReadImage(str(dicom_cases / "cases" / kind / file.replace(".dcm", ".nii.gz")))
    array = sitk.GetArrayFromImage(volume)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    for pixels, groups in zip(frames(dataset), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        named = slices[source.ReferencedSOPInstanceUID]
        position = [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        assert position == [float(v) for v in named.ImagePositionPatient]
        assert orientation == pytest.approx([float(v) for v in named.ImageOrientationPatient], abs=1e-9)
        _, _, k = volume.TransformPhysicalPointToIndex(position)
        if file == "segmentation.dcm":
            number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            np.testing.assert_array_equal(pixels, array[k] == number)
        else:
            np.testing.assert_array_equal(pixels, array[k])
    referenced = dataset.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == SERIES
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} <= set(slices)
    first = next(iter(slices.values()))
    for keyword in ("FrameOfReferenceUID", *STUDY):
        if keyword != "SeriesNumber":
            assert dataset[keyword].value == first[keyword].value, keyword
    assert str(dataset.PatientName) == NAMES[kind][1]
    assert dataset.SeriesInstanceUID != SERIES


def test_objects_tell_the_structures_and_what_made_them(dicom_cases: Path, exported: Path) -> None:
    model = read_case(dicom_cases / "cases" / "axial")["model"]
    dataset = read(exported / "axial" / "segmentation.dcm")
    first, second = dataset.SegmentSequence
    assert (first.SegmentLabel, second.SegmentLabel) == ("anterior hippocampus", "posterior hippocampus")
    kind = second.SegmentedPropertyTypeCodeSequence[0]
    (modifier,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, modifier.CodeMeaning) == ("5366008", "SCT", "Posterior")
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (first.SegmentAlgorithmType, algorithm.AlgorithmName) == ("AUTOMATIC", model["name"])
    assert algorithm.AlgorithmVersion == model["version"]
    assert model["weights_sha256"] in algorithm.AlgorithmParameters
    assert (dataset.SeriesDescription, dataset.SeriesNumber) == ("SegWithU hippocampus: segmentation", 401)
    assert str(dataset.ContentCreatorName) == ""
    probability = read(exported / "axial" / "error_probability.dcm")
    assert model["weights_sha256"] in probability.ContributingEquipmentSequence[0].ContributionDescription
    for made in (dataset, probability):
        assert made.DeviceSerialNumber == model["weights_sha256"]
        assert "not for clinical use" in made.ManufacturerModelName


def test_what_was_not_assessed_is_padding_without_a_real_world_value(exported: Path) -> None:
    dataset = read(exported / "axial" / "error_probability.dcm")
    pixels = frames(dataset)
    assert (pixels == -1).any()
    assert set(np.unique(pixels[pixels < 0])) == {-1.0}
    assert (dataset.FloatPixelPaddingValue, dataset.FloatPixelPaddingRangeLimit) == (-1, -1)
    mapping = dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    mapped = (mapping.DoubleFloatRealWorldValueFirstValueMapped, mapping.DoubleFloatRealWorldValueLastValueMapped)
    assert (mapped, mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == ((0, 1), 1, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert pixels.max() <= 1


def test_a_reviewer_s_version_tells_who_drew_what(
    case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    judged(case, "Łucja Wójcik", {1: Verdict.CORRECTED})
    with_tumour(case, "Łucja Wójcik")
    series = dicom_cases / "series" / "axial"
    outcome = segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", series)
    assert outcome.code == 0, outcome.err
    path = tmp_path / "sent" / "axial" / "segmentation_reviewed.Łucja Wójcik.dcm"
    dataset = read(path)
    assert str(dataset.ContentCreatorName) == "Łucja Wójcik^"
    assert dataset.SeriesDescription == "SegWithU hippocampus: reviewed by Łucja Wójcik"
    drawn = {segment.SegmentLabel: segment.SegmentAlgorithmType for segment in dataset.SegmentSequence}
    assert sorted(drawn.values()) == ["AUTOMATIC", "MANUAL", "SEMIAUTOMATIC"]
    assert drawn["Tumour"] == "MANUAL"
    tumour = dataset.SegmentSequence[2]
    assert tumour.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert dataset.SegmentsOverlap == "YES"
    layers = sitk.ReadImage(str(case / "segmentation_reviewed.Łucja Wójcik.seg.nrrd"))
    ours = [sitk.VectorIndexSelectionCast(layers, layer) == value for layer, value in ((0, 1), (0, 2), (1, 1))]
    masks = by_dcmqi("segimage2itkimage", path, tmp_path / "read").values()
    for mask, known in zip(masks, ours, strict=True):
        found = sitk.GetArrayFromImage(mask) > 0
        np.testing.assert_array_equal(found, inside(mask, known) > 0)
        assert found.sum() == sitk.GetArrayFromImage(known).sum() > 0


def test_structures_without_codes_get_codes_made_from_their_names(
    case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    def uncoded(content: dict[str, object]) -> None:
        for entry in content["structures"]:  # type: ignore[attr-defined]
            entry.update(category=None, type=None, modifier=None)

    changed_case(case, uncoded)
    series = dicom_cases / "series" / "axial"
    assert segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", series).code == 0
    first, second = read(tmp_path / "sent" / "axial" / "segmentation.dcm").SegmentSequence
    codes = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in (first, second)]
    assert [code.CodingSchemeDesignator for code in codes] == ["99SEGWITHU"] * 2
    assert [code.CodeMeaning for code in codes] == [first.SegmentLabel, second.SegmentLabel]
    assert codes[0].CodeValue != codes[1].CodeValue
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Structure of unspecified kind"


def test_an_empty_segmentation_is_exported_as_such(
    case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    empty = sitk.ReadImage(str(case / "segmentation.nii.gz")) * 0
    sitk.WriteImage(empty, str(case / "segmentation.nii.gz"))
    accepted(case, "segmentation.nii.gz")
    series = dicom_cases / "series" / "axial"
    assert segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", series).code == 0
    dataset = read(tmp_path / "sent" / "axial" / "segmentation.dcm")
    assert len(dataset.SegmentSequence) == 2
    assert not frames(dataset).any()


def test_a_series_de_identified_later_gives_objects_of_its_own_patient(
    case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    """Known by its voxels, also beside another series; nothing of the old header is in the objects."""
    for path in sorted((dicom_cases / "series" / "axial").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.SeriesInstanceUID = "Anon^1", "ANON-1", SERIES + ".7"
        for keyword in ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber"):
            del dataset[keyword]
        (tmp_path / "anon").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "anon" / path.name)
    for path in (dicom_cases / "series" / "oblique").iterdir():
        shutil.copyfile(path, tmp_path / "anon" / f"o{path.name}")
    outcome = segwithu("export-dicom", case, "--output", tmp_path / "sent", "--source", tmp_path / "anon")
    assert outcome.code == 0, outcome.err
    for file in ("segmentation.dcm", "error_probability.dcm"):
        written = (tmp_path / "sent" / "axial" / file).read_bytes()
        assert b"ANON-1" in written
        for told in ("Müller", "P-1\0", "19531127", "A-5", "Referrer"):
            assert told.encode() not in written
