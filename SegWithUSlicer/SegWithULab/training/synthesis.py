"""Synthesise training images of any contrast from label maps, so that no real image is needed.

Domain randomisation as in Billot et al., SynthSeg, Medical Image Analysis 86:102789 (2023): a label map is rotated,
stretched, warped and mirrored; each label gets a Gaussian of grey values; then come partial volume, blur, thick slices,
a bias field, noise, skull stripping and a gamma curve. Everything follows from the state of a NumPy generator.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.random import Generator
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from SegWithUCore.inference.preprocessing import working_spacing
from SegWithUCore.io.plane_writer import write_image_planes
from SegWithUCore.io.volume import image_on_grid, orientation_of, reorient
from SegWithUCore.models.input_spec import InputSpec, Normalisation
from SegWithUCore.util.csv_files import write_csv
from SegWithUCore.util.errors import InputError, naming
from SegWithUCore.util.progress import Progress, silent

from .case_reading import SYNTHESISED, Case, ReadCase, read_case
from .dataset import Growth, LabelMap, PreparedCase, left_right_axis
from .recipe import GrownLabels, Recipe, Synthesis

STRETCH = 0.1
"""Largest share by which an axis is stretched, or sheared along another."""
TEXTURE_MM = (4.0, 20.0)
"""Distance between the points at which changes of grey value within structures are drawn."""
KNOTS_MM = (18.0, 50.0)
"""Distance between the points at which an elastic field is drawn."""
ALIKE, EMPTY, WITHOUT_PARTLY = 0.85, 0.6, 0.6
"""Shares of the draws with equal sides, with an empty background, and (of stripped ones) without `stripped_partly`."""
LARGEST_RIM = 2
"""Voxels around the stripped brain that stay at most."""
PARTS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 4
"""Where the label map is read for partial volume, in voxels of the image's grid from a voxel's centre."""
FULL_SCALE, BRIGHTEST = 1000, 1.2
"""Value in a file of the 99.5th percentile, and what larger grey values are cut to, as its multiple."""
UNIT = Normalisation("range", 0, 99.5)


class Synthesiser:
    """Synthesises images with the classes of a model.

        Synthesiser(recipe.synthesis, recipe.input, recipe.label_values).volume(labels, np.random.default_rng(1))

    Args:
        settings: of the recipe.
        spec: the network's input, with one channel.
        values: label values of the model's classes, background first.
        window: of a training, (z, y, x); None takes that of `spec`.

    Raises:
        InputError: the settings do not fit the model's classes or its input.
    """

    def __init__(
        self, settings: Synthesis, spec: InputSpec, values: Sequence[int], window: Sequence[int] | None = None
    ) -> None:
        self.settings, self.spec, self.values = settings, spec, np.array(values, np.int16)
        self.window = tuple(window or spec.window_zyx)
        self.axis = left_right_axis(spec.orientation) if settings.mirrored else None
        self.left_of = {right: left for left, right in settings.sides}
        self.partner = {**dict(settings.sides), **self.left_of}
        named = {int(value): labels for value, labels in settings.classes.items()}
        self.class_of = {label: values.index(value) for value in values[1:] for label in named.get(value, ())}
        once = len(self.class_of) == sum(map(len, named.values())) and len(self.partner) == 2 * len(settings.sides)
        if not once or set(named) != set(values[1:]) or len(spec.channels) > 1:
            raise _lacking("labels in 'classes' for each label value of the model, no label twice, and one channel")
        free_of_scale = spec.channel_normalisations[0].kind in ("volume", "range")
        if not free_of_scale or spec.nnunet is not None or spec.slice_edge is not None:
            raise _lacking("an input of kind 'volume' or 'range', not 'nnunet' and 'slice_edge': images have no unit")

    def label_map(self, image: sitk.Image) -> LabelMap:
        """Prepare a label map, int16, for drawing windows."""
        turned = reorient(image, self.spec.orientation)
        array = np.pad(sitk.GetArrayViewFromImage(turned), 1)
        labels = np.unique(array)
        structures = np.argwhere(np.isin(array, list(self.class_of)))
        if not len(structures):
            shown = ", ".join(map(str, labels[:8]))
            found = f"A label map holds none of the labels in 'classes' of the block 'synthesis' (found: {shown})"
            raise InputError(f"{found}: correct the recipe or the cases.", "unknown-label")
        box = np.percentile(structures, (0.5, 99.5), 0)
        indices = np.searchsorted(labels, array).astype(np.uint8 if len(labels) <= 256 else np.int16)
        spacing = np.array(turned.GetSpacing()[::-1])
        grown = [_growth(array, indices, spacing, each) for each in self.settings.grown]
        return LabelMap(indices, labels.tolist(), spacing, box, [each for each in grown if each is not None])

    def volume(self, image: sitk.Image, generator: Generator) -> ReadCase:
        """Synthesise an image and its reference on the grid of a label map."""
        given, turned = self.label_map(image), reorient(image, self.spec.orientation)
        shape = turned.GetSize()[::-1]
        grey, classes, _ = self._draw(given, shape, given.spacing_mm, (np.array(shape) + 1) / 2, generator)
        arrays = (np.rint(grey.numpy() * FULL_SCALE).astype(np.int16), self.values[classes.numpy()])
        voxels, reference = (reorient(image_on_grid(array, turned), orientation_of(image)) for array in arrays)
        return ReadCase([voxels], reference)

    def first_draw(self, image: sitk.Image, generator: Generator) -> tuple[LabelMap, ReadCase]:
        """Return what windows are synthesised from, and one volume, for `prepare`."""
        return self.label_map(image), self.volume(image, generator)

    def draw(self, case: PreparedCase, generator: Generator) -> dict[str, Tensor]:
        """Synthesise the window of a case that `prepare` gave its label map; as `ScaledWindows.draw`.

        The window holds the box of the structures or lies in it, but for `shift_mm`.
        """
        given = case.label_map
        assert given is not None
        spacing = np.array(working_spacing(self.spec, given.spacing_mm[::-1].tolist()))[::-1]
        half = np.array(self.window) * spacing / given.spacing_mm / 2
        centre = generator.uniform(*np.sort([given.box[0] + half, given.box[1] - half], 0))
        image, classes, valid = self._draw(given, self.window, spacing, centre, generator)
        normalised = torch.from_numpy(self.spec.channel_normalisations[0](image.numpy(), image.numpy() > 0))
        padded = normalised * valid  # padding is exactly zero, as when segmenting
        return {"image": padded[None], "labels": classes[None].float(), "valid": valid[None].float()}

    def _draw(
        self, given: LabelMap, shape: Sequence[int], spacing_mm: np.ndarray, centre: np.ndarray, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Synthesise on a grid whose centre lies at voxel `centre` of the map, but for the shift.

        Returns:
            Grey values, float32 from 0 to `BRIGHTEST`; classes, int64; whether a voxel lies within the map.
        """
        given = _regrown(given, generator)
        mirrored = bool(generator.random() < self.settings.mirrored)
        places = self._places(shape, spacing_mm, mirrored, generator)
        for axis, place in enumerate(places):
            place.div_(given.spacing_mm[axis]).add_(centre[axis])
        last = torch.tensor(given.indices.shape)[:, None, None, None] - 1.5
        valid = ((places > 0.5) & (places < last)).all(0)
        mean, deviation = (torch.from_numpy(each).float() for each in self._grey_values(given.labels, generator))
        parts = [mean[_indices(given, places, part)] for part in PARTS * spacing_mm / given.spacing_mm]
        found = _indices(given, places, np.zeros(3))
        image = torch.stack(parts).mean(0) + deviation[found] * _normal(shape, generator)
        if self.settings.texture:
            knots = np.ceil(np.array(shape) * spacing_mm / generator.uniform(*TEXTURE_MM)).astype(int) + 1
            strength = torch.from_numpy(generator.uniform(0, self.settings.texture, len(given.labels))).float()
            strength[given.labels.index(0)] = 0
            image += strength[found] * _grown(_normal((1, *knots), generator), shape)[0]
        shown = [self.partner.get(label, label) if mirrored else label for label in given.labels]
        classes = torch.tensor([self.class_of.get(label, 0) for label in shown])[found]
        brain = self._brain(given.labels, found, generator)
        image = self._acquired(image, spacing_mm, generator)
        if brain.any():
            image, classes = (image - image[brain].min()) * brain, classes * brain
        image = torch.from_numpy(UNIT(image.numpy())).clamp_(0, BRIGHTEST)
        return image ** math.exp(generator.normal(0, 0.25)), classes, valid

    def _places(self, shape: Sequence[int], spacing_mm: np.ndarray, mirrored: bool, generator: Generator) -> Tensor:
        """Where each voxel of the image lies, (3, z, y, x) in mm from the point where its centre lies unmoved."""
        settings = self.settings
        angles = generator.uniform(-settings.rotation_degrees, settings.rotation_degrees, 3)
        stretch = np.eye(3) + generator.uniform(-STRETCH, STRETCH, (3, 3))
        matrix = Rotation.from_euler("zyx", angles, degrees=True).as_matrix() @ stretch * spacing_mm
        if mirrored:
            matrix[:, self.axis] *= -1
        knots = np.ceil(np.array(shape) * spacing_mm / generator.uniform(*KNOTS_MM)).astype(int) + 1
        places = _grown(_normal((3, *knots), generator) * generator.uniform(0, settings.elastic_mm), shape)
        shift = generator.uniform(-settings.shift_mm, settings.shift_mm, 3)
        steps = [torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in shape]
        for axis, place in enumerate(places):
            z, y, x = (step * factor for step, factor in zip(steps, matrix[axis].tolist(), strict=True))
            place += z[:, None, None] + y[:, None] + (x + shift[axis])
        return places

    def _grey_values(self, labels: Sequence[int], generator: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw mean and standard deviation of the grey values of each label."""
        known, count = self.settings.grey_values, len(labels)
        mean, deviation = generator.uniform(0.05, 1, count), generator.uniform(0, 0.12, count)
        lefts = [self.left_of.get(label, label) for label in labels]
        like = [labels.index(left if left in labels else label) for left, label in zip(lefts, labels, strict=True)]
        if generator.random() < ALIKE:
            mean, deviation = mean[like], deviation[like]
        if generator.random() < EMPTY:
            mean[labels.index(0)] = deviation[labels.index(0)] = 0
        if known and generator.random() < self.settings.grey_values_share:
            value = np.array([known.get(str(left), np.nan) for left in lefts])
            pivot, contrast = 0.85 * max(known.values()), generator.uniform(0.7, 1.3)
            value = pivot + (value - pivot) * contrast + generator.normal(0, 0.03, count)[like]
            value = np.maximum(0.02, value) * generator.uniform(0.6, 1)
            mean, unknown = np.where(np.isnan(value), mean, value), np.isnan(value)
            deviation = np.where(unknown, deviation, generator.uniform(0.01, 0.07, count)[like])
        return mean, deviation

    def _brain(self, labels: Sequence[int], found: Tensor, generator: Generator) -> Tensor:
        """Return which voxels a skull stripping leaves, or no voxel for an image that is not stripped."""
        kept = set(self.settings.stripped_to) if generator.random() < self.settings.stripped else set()
        if kept and generator.random() >= WITHOUT_PARTLY:
            kept |= set(self.settings.stripped_partly)
        brain, rim = torch.tensor([label in kept for label in labels])[found], int(generator.integers(LARGEST_RIM + 1))
        return functional.max_pool3d(brain[None].float(), 2 * rim + 1, 1, rim)[0] > 0

    def _acquired(self, image: Tensor, spacing_mm: np.ndarray, generator: Generator) -> Tensor:
        """Blur, thicken slices, and add a bias field and noise."""
        shape, low, axis = tuple(image.shape), list(image.shape), int(generator.integers(3))
        sigmas, thickest = generator.uniform(0.2, 0.8, 3), self.settings.slice_mm / spacing_mm[axis]  # in voxels
        if generator.random() < self.settings.thick_slices and thickest > 1.2:
            thick = generator.uniform(1.2, thickest)
            sigmas[axis] = math.hypot(sigmas[axis], 0.4 * thick)
            low[axis] = min(low[axis], max(8, round(low[axis] / thick)))
        image = torch.from_numpy(gaussian_filter(image.numpy(), sigmas, truncate=2.0))
        image = functional.interpolate(image[None, None], low, mode="trilinear")
        knots = int(generator.integers(2, 6))
        bias = _grown(_normal((1, knots, knots, knots), generator) * generator.uniform(0, 0.35), shape)[0]
        noise = _normal(shape, generator) * generator.uniform(0, 0.05)
        return functional.interpolate(image, shape, mode="trilinear")[0, 0] * bias.exp() + noise


def _lacking(wanted: str) -> InputError:
    return InputError(f"The block 'synthesis' needs {wanted}.", "wrong-recipe")


def synthesiser_of(recipe: Recipe, window: Sequence[int] | None = None) -> Synthesiser | None:
    """Return what synthesises the images of a recipe; None if it trains on images."""
    settings = recipe.synthesis
    return None if settings is None else Synthesiser(settings, recipe.input, recipe.label_values, window)


def write_images(
    synthesiser: Synthesiser, cases: Sequence[Case], count: int, seed: int, folder: Path, progress: Progress = silent
) -> None:
    """Write `count` images of each label map with references, and a split table whose patients are the maps."""
    rows = []
    for number in range(len(cases) * count):
        case, name = cases[number // count], f"{cases[number // count].name}_{number % count + 1:03d}"
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        with naming(str(case.reference)):
            made = synthesiser.volume(read_case(case).reference, generator)
        for part, image in (("images", made.images[0]), ("labels", made.reference)):
            (folder / part).mkdir(exist_ok=True)
            write_image_planes(folder / part / f"{name}.nii.gz", image)
        rows.append([name, SYNTHESISED, case.group])
        progress("drawing images", len(rows) / (len(cases) * count), name)
    write_csv(folder / "split.csv", ["case", "role", "patient"], rows)


def _growth(labels: np.ndarray, indices: np.ndarray, spacing_mm: np.ndarray, grown: GrownLabels) -> Growth | None:
    """Prepare how a structure grows or shrinks in a label map; None if the map lacks it."""
    inner = np.isin(labels, list(grown.labels))
    if not inner.any():
        return None
    places = np.argwhere(inner)
    reach = np.ceil(grown.mm[1] / spacing_mm).astype(int) + 1
    first, last = np.maximum(places.min(0) - reach, 0), places.max(0) + reach + 1
    part = tuple(slice(start, stop) for start, stop in zip(first, last, strict=True))
    inner, near = inner[part], indices[part]
    outwards, to_inside = distance_transform_edt(~inner, spacing_mm, return_indices=True)
    inwards, to_outside = distance_transform_edt(inner, spacing_mm, return_indices=True)
    inside = np.where(inner | np.isin(labels[part], list(grown.into)), near[tuple(to_inside)], near)
    distance = (outwards - inwards).astype(np.float16)
    return Growth(part, distance, inside, near[tuple(to_outside)], (float(grown.mm[0]), float(grown.mm[1])))


def _regrown(given: LabelMap, generator: Generator) -> LabelMap:
    """Move the surface of each structure that grows or shrinks; half of the draws leave one as it is."""
    indices = given.indices
    for growth in given.growths:
        move = generator.uniform(*growth.range_mm) if generator.random() < 0.5 else 0.0
        if move:
            indices = indices.copy() if indices is given.indices else indices
            part, inner = indices[growth.part], growth.distance_mm <= 0
            part[...] = np.where(growth.distance_mm > move, np.where(inner, growth.outside, part), growth.inside)
    return replace(given, indices=indices)


def _normal(shape: Sequence[int], generator: Generator) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(shape), np.float32))


def _grown(fields: Tensor, shape: Sequence[int]) -> Tensor:
    """Bring small fields (fields, z, y, x) to the full grid."""
    return functional.interpolate(fields[None], tuple(shape), mode="trilinear", align_corners=True)[0]


def _indices(given: LabelMap, places: Tensor, offset: np.ndarray) -> Tensor:
    """Return the index of the map's nearest voxel at each place, int64; beyond its faces that of background."""
    flat = torch.zeros(places.shape[1:], dtype=torch.int32)
    for place, size, by in zip(places, given.indices.shape, offset, strict=True):
        flat.mul_(size).add_((place + (by + 0.5)).clamp_(0, size - 1).to(torch.int32))
    return torch.from_numpy(given.indices.reshape(-1))[flat].long()
