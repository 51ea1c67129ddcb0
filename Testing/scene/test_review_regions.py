"""Regions as nodes: the same figures, voxels and places after loading, saving, moving and deleting."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from counting import allocated_mib, calls_of
from loaded_case import add_transform, load_volume, loaded_case
from mrml_headless import HeadlessScene, SliceView
from scipy.ndimage import find_objects
from written_case import make_case, write_some_regions

from SegWithUCore.case.region_files import read_regions
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.scene.case_nodes import find_cases, is_ours
from SegWithUSlicerLib.scene.load_case import follow_parent_transform, load_case
from SegWithUSlicerLib.scene.review_nodes import boxes_of_labels, region_mask, regions_hash, regions_of, world_of

KINDS = [{}, {"oblique": True}, {"transformed": True}, {"oblique": True, "transformed": True}]


def _whole(nodes, region_id, shape):
    """A region's mask put back on the whole grid."""
    mask, (i, j, k), _matrix = region_mask(nodes, region_id)
    whole = np.zeros(shape, dtype=bool)
    whole[k : k + mask.shape[0], j : j + mask.shape[1], i : i + mask.shape[2]] = mask
    return whole


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "+".join(kind) or "plain")
def test_every_region_has_its_figures_its_voxels_and_its_place_in_the_world(tmp_path, data_folder, kind):
    case = loaded_case(tmp_path, data_folder, regions=True, **kind)
    regions = regions_of(case.nodes)
    assert regions == read_regions(case.disk.folder)
    assert len(regions) > 3
    for region in regions:
        assert np.array_equal(
            _whole(case.nodes, region.id, case.disk.labels.shape), case.disk.region_labels == region.id
        )
        prone = np.where(case.disk.region_labels == region.id, case.disk.error, -1)
        peak = np.unravel_index(prone.argmax(), prone.shape)
        # The csv holds thousandths of a millimetre.
        assert np.allclose(world_of(case.nodes, region.peak_ras_mm), case.world_of(peak), atol=2e-3)
        matrix = region_mask(case.nodes, region.id).ijk_to_ras
        assert np.allclose(
            world_of(case.nodes, matrix.MultiplyPoint([*peak[::-1], 1.0])[:3]), case.world_of(peak), atol=1e-4
        )


def test_region_nodes_are_hidden_and_no_input(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True, transformed=True)
    for node in (case.nodes.regions, case.nodes.regions_text):
        assert node.GetHideFromEditors()
        assert node.GetStorageNode() is None
    assert is_ours(case.nodes.regions)
    assert case.nodes.regions not in case.nodes.results
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(case.scene)
    assert hierarchy.GetItemByDataNode(case.nodes.regions) == hierarchy.GetInvalidItemID()
    # Cut to what is labelled.
    assert np.prod(case.nodes.regions.GetImageData().GetDimensions()) < case.disk.labels.size


