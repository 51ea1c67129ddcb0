"""Windows as other scanners and boxes would show them: what must stay true whatever is drawn."""

import numpy as np
import pytest
import torch

from SegWithULab.training.augmentation import WindowSampler, augmentation
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.other_acquisitions import LargerBox, OtherAcquisition

SHAPE, WINDOW = (28, 30, 32), (40, 40, 40)


def ellipsoid() -> PreparedCase:
    """A bright structure in textured tissue that is darker at one end."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    labels = ((z / 0.4) ** 2 + (y / 0.5) ** 2 + (x / 0.3) ** 2 < 1).astype(np.int16)
    texture = np.random.default_rng(0).normal(0, 0.3, SHAPE)
    image = (labels + 0.5 * x + texture).astype(np.float32)
    return PreparedCase("ellipsoid", (image - image.mean())[None] / image.std(), labels, (1.0, 1.0, 1.0), SHAPE[::-1])


def sampler(seed: int = 0) -> WindowSampler:
    return WindowSampler([ellipsoid()], WINDOW, seed, augmentation(2, other_acquisitions=True))


def test_equal_seeds_give_equal_windows_and_others_do_not() -> None:
    first, again, other = sampler().window_of(3, 0), sampler().window_of(3, 0), sampler().window_of(4, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], other["image"])


def test_labels_lie_within_the_field_of_view_and_padding_is_zero() -> None:
    windows = [sampler().window_of(epoch, 0) for epoch in range(40)]
    for window in windows:
        outside = window["valid"] == 0
        assert torch.isfinite(window["image"]).all()
        assert not window["image"][outside.expand_as(window["image"])].any()
        assert set(window["labels"].unique().tolist()) <= {0.0, 1.0}
    cut = [float((window["labels"] * (window["valid"] == 0)).sum()) for window in windows]
    assert max(cut) <= 0.02 * (ellipsoid().labels > 0).sum()  # rounding at the border of a turned window


def test_a_larger_box_shows_tissue_without_labels() -> None:
    plain = WindowSampler([ellipsoid()], WINDOW, 0, None).window_of(0, 0)
    grown = 0
    for seed in range(20):
        larger = LargerBox(1.0)
        larger.set_random_state(seed)
        window = larger(plain)
        assert torch.equal(window["labels"], plain["labels"])
        before = plain["valid"] > 0
        assert torch.equal(window["image"][before], plain["image"][before])
        grown += int((window["valid"] > plain["valid"]).sum())
    assert grown > 0


@pytest.mark.parametrize("seed", range(30))
def test_what_was_cut_or_stripped_is_normalised_as_the_smaller_image_would_be(seed: int) -> None:
    window = WindowSampler([ellipsoid()], WINDOW, 0, None).window_of(0, 0)
    change = OtherAcquisition()
    change.set_random_state(seed)
    changed = change(window)
    if not torch.equal(changed["valid"], window["valid"]):
        inside = changed["image"][changed["valid"] > 0.5]
        assert abs(float(inside.mean())) < 1e-3
        assert abs(float(inside.std()) - 1) < 1e-3
