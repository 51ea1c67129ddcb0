"""Which uncertain voxels become regions, how they are split, what kind they are, and where they say they lie."""

from dataclasses import replace

import numpy as np
import pytest
from region_phantoms import NAMES, ORGAN, OTHER, SHAPE, Phantom, ball
from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure, label

from SegWithUCore.regions.find_regions import Assessed, FoundRegions, RegionSettings, find_regions
from SegWithUCore.regions.region import ORDERS, Kind, Shape, in_order

SETTINGS = RegionSettings()


def shell(where: np.ndarray, inside: int = 1, outside: int = 0) -> np.ndarray:
    """Layers of voxels on both sides of the surface of a part."""
    grown = binary_dilation(where, iterations=outside) if outside else where
    shrunk = binary_erosion(where, iterations=inside) if inside else where
    layer: np.ndarray = grown & ~shrunk
    return layer


def voxels_of(found: FoundRegions, number: int) -> np.ndarray:
    inside: np.ndarray = found.labels == number
    return inside


class TestWhatBecomesARegion:
    def test_a_case_without_uncertain_voxels_has_no_regions(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 12), ORGAN)
        found = find_regions(phantom.assessed())
        assert found.regions == ()
        assert found.diffuse_mm3 == {}
        assert found.expected_wrong_mm3 == 0
        assert set(np.unique(found.labels)) <= {0, *(place.id for place in found.blind)}
        assert found.labels.shape == SHAPE

    def test_what_was_not_assessed_is_neither_region_nor_expected_error(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 12), ORGAN)
        phantom.error[:] = -1
        assert find_regions(phantom.assessed()).expected_wrong_mm3 == 0
        phantom.doubt(ball((30, 30, 30), 3), 0.5, 0)
        found = find_regions(phantom.assessed())
        assert found.expected_wrong_mm3 == pytest.approx(0.5 * ball((30, 30, 30), 3).sum())

    def test_a_thin_shell_along_the_whole_boundary_does_not_flood_the_list(self) -> None:
        organ, lesion = ball((30, 30, 30), 22), ball((30, 30, 52), 5)
        phantom = Phantom().predict(organ, ORGAN).doubt(shell(organ), 0.26, 0).doubt(lesion, 0.5, ORGAN)
        phantom.segmentation[lesion] = 0
        found = find_regions(phantom.assessed())
        assert voxels_of(found, found.regions[0].id)[30, 30, 52], "the blob comes first"
        assert len(found.regions) == 1
        assert found.diffuse_mm3["organ"] > 0.8 * 0.26 * (shell(organ) & ~lesion).sum()

    def test_of_too_many_regions_the_largest_are_listed_and_the_rest_is_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 12), ORGAN)
        for number, radius in enumerate((3, 5, 4, 2)):
            phantom.doubt(ball((8 + 14 * number, 8, 8), radius), 0.5, ORGAN)
        every = find_regions(phantom.assessed())
        monkeypatch.setattr("SegWithUCore.regions.find_regions.MOST_REGIONS", 2)
        found = find_regions(phantom.assessed())
        assert (len(every.regions), every.left_out, len(found.regions), found.left_out) == (4, 0, 2, 2)
        assert [each.expected_wrong_mm3 for each in found.regions] == [
            each.expected_wrong_mm3 for each in every.regions[:2]
        ]
        for before, after in zip(every.regions, found.regions, strict=False):
            np.testing.assert_array_equal(voxels_of(found, after.id), voxels_of(every, before.id))
        assert set(np.unique(found.labels)) == {0, 1, 2, *(place.id for place in found.blind)}
        left = sum(each.expected_wrong_mm3 for each in every.regions[2:])
        assert sum(found.diffuse_mm3.values()) == pytest.approx(left + sum(every.diffuse_mm3.values()))
        assert "Of 4 regions" in found.left_out_sentence and "2 are listed" in found.left_out_sentence

    def test_places_of_one_structure_in_one_look_are_one_region_and_a_structure_has_twenty_at_most(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 12), ORGAN)
        for x in (10, 20, 50):
            phantom.doubt(ball((8, 8, x), 3), 0.5, ORGAN)
        phantom.doubt(ball((20, 8, 20), 2), 0.5, OTHER)
        every = find_regions(phantom.assessed(), RegionSettings(extent_mm=0.0))
        assert [len(found.regions) for found in (every, find_regions(phantom.assessed()))] == [4, 3]
        organ, far, other = find_regions(phantom.assessed()).regions
        assert [region.structure for region in (organ, far, other)] == ["organ", "organ", "other"]
        assert organ.size_mm[0] == 17 and organ.id == 1, "the number of the first place in it"
        most = find_regions(phantom.assessed(), RegionSettings(extent_mm=0.0, most=2))
        assert [region.structure for region in most.regions] == ["organ", "organ", "other"]
        lost = every.regions[2].expected_wrong_mm3
        assert sum(most.diffuse_mm3.values()) == pytest.approx(sum(every.diffuse_mm3.values()) + lost)

    def test_a_boundary_is_about_the_structure_that_is_asked(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 12), ORGAN).doubt(ball((30, 30, 30), 3), 0.5, OTHER)
        for asked, about in (((), "organ"), ((ORGAN,), "organ"), ((OTHER,), "other"), ((ORGAN, OTHER), "organ")):
            (region,) = find_regions(replace(phantom.assessed(), asked=asked)).regions
            assert region.structure == about

    def test_the_blind_sample_lies_on_boundaries_that_no_region_has(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 20), 8), ORGAN).predict(ball((30, 30, 50), 8), OTHER)
        phantom.error[:, :, 45:] = -1  # not assessed beyond: the other one is cut
        found = find_regions(phantom.doubt(ball((30, 30, 20), 3), 0.5, 0).assessed())
        assert {place.structure for place in found.blind} == {"organ", "other"}
        for place in found.blind:
            (voxel,) = np.argwhere(found.labels == place.id)
            assert phantom.error[tuple(voxel)] == 0 and place.kind is Kind.BLIND
            around = phantom.segmentation[tuple(slice(at - 1, at + 2) for at in voxel)]
            assert phantom.segmentation[tuple(voxel)] == place.structure_value and len(np.unique(around)) == 2
            assert place.peak_ras_mm == tuple(voxel[::-1].tolist())

    def test_a_thick_patch_of_a_thin_shell_comes_alone(self) -> None:
        organ = ball((30, 30, 30), 20)
        patch = shell(organ, 2, 2) & ball((30, 30, 50), 6)
        phantom = Phantom().predict(organ, ORGAN).doubt(shell(organ), 0.3, 0)
        phantom.doubt(patch & organ, 0.5, 0).doubt(patch & ~organ, 0.5, ORGAN)
        (region,) = find_regions(phantom.assessed()).regions
        assert np.linalg.norm(np.subtract(region.centre_ras_mm, (50, 30, 30))) < 3

    def test_two_balls_that_touch_are_split_at_their_neck(self) -> None:
        left, right = ball((30, 30, 24), 6), ball((30, 30, 36), 6)
        assert label(left | right)[1] == 1
        phantom = Phantom().doubt(left | right, 0.5, ORGAN)
        found = find_regions(phantom.assessed())
        assert len(found.regions) == 2
        ids = {found.labels[30, 30, 24], found.labels[30, 30, 36]}
        assert ids == {1, 2}
        for centre in (24, 36):
            here = voxels_of(found, int(found.labels[30, 30, centre]))
            assert abs(np.argwhere(here)[:, 2].mean() - centre) < 1

    def test_one_ball_stays_one_region(self) -> None:
        for radius in (2, 4, 6, 9, 25):
            assert len(find_regions(Phantom().doubt(ball((30, 30, 30), radius), 0.5, ORGAN).assessed()).regions) == 1

    def test_touching_parts_that_compete_with_other_structures_stay_apart(self) -> None:
        one = ball((30, 30, 30), 6)
        low, high = one.copy(), one.copy()
        low[30:], high[:30] = False, False
        phantom = Phantom().doubt(low, 0.5, ORGAN).doubt(high, 0.5, OTHER)
        assert {region.structure for region in find_regions(phantom.assessed()).regions} == {"organ", "other"}

    def test_a_long_uncertain_sheet_is_cut_into_looks(self) -> None:
        phantom = Phantom(shape=(20, 20, 200))
        sheet = np.zeros((20, 20, 200), bool)
        sheet[9:11, 6:14, 5:195] = True
        rng = np.random.default_rng(0)
        phantom.doubt(sheet, 0.5, ORGAN)
        phantom.error[sheet] += rng.normal(0, 0.05, int(sheet.sum())).astype(np.float32)
        found = find_regions(phantom.assessed())
        assert len(found.regions) >= 190 / SETTINGS.extent_mm
        assert sum(region.volume_mm3 for region in found.regions) > 0.9 * sheet.sum()
        assert all(np.linalg.norm(region.size_mm) <= 2 * SETTINGS.extent_mm for region in found.regions)

    def test_a_volume_that_is_uncertain_everywhere_is_still_finished(self) -> None:
        phantom = Phantom(shape=(30, 30, 30)).doubt(np.ones((30, 30, 30), bool), 0.5, ORGAN)
        found = find_regions(phantom.assessed())
        assert sum(region.volume_mm3 for region in found.regions) + sum(found.diffuse_mm3.values()) > 0
        assert all(region.touches_border for region in found.regions)

    def test_every_uncertain_voxel_is_in_one_region_or_haze(self) -> None:
        rng = np.random.default_rng(3)
        phantom = Phantom(shape=(24, 26, 28))
        phantom.doubt(rng.random((24, 26, 28)) < 0.4, 0.4, ORGAN)
        found = find_regions(phantom.assessed())
        uncertain = phantom.error > SETTINGS.threshold
        assert not found.labels[~uncertain].any()
        left = phantom.error[uncertain & (found.labels == 0)].sum()
        assert sum(found.diffuse_mm3.values()) == pytest.approx(left, rel=1e-5)

    def test_regions_are_connected(self) -> None:
        rng = np.random.default_rng(4)
        noise = rng.random((40, 40, 40)) < 0.25
        found = find_regions(Phantom(shape=(40, 40, 40)).doubt(noise, 0.6, ORGAN).assessed())
        assert len(found.regions) > 5
        for region in found.regions:
            assert label(voxels_of(found, region.id), generate_binary_structure(3, 3))[1] == 1


