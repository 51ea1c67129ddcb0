"""A transform above a volume tells the network which way is up, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.segment import segment
from SegWithUCore.io.volume import apply_transform, orientation_of
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import UsageError

IDENTITY = np.eye(4)


def image_with_geometry() -> sitk.Image:
    image = sitk.Image([5, 6, 7], sitk.sitkFloat32)
    image.SetSpacing([0.5, 1.3, 3.0])
    image.SetOrigin([10.0, -20.0, 30.0])
    image.SetDirection([0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0])
    return image


def rotation_about_superior(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = [1.0, 2.0, 3.0]
    return matrix


def test_every_voxel_centre_goes_where_the_transform_sends_it() -> None:
    image, matrix = image_with_geometry(), rotation_about_superior(33)
    moved = apply_transform(image, matrix.ravel().tolist())
    flip = np.diag([-1.0, -1.0, 1.0])
    for index in [(0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (4, 5, 6)]:
        ras = flip @ np.asarray(image.TransformIndexToPhysicalPoint(index))
        expected = flip @ (matrix[:3, :3] @ ras + matrix[:3, 3])
        np.testing.assert_allclose(moved.TransformIndexToPhysicalPoint(index), expected, atol=1e-9)


def test_a_turn_by_half_changes_the_orientation_letters() -> None:
    image = sitk.Image([3, 3, 3], sitk.sitkFloat32)
    assert orientation_of(image) == "LPS"
    assert orientation_of(apply_transform(image, rotation_about_superior(180).ravel().tolist())) == "RAS"


def test_scaling_changes_the_spacing_and_no_transform_changes_nothing() -> None:
    image = image_with_geometry()
    scaled = apply_transform(image, np.diag([2.0, 2.0, 2.0, 1.0]).ravel().tolist())
    np.testing.assert_allclose(scaled.GetSpacing(), [1.0, 2.6, 6.0])
    assert apply_transform(image, None) is image
    same = apply_transform(image, IDENTITY.ravel().tolist())
    np.testing.assert_allclose(same.GetDirection(), image.GetDirection(), atol=1e-12)


@pytest.mark.parametrize("matrix", [[1.0] * 15, [float("nan")] * 16, np.diag([1.0, 1.0, 0.0, 1.0]).ravel().tolist()])
def test_a_matrix_that_is_none_is_refused(matrix: list[float]) -> None:
    with pytest.raises(UsageError, match="transform"):
        apply_transform(image_with_geometry(), matrix)


def test_an_image_in_another_frame_is_segmented_as_in_the_world(data_folder: Path, tmp_path: Path) -> None:
    """A scan whose header says nothing true, put right by a transform, must give the result of a true header."""
    source = sitk.ReadImage(str(next((data_folder / "hippocampus" / "images").glob("*.nii.gz"))), sitk.sitkFloat32)
    turn = rotation_about_superior(180)
    wrong = apply_transform(source, np.linalg.inv(turn).ravel().tolist())
    sitk.WriteImage(source, str(tmp_path / "true.nrrd"))
    sitk.WriteImage(wrong, str(tmp_path / "wrong.nrrd"))
    model = Model(resolve_model("hippocampus"), torch.device("cpu"))
    results = [
        segment(Job(name, [tmp_path / f"{name}.nrrd"], tmp_path / name, own_to_world_ras=matrix), model)
        for name, matrix in (("true", None), ("wrong", turn.ravel().tolist()))
    ]
    assert np.array_equal(results[0].maps.classes, results[1].maps.classes)
    np.testing.assert_allclose(results[0].maps.ranking, results[1].maps.ranking, atol=1e-5)
    written = sitk.ReadImage(str(tmp_path / "wrong" / "segmentation.nii.gz"))
    np.testing.assert_allclose(written.GetDirection(), wrong.GetDirection(), atol=1e-6)
