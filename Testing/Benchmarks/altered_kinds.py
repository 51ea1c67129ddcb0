"""Kinds of harm and of harmless change, each in a strength from 0 to 1, to measure the check before a run with.

Each takes the image as float64 and the class of each voxel, (z, y, x), a random generator and a strength; it gives both
changed and, where only a part of the case is left for a fair comparison, that part (`Changed`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Changed(NamedTuple):
    """An image and the class of each voxel.

    Attributes:
        part: of the case before that is left.
        within: whether the part lies on the grid before, which stays.
    """

    image: np.ndarray
    truth: np.ndarray
    part: tuple[slice, ...] | None = None
    within: bool = False


Kind = Callable[[np.ndarray, np.ndarray, np.random.Generator, float], Changed]


def _range(a: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(a, (0.5, 99.5))
    return float(low), float(high - low)


def _axes(a: np.ndarray) -> list[np.ndarray]:
    return list(np.meshgrid(*(np.arange(n) for n in a.shape), indexing="ij"))


def noise(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Rician noise of 2 to 32 % of the contrast."""
    low, contrast = _range(a)
    spread = (0.02 + 0.3 * u**1.5) * contrast
    return Changed(low + np.hypot(a - low + r.normal(0, spread, a.shape), r.normal(0, spread, a.shape)), t)