class TestKinds:
    def test_a_blob_beside_the_organ_that_may_belong_to_it_is_a_missed_part(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 24), 12), ORGAN).doubt(ball((30, 30, 42), 5), 0.6, ORGAN)
        (region,) = find_regions(phantom.assessed()).regions
        assert (region.kind, region.shape, region.structure) == (Kind.MISSED, Shape.BLOB, "organ")
        assert (region.competing[0].truth, region.competing[0].read_as) == ("organ", "background")
        assert region.competing[0].share == pytest.approx(1)

    def test_a_blob_of_the_organ_that_may_be_background_is_an_extra_part(self) -> None:
        extra = ball((30, 30, 42), 5)
        phantom = Phantom().predict(ball((30, 30, 24), 12) | extra, ORGAN).doubt(extra, 0.6, 0)
        (region,) = find_regions(phantom.assessed()).regions
        assert (region.kind, region.structure) == (Kind.EXTRA, "organ")
        assert (region.competing[0].truth, region.competing[0].read_as) == ("background", "organ")

    def test_two_structures_that_compete_are_a_confusion_named_after_what_is_there(self) -> None:
        phantom = Phantom().predict(ball((30, 30, 30), 14), ORGAN).doubt(ball((30, 30, 34), 5), 0.6, OTHER)
        (region,) = find_regions(phantom.assessed()).regions
        assert (region.kind, region.structure, region.structure_value) == (Kind.CONFUSION, "organ", ORGAN)
        assert (region.competing[0].truth, region.competing[0].read_as) == ("other", "organ")

    def test_both_sides_of_a_boundary_are_one_boundary_patch(self) -> None:
        organ = ball((30, 30, 30), 15)
        patch = shell(organ, 1, 1) & ball((30, 30, 45), 7)
        phantom = Phantom().predict(organ, ORGAN)
        phantom.doubt(patch & organ, 0.5, 0).doubt(patch & ~organ, 0.4, ORGAN)
        (region,) = find_regions(phantom.assessed()).regions
        assert (region.kind, region.shape) == (Kind.BOUNDARY, Shape.THIN)
        inside, outside = 0.5 * (patch & organ).sum(), 0.4 * (patch & ~organ).sum()
        shares = {way.read_as: way.share for way in region.competing}
        assert shares["organ"] == pytest.approx(inside / (inside + outside), abs=0.01)
        assert shares["background"] == pytest.approx(outside / (inside + outside), abs=0.01)

    def test_thin_is_judged_by_voxels_where_voxels_are_thick(self) -> None:
        for spacing in ((1, 1, 1), (3, 3, 3), (0.5, 0.5, 0.5)):
            phantom = Phantom(spacing=spacing)
            sheet = np.zeros(SHAPE, bool)
            sheet[29:31, 20:40, 20:40] = True
            regions = find_regions(phantom.doubt(sheet, 0.8, ORGAN).assessed()).regions
            assert regions
            assert {region.shape for region in regions} == {Shape.THIN}, spacing

    def test_only_what_reaches_the_edge_of_the_image_says_so(self) -> None:
        phantom = Phantom().doubt(ball((30, 30, 2), 4), 0.5, ORGAN).doubt(ball((30, 30, 40), 4), 0.5, ORGAN)
        regions = sorted(find_regions(phantom.assessed()).regions, key=lambda region: region.centre_ras_mm)
        assert [region.touches_border for region in regions] == [True, False]


