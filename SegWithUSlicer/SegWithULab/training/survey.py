"""Read a data set once before its training is planned: what it holds, and what is wrong with it.

Recognise cases that are parts of one scan, such as its left and right side, though nothing says so.

Scaling a scan to floats leaves its grey values on a lattice whose step no other scan has. In the hippocampi of the
Medical Segmentation Decathlon the two sides of a scan are cases 2k-1 and 2k, and 54 pairs of neighbouring numbers share
such a step; no two other cases do. Taken for patients, they put one scan into two roles.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.segmentation_file import segment_fields
from SegWithUCore.io.volume import orientation_of, read_file
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, in_turn, silent
from SegWithUCore.util.strict_json import read_json_object

from .case_reading import SEGMENTATION_SUFFIX, Fingerprint, fingerprint, read_case
from .dataset import Case

SAMPLE = 200_000
"""Voxels of an image that its step is found from."""
FEWEST_LEVELS = 16
OFF_LATTICE = 0.1
"""Steps by which a grey value may miss the lattice by rounding."""
EQUAL_STEPS = 1e-5
"""Relative difference; 8e-8 at most in the pairs of the Decathlon."""
FEWEST_PAIRS = 2


def grey_value_step(values: np.ndarray) -> float | None:
    """Return the step of the lattice that grey values lie on; None for few values, or values on no lattice."""
    flat = values.reshape(-1)
    levels = np.unique(flat[:: max(1, flat.size // SAMPLE)].astype(np.float64))
    if len(levels) < FEWEST_LEVELS or not np.isfinite(levels).all():
        return None
    above = levels - levels[0]
    step = float(np.diff(levels).min())
    for count in (8, 64, 512, 4096, len(levels)):  # over longer and longer spans the step gets more exact
        span = float(above[min(count, len(levels)) - 1])
        step = span / round(span / step)
    steps = above / step
    return step if np.abs(steps - np.rint(steps)).max() < OFF_LATTICE else None


def pairs_of_one_scan(steps: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """List pairs of cases with neighbouring numbers in their names that share a step which no other case has.

    Args:
        steps: `grey_value_step` by the name of the case.
    """
    groups: list[list[tuple[float, str]]] = []
    for step, name in sorted((step, name) for name, step in steps.items() if step is not None):
        if groups and step - groups[-1][-1][0] < EQUAL_STEPS * step:
            groups[-1].append((step, name))
        else:
            groups.append([(step, name)])
    pairs = [(group[0][1], group[1][1]) for group in groups if len(group) == 2]
    return sorted((one, other) if one < other else (other, one) for one, other in pairs if _neighbours(one, other))


def _neighbours(one: str, other: str) -> bool:
    """Whether names are equal but for one number, which differs by one."""
    parts, others = (re.split(r"([0-9]+)", name) for name in (one, other))  # numbers at odd places
    if len(parts) != len(others) or parts[::2] != others[::2]:
        return False
    return sum(abs(int(a) - int(b)) for a, b in zip(parts[1::2], others[1::2], strict=True)) == 1


def check_patients(steps: Mapping[str, float | None], patients: Mapping[str, str]) -> None:
    """Refuse cases of different patients that look like parts of one scan.

    Args:
        steps: as for `pairs_of_one_scan`.
        patients: of each case.

    Raises:
        InputError: at least `FEWEST_PAIRS` pairs do.
    """
    pairs = [pair for pair in pairs_of_one_scan(steps) if patients[pair[0]] != patients[pair[1]]]
    if len(pairs) < FEWEST_PAIRS:
        return
    named = ", ".join(f"{one} and {other}" for one, other in pairs[:3])
    found = f"{len(pairs)} pairs of cases look like parts of one scan, such as its two sides ({named}): their "
    found += "numbers are neighbours, and no other case has their step of grey values"
    ways = "give a split table with a column patient, or, if they are different patients, --different-patients"
    raise InputError(f"{found}; {ways}.", "cases-of-one-scan")


SAME, ALIKE = 0.9995, 0.99
"""Correlation of grey values on one grid from which two images are the same, or likely of one patient. Among 217
hippocampi and 160 hearts, 0.991 at most between two phases of a patient and 0.71 between patients, but for one under
two numbers (1.0)."""


def same_images(prints: Sequence[Fingerprint]) -> list[tuple[int, int, float]]:
    """List the images that correlate above `ALIKE` with an earlier one: with which one most, and how much."""
    found, earlier = [], defaultdict[tuple[int, ...], list[int]](list)
    for number, one in enumerate(prints):
        others = ((one.correlation(prints[other]), other) for other in earlier[one.size])
        correlation, other = max(others, default=(0.0, 0))
        if correlation > ALIKE:
            found.append((other, number, correlation))
        earlier[one.size].append(number)
    return found


def check_images(cases: Sequence[Case], prints: Sequence[Fingerprint], note: Callable[[str], None]) -> None:
    """Refuse one image under several patients, and note images of several patients that are much alike.

    Args:
        prints: of each case.

    Raises:
        InputError: names both cases.
    """
    for first, second, correlation in same_images(prints):
        one, other = cases[first], cases[second]
        if one.group == other.group:
            continue
        text = f"{one.channels[0]} and {other.channels[0]} show one image of two patients ({one.group}, {other.group}; "
        text += f"correlation {correlation:.4f}): leave one out, or give both one patient in the column patient."
        if correlation > SAME:
            raise InputError(text, code="cases-of-one-scan")
        note(f"Warning: {text}")


FOREGROUND_SAMPLE = 10_000
"""Voxels of a case that intensity statistics are taken from: nnU-Net takes as many."""
RARE_SHARE = 0.1
"""A structure in a smaller share of the cases is named as rare."""


@dataclass(frozen=True)
class CaseMetadata:
    """What was found in one case.

    Attributes:
        case: its files.
        size, spacing_mm: along its own axes x, y, z.
        orientation: letters towards which these run ("RAS").
        label_voxels: voxels of each label value but 0.
        foreground: of each channel, intensities of at most `FOREGROUND_SAMPLE` voxels that some label covers.
        lowest: smallest intensity of each channel.
        integers: whether every channel holds integers only.
        print: of the image.
        step: of the grey values of the first channel; see `grey_value_step`.
    """

    case: Case
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    label_voxels: Mapping[int, int]
    foreground: tuple[np.ndarray, ...]
    lowest: tuple[float, ...]
    integers: bool
    print: Fingerprint
    step: float | None = None


@dataclass
class Survey:
    """All cases of a data set.

    Attributes:
        cases: those that can be used.
        unusable: the error of each case that cannot, by its name.
        warnings: one message each on what to look at.
        names: of label values, where the data name them.
        channels: names of the channels, where the data name them.
    """

    cases: list[CaseMetadata] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)

    @property
    def label_values(self) -> list[int]:
        """All that occur, background first."""
        return [0, *sorted({value for found in self.cases for value in found.label_voxels})]


def survey(cases: Sequence[Case], progress: Progress = silent) -> Survey:
    """Read every image and reference of a data set; a case that cannot be used does not stop the others.

    Args:
        cases: as `find_cases` gives them.

    Raises:
        InputError: no case can be used.
    """
    found = Survey()
    usual = Counter(len(case.channels) for case in cases).most_common(1)[0][0]
    for case in in_turn(cases, "reading the data set", progress):
        try:
            if len(case.channels) != usual:
                raise InputError(f"{case.name} has {len(case.channels)} channel(s), most have {usual}: give as many.")
            found.cases.append(_read(case, found))
        except InputError as error:
            found.unusable[case.name] = str(error)
    if not found.cases:
        name, reason = next(iter(found.unusable.items()))
        raise InputError(f"None of {len(cases)} cases can be used; {name}: {reason}")
    found.warnings += _warnings(found.cases)
    return found


def _read(case: Case, found: Survey) -> CaseMetadata:
    read = read_case(case)
    images, labels = read.images, sitk.GetArrayFromImage(read.reference)
    if case.reference.name.endswith(SEGMENTATION_SUFFIX):
        for segment in segment_fields(case.reference, read_file(case.reference)):
            known = found.names.setdefault(segment.value, segment.name) if segment.name else ""
            if known != segment.name:
                found.warnings.append(
                    f"{case.reference} calls label {segment.value} '{segment.name}', and an earlier case '{known}': "
                    "the value counts, so give a structure the same value in all cases."
                )
    values, counts = np.unique(labels, return_counts=True)
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    covered = np.flatnonzero(labels)
    if len(covered) > FOREGROUND_SAMPLE:
        covered = np.random.default_rng(0).choice(covered, FOREGROUND_SAMPLE, replace=False)
    return CaseMetadata(
        case=case,
        size=tuple(images[0].GetSize()),
        spacing_mm=tuple(images[0].GetSpacing()),
        orientation=orientation_of(images[0]),
        label_voxels={int(v): int(n) for v, n in zip(values, counts, strict=True) if v},
        foreground=tuple(array.reshape(-1)[covered].astype(np.float64) for array in arrays),
        lowest=tuple(float(array.min()) for array in arrays),
        integers=all(bool(np.all(array == np.rint(array))) for array in arrays),
        print=fingerprint(images),
        step=grey_value_step(arrays[0]),
    )


def _warnings(cases: Sequence[CaseMetadata]) -> list[str]:
    """List equal images, empty references and rare structures."""
    names = [one.case.name for one in cases]
    warnings = [
        f"{names[one]} and {names[two]} hold {'' if correlation > SAME else 'nearly '}the same image: "
        "keep one, or give both to one role."
        for one, two, correlation in same_images([one.print for one in cases])
    ]
    warnings += [
        f"Case {one.case.name} has an empty reference: is the annotation missing?"
        for one in cases
        if not one.label_voxels
    ]
    return warnings + [
        f"Label {value} is in {count} of {len(cases)} cases: an annotation error, or too rare to be learnt."
        for value, count in sorted(Counter(value for one in cases for value in one.label_voxels).items())
        if count < RARE_SHARE * len(cases)
    ]


def add_names(found: Survey, description: Path) -> None:
    """Take over what nnU-Net's `dataset.json` calls labels and channels; nothing where there is no such file."""
    if not description.is_file():
        return
    described = read_json_object(description, "restore it, or remove it")
    labels, channels = described.get("labels"), described.get("channel_names", described.get("modality"))
    if isinstance(labels, dict):
        # nnU-Net's second version writes {"liver": 1}, the first {"1": "liver"}.
        pairs = [(value, name) if isinstance(value, int) else (name, value) for name, value in labels.items()]
        names = {int(value): str(name) for value, name in pairs if str(value).isdecimal()}
        found.names = {**{value: name for value, name in names.items() if value}, **found.names}
    if isinstance(channels, dict) and all(str(key).isdecimal() for key in channels):
        found.channels = [str(channels[key]) for key in sorted(channels, key=int)]