def shading(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Field with a plane and a saddle, 1.2 to 8 times as bright at one place as at another."""
    direction, saddle = r.normal(size=3), r.normal(size=3)
    x = np.meshgrid(*(np.linspace(-1, 1, n) for n in a.shape), indexing="ij")
    w = sum(d * e for d, e in zip(direction, x, strict=True))
    w = w + 0.5 * sum(s * e * f for s, e, f in zip(saddle, x, x[1:] + x[:1], strict=True))
    return Changed((a - min(0, a.min())) * np.exp(np.log(1.2 + 7 * u**1.5) * ((w - w.min()) / np.ptp(w) - 0.5)), t)


def blur(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Blur by 0.4 to 2 voxels, seldom along fewer axes."""
    return Changed(ndimage.gaussian_filter(a, (0.4 + 1.6 * u) * (r.random(3) > 0.15), mode="nearest"), t)


def sharpen(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Unsharp mask of 0.2 to 2.7."""
    return Changed(a + (0.2 + 2.5 * u) * (a - ndimage.gaussian_filter(a, 0.7 + 0.5 * r.random(), mode="nearest")), t)


def gamma(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Another curve of grey values, power 0.27 to 3.7."""
    low, contrast = _range(a)
    power = np.exp((1 if r.random() < 0.5 else -1) * (0.1 + 1.2 * u))
    return Changed(np.clip((a - low) / contrast, 0, 1) ** power, t)


def slices(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Slices of 1.5 to 5 voxels along a random axis, interpolated or repeated."""
    k, factor = int(r.integers(3)), 1.5 + 3.5 * u
    sigmas, n = [0.0] * 3, a.shape[k]
    sigmas[k] = factor / 2.355
    low = np.moveaxis(ndimage.gaussian_filter(a, sigmas, mode="nearest"), k, 0)
    places = np.arange(0, n, factor)
    places = places + (n - 1 - places[-1]) / 2

    def sampled(volume: np.ndarray, at: np.ndarray, order: int) -> np.ndarray:
        grid = np.meshgrid(at, np.arange(low.shape[1]), np.arange(low.shape[2]), indexing="ij")
        return np.asarray(ndimage.map_coordinates(volume, np.stack(grid), order=order, mode="nearest"))

    thick = sampled(low, places, 1)
    order = 0 if r.random() < 0.3 else 1
    back = np.clip((np.arange(n) - places[0]) / factor, 0, len(places) - 1)
    return Changed(np.moveaxis(sampled(thick, back, order), 0, k), t)


def turn(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Turned by 5 to 40 degrees about a random axis."""
    k, angle = tuple(r.choice(3, 2, replace=False)), (5 + 35 * u) * r.choice((-1, 1))
    image = ndimage.rotate(a, angle, k, reshape=False, order=1, mode="reflect")
    return Changed(image, ndimage.rotate(t, angle, k, reshape=False, order=0, mode="constant"))


def _end(a: np.ndarray, r: np.random.Generator, u: float) -> tuple[slice, ...]:
    k = int(r.integers(3))
    n, s = a.shape[k], [slice(None)] * 3
    gone = round((0.03 + 0.42 * u) * n)
    s[k] = slice(gone, n) if r.random() < 0.5 else slice(0, n - gone)
    return tuple(s)


def cut(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """3 to 45 % is missing at one side."""
    part = _end(a, r, u)
    return Changed(a[part], t[part], part)


def empty_end(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """The same, but filled with the lowest value."""
    part = _end(a, r, u)
    image, truth = np.full_like(a, a.min()), np.zeros_like(t)
    image[part], truth[part] = a[part], t[part]
    return Changed(image, truth, part, True)


def _ball(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float, span: tuple[float, float]) -> Changed:
    low, contrast = _range(a)
    places = np.argwhere(t > 0)
    centre = places[r.integers(len(places))] + r.normal(0, 3, 3)
    distance = np.sqrt(sum((x - m) ** 2 for x, m in zip(_axes(a), centre, strict=True)))
    weight = 1 / (1 + np.exp(2 * (distance - (2 + 5 * u))))
    return Changed(a * (1 - weight) + (low + contrast * r.uniform(*span)) * weight, t)


def lesion(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Bright ball of 2 to 7 voxels in or near a structure."""
    return _ball(a, t, r, u, (0.75, 1.1))


def cyst(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Dark ball of 2 to 7 voxels in or near a structure."""
    return _ball(a, t, r, u, (-0.02, 0.2))


def strip(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Nothing is left beyond 14 to 2 voxels from the structures."""
    coarse = ndimage.zoom(r.normal(size=(4, 4, 4)), [n / 4 for n in a.shape], order=1)
    coarse = coarse[tuple(slice(0, n) for n in a.shape)]
    coarse = np.pad(coarse, [(0, n - k) for n, k in zip(a.shape, coarse.shape, strict=True)], mode="edge")
    outside = ndimage.distance_transform_edt(t == 0) > np.maximum(14 - 12 * u + 2 * coarse, 1.5)
    return Changed(np.where(outside, a.min(), a), t)


def motion(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Two to five shots, all but the middle one moved by about 0.3 to 3.8 voxels."""
    k, spectrum = int(r.integers(3)), np.fft.fftn(a)
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape), indexing="ij")
    parts = int(r.integers(2, 6))
    edges = np.sort(r.uniform(0, 1, parts - 1))
    shot = np.searchsorted(edges, np.fft.fftfreq(a.shape[k]) + 0.5)
    middle, found = np.searchsorted(edges, 0.5), np.zeros_like(spectrum)
    for part in range(parts):
        moved = np.zeros(3) if part == middle else r.normal(0, 0.3 + 3.5 * u, 3)
        phase = np.exp(-2j * np.pi * sum(f * d for f, d in zip(frequencies, moved, strict=True)))
        along = np.broadcast_to((shot == part)[:, None, None], np.moveaxis(a, k, 0).shape)
        found += np.where(np.moveaxis(along, 0, k), spectrum * phase, 0)
    return Changed(np.abs(np.fft.ifftn(found)), t)


def ghost(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Ghost of 5 to 55 % at a half or a third of the field of view."""
    k = int(r.integers(3))
    return Changed(a + (0.05 + 0.5 * u) * np.roll(a, a.shape[k] // int(r.integers(2, 4)), k), t)


def stripes(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """A spike in k-space: waves of 3 to 28 % of the contrast."""
    _, contrast = _range(a)
    waves = r.uniform(0.08, 0.45, 3) * r.choice((-1, 0, 1), 3)
    if not waves.any():
        waves[int(r.integers(3))] = 0.25
    along = sum(x * q for x, q in zip(_axes(a), waves, strict=True))
    return Changed(a + (0.03 + 0.25 * u) * contrast * np.cos(2 * np.pi * along + r.uniform(0, 6)), t)


def contrast(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Another contrast, mixed in with 30 to 100 %: inverted, folded or brightest in the middle."""
    low, spread = _range(a)
    x = np.clip((a - low) / spread, 0, 1)
    y = (1 - x, np.abs(x - r.uniform(0.3, 0.6)), np.sin(np.pi * x))[int(r.integers(3))]
    weight = 0.3 + 0.7 * u
    return Changed((1 - weight) * x + weight * (y - y.min()) / np.ptp(y), t)


def hot(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Ball of 0.2 to 3.2 % of the voxels, 1.5 to 5 times as bright as the brightest voxel."""
    centre = [r.uniform(0, n - 1) for n in a.shape]
    distance = sum((x - m) ** 2 for x, m in zip(_axes(a), centre, strict=True))
    near = distance <= np.quantile(distance, 0.002 + 0.03 * u)
    return Changed(np.where(near, a.max() * (1.5 + 3.5 * r.random()), a), t)


def crop(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """A box smaller by 5 to 30 % along each axis, off centre."""
    part = []
    for n in a.shape:
        gone = round((0.05 + 0.25 * u) * n)
        begin = int(r.integers(0, gone + 1))
        part.append(slice(begin, n - gone + begin))
    return Changed(a[tuple(part)], t[tuple(part)], tuple(part))


def rim(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """A box larger by up to 8 voxels at each side, the image mirrored there."""
    widths = [(int(r.integers(0, 2 + 7 * u)), int(r.integers(0, 2 + 7 * u))) for _ in range(3)]
    return Changed(np.pad(a, widths, mode="reflect"), np.pad(t, widths))


def zoom(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Larger or smaller by 5 to 57 %, as by a wrong spacing in the header."""
    factor = np.exp((0.05 + 0.4 * u) * r.choice((-1, 1)))
    middle = np.array([(n - 1) / 2 for n in a.shape])
    matrix, offset = np.eye(3) / factor, middle - middle / factor
    image = ndimage.affine_transform(a, matrix, offset, order=1, mode="reflect")
    return Changed(image, ndimage.affine_transform(t, matrix, offset, order=0, mode="constant"))


def unit(a: np.ndarray, t: np.ndarray, r: np.random.Generator, u: float) -> Changed:
    """Another unit and offset."""
    return Changed(a * np.exp(r.uniform(-3, 3)) + r.uniform(-500, 500), t)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (noise, shading, blur, sharpen, gamma, slices, turn, cut, empty_end, lesion, cyst, strip, motion, ghost,
                 stripes, contrast, hot, crop, rim, zoom, unit)
}  # fmt: skip
SEEN = ("noise", "shading", "blur", "sharpen", "gamma", "slices", "cut", "strip")
"""Kinds that are also among the alterations of the fit (`OtherAcquisition`), in other strengths and words."""
