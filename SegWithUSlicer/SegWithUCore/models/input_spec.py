"""What goes into a network and what its classes mean, as a bundle stores it: `InputSpec` and `Label`."""

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import numpy as np

from ..util.errors import InputError, UsageError
from ..util.strict_json import shown, typed

GOLDEN_ANGLE = 0.381966
"""Share of the colour circle between neighbouring labels, which keeps any number of them apart."""


@dataclass(frozen=True)
class Normalisation:
    """How intensities become network input.

    Attributes:
        kind: "volume" (percentile clip, then zero mean and unit deviation within each volume), "fixed" (clip and
            scale by constants of the training set, as for CT), "range" (two percentiles of each volume become 0 and
            1, nothing is clipped: minimum and maximum with 0 and 100) or "none".
        low, high: percentiles (kinds "volume" and "range") or intensities (kind "fixed") to clip at.
        mean, std: constants of kind "fixed".
        nonzero_only: kind "volume" reads and changes only the voxels that `inside` says.
    """

    kind: str = "volume"
    low: float = 0.5
    high: float = 99.5
    mean: float = 0.0
    std: float = 1.0
    nonzero_only: bool = False

    def __call__(self, array: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        """Normalise one channel, any shape, to float32.

        Args:
            inside: mask of the same shape, see `nonzero_only`.
        """
        if self.kind == "none":
            return array.astype(np.float32)
        masked = self.nonzero_only and inside is not None and bool(inside.any())
        low, high, offset, scale = self._constants(array[inside] if masked else array)
        result = np.empty(array.shape, np.float32)
        masks = _pieces(inside) if masked and inside is not None else repeat(None)
        for source, target, mask in zip(_pieces(array), _pieces(result), masks, strict=False):
            values = source.astype(np.float64)
            if self.kind != "range":
                np.clip(values, low, high, out=values)
            values -= offset
            values /= scale
            target[...] = values if mask is None else np.where(mask, values, source)
        return result

    def _constants(self, array: np.ndarray) -> tuple[float, float, float, float]:
        """Where values are clipped, what is subtracted, and what they are divided by."""
        if self.kind == "fixed":
            return self.low, self.high, self.mean, max(self.std, 1e-8)
        low, high = map(float, np.percentile(array, (self.low, self.high)))
        if high <= low:  # nearly all voxels equal: keep the few that differ
            low, high = float(array.min()), float(array.max())
        if self.kind == "range":
            return low, high, low, max(high - low, 1e-8)
        mean, std = _mean_and_deviation(array, low, high)
        return low, high, mean, max(std, 1e-8)

    def to_json(self) -> dict[str, Any]:
        """Make the `normalisation` block."""
        return {name: value for name, value in asdict(self).items() if name != "nonzero_only" or value}


@dataclass(frozen=True)
class NnunetPreparation:
    """How nnU-Net prepares an image: cut to the box of nonzero voxels, normalise, then resample with splines.

    A network of slices (2D), whose window is one voxel long along z, gets every slice as it lies: z is not resampled.

    Attributes:
        order: of the splines; within the slices where those are resampled apart.
        separate_slices: resample thick slices one by one and take the nearest one across; None if the spacing
            decides (one axis more than 3 times as coarse as the finest).
    """

    order: int = 3
    separate_slices: bool | None = None


@dataclass(frozen=True)
class InputSpec:
    """The input that a network wants.

    Attributes:
        channels: name of each channel in order ("T1", "FLAIR").
        modality: DICOM modality of the channels ("MR", "CT").
        orientation: letters towards which the axes x, y, z run ("RAS"); or, in lower case, which stored axes they
            are, wherever those run ("xyz": as the file has them).
        spacing_mm: working spacing along x, y, z; None, for all or for one axis, leaves each image at its own (thick
            slices, of which a resampling would lose some).
        slice_edge: voxels along the longer edge of a slice (axes x and y) on the working grid, where voxel sizes are
            not known, so that the field of view has to do: slices are enlarged or shrunk as a whole, z stays. None
            leaves them as they are.
        window: window size along x, y, z in voxels.
        normalisation: applied to each channel after cropping and resampling; one for all, or one a channel.
        nnunet: prepare images and place windows as nnU-Net does; None as `preprocessing.network_input` describes.
        precision: in which the network runs, "float32" or "bfloat16" (on CPUs with AVX512_BF16 in half the time).
    """

    channels: tuple[str, ...]
    modality: str
    orientation: str
    spacing_mm: tuple[float | None, float | None, float | None] | None
    window: tuple[int, int, int]
    normalisation: Normalisation | tuple[Normalisation, ...] = Normalisation()
    nnunet: NnunetPreparation | None = None
    precision: str = "float32"
    slice_edge: int | None = None

    @property
    def channel_normalisations(self) -> tuple[Normalisation, ...]:
        """One for each channel."""
        if isinstance(self.normalisation, Normalisation):
            return (self.normalisation,) * len(self.channels)
        return self.normalisation

    @property
    def window_zyx(self) -> tuple[int, int, int]:
        """The window in tensor order."""
        x, y, z = self.window
        return z, y, x

    def __post_init__(self) -> None:
        if self.slice_edge is not None and (self.spacing_mm is not None or self.nnunet is not None):
            raise ValueError("slice_edge goes without spacing_mm and without nnunet")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "InputSpec":
        """Build from the `input` block of a bundle or recipe.

        Raises:
            ValueError: it is none.
        """
        return typed(cls, data)

    def to_json(self) -> dict[str, Any]:
        """Make the `input` block."""
        how = self.normalisation
        each = how.to_json() if isinstance(how, Normalisation) else [entry.to_json() for entry in how]
        data = {**asdict(self), "normalisation": each}
        usual = {"nnunet": None, "precision": "float32", "slice_edge": None}
        return {name: value for name, value in data.items() if name not in usual or value != usual[name]}


HIGHEST_LABEL = 32767
"""Label files are written and read as int16 (uint8 where all values fit); a larger value would come back as another."""


@dataclass(frozen=True)
class Code:
    """A coded concept: scheme ("SCT"), value and meaning, as DICOM writes it."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One class of the segmentation.

    Attributes:
        value: the voxel value in label files; background is 0.
        name: what the user reads.
        color: red, green, blue, 0 to 255.
        category, type, modifier: coded terminology (SNOMED CT as in DICOM CID 7150, 7151 and 2), None if
            there is none.
        laterality: of the side, where `modifier` names the part; None where it is the modifier, or there is no side.
        asked: whether it is measured and reviewed if nobody names structures.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    laterality: Code | None = None
    asked: bool = True

    @property
    def modifiers(self) -> tuple[Code, ...]:
        """Side, then part."""
        return tuple(code for code in (self.laterality, self.modifier) if code is not None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Label":
        """Build from one entry of the `labels` list.

        Raises:
            ValueError: it is none.
        """
        return typed(cls, data)

    def to_json(self) -> dict[str, Any]:
        """One entry of the `labels` list."""
        found = {**asdict(self), "color": list(self.color)}
        usual = {"laterality": None, "asked": True}
        return {name: value for name, value in found.items() if name not in usual or value != usual[name]}


def asked_labels(labels: Sequence[Label], wanted: Sequence[str]) -> list[Label]:
    """Choose the structures to be measured.

    Args:
        labels: of a segmentation, background included.
        wanted: names, or their last words: "hippocampus" is that of both sides; none for what the model proposes.

    Raises:
        UsageError: there is no such structure.
    """
    structures = [label for label in labels if label.value != 0]
    if not wanted:
        return [label for label in structures if label.asked] or structures
    words = [f" {each.strip().lower()}" for each in wanted]
    for asked in words:
        if not any(f" {label.name.lower()}".endswith(asked) for label in structures):
            names = ", ".join(label.name for label in structures)
            raise UsageError(f"There is no structure '{asked.strip():.80}': choose among {names}.")
    return [label for label in structures if any(f" {label.name.lower()}".endswith(asked) for asked in words)]


def terminology_tag(label: Label) -> str | None:
    """Write a label's codes as Slicer stores them: context ~ category ~ type ~ modifier ~ anatomic context ~ ~.

    Slicer has one modifier: where that is the side, the part is that of the anatomic region, which is the type again.
    None if category or type is missing. A code that is not in Slicer's own lists is still written to DICOM as it is.
    """
    if label.category is None or label.type is None:
        return None
    first, part = (*label.modifiers, None, None)[:2]
    kinds, region = (label.category, label.type, first), (label.type if part else None, part)
    return "~".join([_TERMINOLOGY_CONTEXT, *map(_code, kinds), _ANATOMY_CONTEXT, *map(_code, region)])


_TERMINOLOGY_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_ANATOMY_CONTEXT = "Anatomic codes - DICOM master list"


def _code(code: Code | None) -> str:
    parts = ("", "", "") if code is None else (code.scheme, code.value, code.meaning)
    return "^".join(part.replace("^", " ").replace("~", " ") for part in parts)


@dataclass(frozen=True)
class Total:
    """A sum of structures whose volume is stated as a whole.

    Attributes:
        name: what the user reads; that of a side begins with "left " or "right ".
        of: label values of its members.
        category, type, modifier: as of a `Label`.
        is_denominator: whether all volumes of a case are also given in percent of it.
    """

    name: str
    of: tuple[int, ...]
    category: Code | None = None
    type: Code | None = None
    modifier: Code | None = None
    is_denominator: bool = False


_SIDES = {"l": "left", "r": "right"}


def plain_words(text: str) -> str:
    """Lower case, words with a blank between them."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


BOTH_SIDES = ", both sides"
"""What ends the name of a total over the sides that a model finds."""


def without_side(name: str) -> str:
    """Return the name that a structure shares with that of the other side."""
    return " ".join(word for word in name.split() if word not in _SIDES.values())


def side_first(name: str) -> str:
    """Return the plain words of a name with its side, if it has one, in front: "left kidney" of "kidney_left"."""
    words = plain_words(name).split()
    return " ".join(sorted(words, key=lambda word: word not in _SIDES.values()))


def named_classes(text: str, names: Sequence[str]) -> list[int]:
    """Return the classes that a text names: the one of that name, else all whose names have all its words.

    Args:
        names: of all classes, background first.
    """
    found = []
    for part in text.split("+"):
        words = set(plain_words(part).split())
        split = [plain_words(name).split() for name in names]
        exact = [i for i, name in enumerate(split) if i and sorted(name) == sorted(words)]
        found += exact or [i for i, name in enumerate(split) if i and words and words <= set(name)]
    return list(dict.fromkeys(found))


def proposed_structures(segment: str, structures: Sequence[str]) -> list[str]:
    """Return the structures that the name of a segment suggests, whatever its case, marks and order; L is left.

    Example:
        proposed_structures("Hippocampus_L", ["left hippocampus", "right hippocampus"])  # ["left hippocampus"]
    """
    words = [_SIDES.get(word, word) for word in plain_words(segment).split()]
    joined = [name for name in structures if plain_words(name).replace(" ", "") == "".join(words)]  # brain stem
    return joined or [structures[place - 1] for place in named_classes(" ".join(words), ["", *structures])]


def side_pairs(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return what both sides have: by the name without a side, "left ..." and "right ..."."""
    found = set(names)
    pairs = {name.removeprefix("left "): name for name in sorted(found) if name.startswith("left ")}
    return {name: (left, f"right {name}") for name, left in pairs.items() if f"right {name}" in found}


def side_values(names: Mapping[int, str]) -> list[tuple[int, int]]:
    """Return the label values of what both sides have, left and right; `names` by label value."""
    values = {name: value for value, name in names.items()}
    return [(values[left], values[right]) for left, right in side_pairs(values).values()]


def check_label_values(values: Sequence[Any], source: str) -> list[int]:
    """Label values of a model in the order of its classes, each of which a label file can hold.

    Args:
        source: names the file in the message.

    Raises:
        InputError: one is not an integer between 0 and `HIGHEST_LABEL`, background is not first with 0, or two are
            equal.
    """
    are_whole = all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= HIGHEST_LABEL for each in values
    )
    if not are_whole or not values or values[0] != 0 or len(set(values)) < len(values):
        wanted = f"different integers between 0 and {HIGHEST_LABEL}, background first with 0"
        raise InputError(f"{source} has the label values {shown(list(values))}, not {wanted}.", "label-values")
    return list(values)


PIECE_VOXELS = 1 << 24
"""Normalised at once: copies in double precision of a large image would need more memory than all else."""


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    """Cut an array into views of some planes each, or of some voxels of a list."""
    step = max(1, PIECE_VOXELS * len(array) // max(1, array.size))
    return [array[start : start + step] for start in range(0, len(array), step)]


def _mean_and_deviation(array: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation of the clipped values, in double precision."""
    pieces = _pieces(array)
    mean = sum(float(piece.astype(np.float64).clip(low, high).sum()) for piece in pieces) / array.size
    squares = sum(float(np.square(piece.astype(np.float64).clip(low, high) - mean).sum()) for piece in pieces)
    return mean, float(np.sqrt(squares / array.size))


def distinct_color(value: int) -> tuple[int, int, int]:
    """Return a colour for a label value that has none."""
    if value == 0:
        return 0, 0, 0
    red, green, blue = colorsys.hsv_to_rgb((0.1 + (value - 1) * GOLDEN_ANGLE) % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
