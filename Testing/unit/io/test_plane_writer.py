"""Volumes written plane by plane: byte by byte what SimpleITK writes, compression apart."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import rotation

from SegWithUCore.case.case_regions import whole_image
from SegWithUCore.case.segmentation_file import write_segmentation_nrrd
from SegWithUCore.io import plane_writer
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.plane_writer import write_image_planes, write_nifti_planes
from SegWithUCore.io.roi import VoxelBox
from SegWithUCore.io.volume import check_file, same_grid
from SegWithUCore.models.input_spec import Label

SIZE = (11, 9, 13)
GRID = VoxelGrid(SIZE, (0.7, 1.3, 2.1), (-3.0, 5.5, 8.25), tuple(rotation((9.0, -4.0, 31.0)).ravel().tolist()))
BOXES = [VoxelBox((0, 0, 0), SIZE), VoxelBox((2, 1, 3), (7, 5, 4)), VoxelBox((0, 0, 3), (11, 9, 2))]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int16, np.uint16, np.uint32])
def test_nifti_files_are_those_of_simpleitk(
    kind: type, box: VoxelBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_writer, "PIECE_VOXELS", 300)
    values = np.random.default_rng(0).integers(1, 90, box.size[::-1]).astype(kind)
    written = tmp_path / "ours.nii.gz"
    write_nifti_planes(written, values, box, GRID, 7)
    sitk.WriteImage(whole_image(values, box, GRID, 7), str(tmp_path / "theirs.nii"))
    assert gzip.decompress(written.read_bytes()) == (tmp_path / "theirs.nii").read_bytes()
    check_file(written)
    again = tmp_path / "again.nii.gz"
    write_image_planes(again, sitk.ReadImage(str(written)))
    assert gzip.decompress(again.read_bytes())[352:] == gzip.decompress(written.read_bytes())[352:]


@pytest.mark.parametrize("box", BOXES)
def test_segmentations_name_where_each_structure_lies(box: VoxelBox, tmp_path: Path) -> None:
    labels = [Label(value, f"structure {value}", (value, 2, 3)) for value in (0, 2, 5, 9)]
    values = np.zeros(box.size[::-1], np.uint8)
    values[1, 2, 3:5], values[0, :3, 1] = 5, 2
    write_segmentation_nrrd(tmp_path / "ours.seg.nrrd", values, box, GRID, labels)
    check_file(tmp_path / "ours.seg.nrrd")
    image = sitk.ReadImage(str(tmp_path / "ours.seg.nrrd"))
    expected = whole_image(values, box, GRID, 0)
    whole = sitk.GetArrayFromImage(expected)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), whole)
    assert same_grid(image, expected, 1e-6)
    for number, label in enumerate(labels[1:]):
        places = np.argwhere(whole == label.value)[:, ::-1]
        ends = zip(places.min(0), places.max(0), strict=True) if len(places) else [(0, -1)] * 3
        assert image.GetMetaData(f"Segment{number}_Extent") == " ".join(f"{low} {high}" for low, high in ends)
        assert image.GetMetaData(f"Segment{number}_Name") == label.name
    assert "Segment3_ID" not in image.GetMetaDataKeys()