class TestFigures:
    def test_expected_wrong_volume_peak_and_centre_are_those_of_the_voxels(self) -> None:
        phantom = Phantom(spacing=(2.0, 1.0, 0.5)).doubt(ball((60, 30, 15), 5, (2.0, 1.0, 0.5)), 0.5, ORGAN)
        phantom.error[31, 29, 33] = 0.9
        (region,) = find_regions(phantom.assessed()).regions
        inside = phantom.error > 0
        mass = phantom.error[inside].astype(float)
        centre = (np.argwhere(inside) * mass[:, None]).sum(0) / mass.sum() * (2.0, 1.0, 0.5)
        assert region.expected_wrong_mm3 == pytest.approx(mass.sum(), rel=1e-6)
        assert region.volume_mm3 == pytest.approx(inside.sum() * 1.0)
        assert region.peak == pytest.approx(0.9)
        assert region.peak_ras_mm == pytest.approx((16.5, 29.0, 62.0))
        assert region.centre_ras_mm == pytest.approx(tuple(centre[::-1]))
        assert region.size_mm == pytest.approx((10.5, 11.0, 10.0))

    def test_positions_go_through_an_oblique_matrix(self) -> None:
        phantom = Phantom()
        turn = np.array([[0.8, -0.6, 0.0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
        phantom.ijk_to_ras = np.eye(4)
        phantom.ijk_to_ras[:3, :3] = turn @ np.diag([0.7, 1.1, 2.5])
        phantom.ijk_to_ras[:3, 3] = (-90.5, 12.25, 3.0)
        assert phantom.assessed().spacing_zyx == pytest.approx((2.5, 1.1, 0.7))
        phantom.doubt(ball((30, 31, 32), 4), 0.5, ORGAN)
        phantom.error[28, 33, 31] = 0.8
        (region,) = find_regions(phantom.assessed()).regions
        assert region.peak_ras_mm == pytest.approx(tuple((phantom.ijk_to_ras @ (31, 33, 28, 1))[:3]))
        assert region.volume_mm3 == pytest.approx(ball((30, 31, 32), 4).sum() * 0.7 * 1.1 * 2.5)

    @pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
    def test_the_order_of_axes_changes_no_region(self, axes: tuple[int, int, int]) -> None:
        phantom = Phantom(spacing=(1.5, 1.0, 0.8))
        rng = np.random.default_rng(5)
        for centre in rng.uniform(8, 40, (12, 3)):
            phantom.doubt(ball(centre, rng.uniform(2, 6), (1.5, 1.0, 0.8)), rng.uniform(0.3, 0.9), ORGAN)
        plain = find_regions(phantom.assessed())
        turned = Assessed(
            phantom.error.transpose(axes),
            phantom.segmentation.transpose(axes),
            phantom.runner_up.transpose(axes),
            NAMES,
            np.diag([*np.array([1.5, 1.0, 0.8])[list(axes)][::-1], 1.0]),
        )
        again = find_regions(turned)
        assert len(plain.regions) > 3
        wrong = [[region.expected_wrong_mm3 for region in found.regions] for found in (plain, again)]
        assert wrong[0] == pytest.approx(wrong[1])

    def test_finer_voxels_give_the_same_regions(self) -> None:
        def found_at(voxel: float) -> FoundRegions:
            shape = tuple(round(48 / voxel) for _ in range(3))
            phantom = Phantom(shape=shape, spacing=(voxel,) * 3)
            for centre, radius, error in (((20, 20, 14), 6, 0.5), ((20, 20, 26.5), 6, 0.5), ((36, 36, 36), 4, 0.8)):
                phantom.doubt(ball(np.array(centre), radius, (voxel,) * 3, shape), error, ORGAN)
            return find_regions(phantom.assessed())

        coarse, fine = found_at(1.0), found_at(0.5)
        assert len(coarse.regions) == len(fine.regions) == 3
        for one, other in zip(coarse.regions, fine.regions, strict=True):
            assert one.expected_wrong_mm3 == pytest.approx(other.expected_wrong_mm3, rel=0.08)

    def test_ids_do_not_depend_on_the_order_and_ranks_follow_expected_wrong_volume(self) -> None:
        phantom = Phantom().doubt(ball((12, 12, 12), 3), 0.9, ORGAN).doubt(ball((40, 40, 40), 6), 0.4, ORGAN)
        first, second = find_regions(phantom.assessed()).regions
        assert (first.rank, first.id, second.rank, second.id) == (1, 2, 2, 1)
        assert [region.id for region in in_order([first, second], "peak")] == [1, 2]
        assert [region.id for region in in_order([first, second], "position")] == [2, 1]
        assert {tuple(sorted(r.id for r in in_order([first, second], order))) for order in ORDERS} == {(1, 2)}

    def test_percentiles_are_means_weighted_by_error_and_absent_where_not_told(self) -> None:
        phantom = Phantom().doubt(ball((30, 30, 30), 5), 0.4, ORGAN)
        phantom.error[30, 30, 30:36] = 0.8
        model = np.zeros(SHAPE, np.uint8)
        model[30, 30, 30:36] = 90
        plain = phantom.assessed()
        (region,) = find_regions(Assessed(*list(vars(plain).values())[:5], model_percentile=model)).regions
        inside = phantom.error > 0
        assert region.model_percentile == pytest.approx((phantom.error * model)[inside].sum() / phantom.error.sum())
        assert region.data_percentile is None