def test_regions_follow_the_transform_that_the_input_is_put_under(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    region = regions_of(case.nodes)[0]
    before = world_of(case.nodes, region.peak_ras_mm)
    case.volume.SetAndObserveTransformNodeID(add_transform(case.scene).GetID())
    follow_parent_transform(case.nodes)
    assert case.nodes.regions.GetTransformNodeID() == case.volume.GetTransformNodeID()
    assert case.nodes.original.GetTransformNodeID() == case.volume.GetTransformNodeID()
    after = world_of(case.nodes, region.peak_ras_mm)
    assert np.linalg.norm(np.subtract(after, before)) > 30
    case.scene.RemoveNode(case.volume)
    assert np.allclose(world_of(case.nodes, region.peak_ras_mm), after)


def test_regions_come_back_from_a_bundle(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True, oblique=True, transformed=True)
    case.headless.save_bundle(tmp_path / "scene.mrb")
    headless = HeadlessScene(tmp_path / "again")
    headless.load_bundle(tmp_path / "scene.mrb")
    (nodes,) = find_cases(headless.scene)
    assert regions_of(nodes) == regions_of(case.nodes)
    assert regions_hash(nodes) == regions_hash(case.nodes) != ""
    for region in regions_of(nodes):
        assert np.array_equal(_whole(nodes, region.id, case.disk.labels.shape), case.disk.region_labels == region.id)
        assert np.allclose(world_of(nodes, region.peak_ras_mm), world_of(case.nodes, region.peak_ras_mm), atol=1e-3)
    assert nodes.regions.GetHideFromEditors()


def test_regions_may_be_missing_and_go_with_a_new_run(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    hidden = [case.nodes.regions, case.nodes.regions_text]
    (case.disk.folder / "regions.csv").unlink()
    nodes = load_case(case.disk.folder, case.volume)
    assert nodes == case.nodes
    assert regions_of(nodes) == ()
    assert regions_hash(nodes) == ""
    assert nodes.regions is None
    assert all(node.GetScene() is None for node in hidden)


def test_a_case_without_any_uncertain_voxel_has_no_regions_but_says_so(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    image = sitk.ReadImage(str(case.disk.image))
    empty = np.zeros(case.disk.labels.shape, dtype=np.uint16)
    write_some_regions(case.disk.folder, case.disk.labels, case.disk.error, image, empty)
    nodes = load_case(case.disk.folder, case.volume)
    assert regions_of(nodes) == ()
    assert nodes.regions is not None
    with pytest.raises(KeyError):
        region_mask(nodes, 1)


def test_deleted_region_nodes_read_as_nothing(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    region = regions_of(case.nodes)[0]
    case.scene.RemoveNode(case.nodes.regions)
    assert region_mask(case.nodes, region.id) is None
    assert regions_of(case.nodes)[0] == region
    case.scene.RemoveNode(case.nodes.regions_text)
    assert regions_of(case.nodes) == ()
    load_case(case.disk.folder, case.volume)
    assert region_mask(case.nodes, region.id) is not None


DAMAGES = {
    "regions.nii.gz is missing": lambda folder: (folder / "regions.nii.gz").unlink(),
    "regions.nii.gz cannot be read": lambda folder: (folder / "regions.nii.gz").write_bytes(b"x" * 100),
    "do not hold the same regions": lambda folder: (folder / "regions.csv").write_text(
        "".join((folder / "regions.csv").read_text().splitlines(keepends=True)[:-1])
    ),
    "has no column": lambda folder: (folder / "regions.csv").write_text("rank,id\n1,1\n"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_regions_are_one_clear_error_and_leave_the_scene_as_it_was(tmp_path, data_folder, message):
    headless = HeadlessScene(tmp_path / "slicer")
    disk = make_case(data_folder, tmp_path, regions=True)
    volume = load_volume(headless.scene, disk.image, "x")
    before = headless.scene.GetNumberOfNodes()
    DAMAGES[message](disk.folder)
    with pytest.raises(InputError, match=message):
        load_case(disk.folder, volume)
    assert headless.scene.GetNumberOfNodes() == before


def test_boxes_are_those_of_scipy():
    rng = np.random.default_rng(4)
    labels = np.where(rng.random((14, 17, 11)) < 0.01, rng.integers(1, 9, (14, 17, 11)), 0)
    expected = {number: box for number, box in enumerate(find_objects(labels), 1) if box is not None}
    assert len(expected) > 4
    assert boxes_of_labels(labels) == expected
    for wrong in (labels.astype(np.uint32) * 400_000_000, labels.astype(np.float32), -labels):
        with pytest.raises(InputError, match="label-values"):
            boxes_of_labels(wrong)


def test_thousands_of_regions_are_looked_up_once_and_then_at_hand_at_once(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder)
    # Every second voxel along each axis a region of its own: as many as the image holds.
    ids = np.zeros(case.disk.labels.shape, dtype=np.uint16)
    places = ids[::2, ::2, ::2]
    places[...] = np.arange(1, places.size + 1).reshape(places.shape)
    assert places.size > 4000
    image = sitk.ReadImage(str(case.disk.image))
    write_some_regions(case.disk.folder, case.disk.labels, case.disk.error, image, ids)
    nodes = load_case(case.disk.folder, case.volume)
    regions = regions_of(nodes)
    assert len(regions) == places.size
    for region in regions[:1000]:
        mask, offset, _matrix = region_mask(nodes, region.id)
        assert mask.shape == (1, 1, 1)
        assert ids[offset[::-1]] == region.id
        assert regions_of(nodes) is regions
    assert calls_of(lambda: region_mask(nodes, regions[0].id)) < 100
    assert allocated_mib(lambda: region_mask(nodes, regions[0].id)) < 0.1


def test_a_slice_view_does_not_show_the_region_volume(tmp_path, data_folder):
    case = loaded_case(tmp_path, data_folder, regions=True)
    other = SliceView(case.headless, "Green", "Coronal")
    for view in (case.view, other):
        assert case.nodes.regions.GetID() not in (
            view.composite.GetBackgroundVolumeID(),
            view.composite.GetForegroundVolumeID(),
            view.composite.GetLabelVolumeID(),
        )
