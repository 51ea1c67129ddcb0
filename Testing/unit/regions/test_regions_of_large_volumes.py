"""Regions of large volumes: one real prediction over and over, side by side; for their time see Benchmarks."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from segwithu_command import MODEL, real_image

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.io.volume import read_image
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.regions.find_regions import Assessed, FoundRegions, RegionSettings, find_regions

GAP = 11
"""Certain voxels around each copy: more than the smoothing of 2 mm reaches, and than fits into one look."""
EVERY = RegionSettings(most=10_000)
MIB = 2**20


@pytest.fixture(scope="module")
def tile(data_folder: Path) -> Assessed:
    """A prediction of the shipped model in a frame of certain background."""
    model = Model(read_bundle(MODEL), torch.device("cpu"))
    found = predict([read_image(real_image(data_folder))], model)
    assert found.error_probability is not None
    error = np.pad(found.error_probability, GAP)
    names = {label.value: label.name for label in model.bundle.labels}
    return Assessed(error, np.pad(found.classes, GAP), np.pad(found.runner_up, GAP), names, np.eye(4))


def _mosaic(tile: Assessed, copies_zyx: tuple[int, int, int]) -> Assessed:
    return replace(
        tile,
        error_probability=np.tile(tile.error_probability, copies_zyx),
        segmentation=np.tile(tile.segmentation, copies_zyx),
        runner_up=np.tile(tile.runner_up, copies_zyx),
    )


@pytest.fixture(scope="module")
def mosaic(tile: Assessed) -> Assessed:
    """At least 8 million voxels."""
    z, y, x = (-(-length // n) for length, n in zip((200, 200, 200), tile.segmentation.shape, strict=True))
    return _mosaic(tile, (z, y, x))


@contextmanager
def _peak_mib() -> Iterator[list[float]]:
    """Afterwards the list holds how many MiB were in use at most beyond those at the start."""
    peak: list[float] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1] / MIB)
    finally:
        tracemalloc.stop()


def test_thousands_of_regions_are_found_and_ranked(mosaic: Assessed, tile: Assessed) -> None:
    found = find_regions(mosaic, EVERY)
    copies = mosaic.segmentation.size // tile.segmentation.size
    alone = find_regions(tile, EVERY)
    assert len(found.regions) == copies * len(alone.regions) > 350
    assert sorted({region.id for region in found.regions}) == list(range(1, len(found.regions) + 1))
    assert [region.rank for region in found.regions] == list(range(1, len(found.regions) + 1))


def test_every_copy_gets_the_regions_that_it_gets_alone(tile: Assessed) -> None:
    copies = (3, 2, 2)
    alone, many = find_regions(tile, EVERY), find_regions(_mosaic(tile, copies), EVERY)
    assert np.array_equal(_listed(many) > 0, np.tile(_listed(alone) > 0, copies))
    for one, same in zip(_in_size(alone), np.reshape(_in_size(many), (-1, 12, 3)), strict=True):
        np.testing.assert_allclose(same, np.broadcast_to(one, same.shape))
    corner = _listed(many)[tuple(slice(n) for n in tile.segmentation.shape)]
    pairs = set(zip(corner.ravel().tolist(), _listed(alone).ravel().tolist(), strict=True))
    assert len(pairs) == len(alone.regions) + 1, "a region in the corner is one of the lone copy, and the reverse"


def _listed(found: FoundRegions) -> np.ndarray:
    """The labels without the blind sample."""
    return np.where(found.labels > len(found.regions), 0, found.labels)


def _in_size(found: FoundRegions) -> np.ndarray:
    return np.array(sorted((r.expected_wrong_mm3, r.volume_mm3, r.peak) for r in found.regions))


def test_memory_stays_below_that_of_the_maps(mosaic: Assessed) -> None:
    maps = sum(part.nbytes for part in (mosaic.error_probability, mosaic.segmentation, mosaic.runner_up)) / MIB
    with _peak_mib() as peak:
        find_regions(mosaic)
    assert peak[0] < 0.7 * maps, f"{peak[0]:.0f} MiB beside maps of {maps:.0f} MiB"


def test_memory_does_not_grow_with_empty_slices(tile: Assessed) -> None:
    beyond = []
    for between in (0, 800):
        rows = np.pad(tile.error_probability, ((0, between), (0, 0), (0, 0)))
        rows = np.concatenate([rows, tile.error_probability])
        background, other = np.zeros(rows.shape, np.uint8), np.ones(rows.shape, np.uint8)
        assessed = replace(tile, error_probability=rows, segmentation=background, runner_up=other)
        with _peak_mib() as peak:
            found = find_regions(assessed)
        assert len(found.regions) >= 10
        beyond.append(peak[0] - found.labels.nbytes / MIB)
    assert beyond[1] < beyond[0] + 1, beyond
