"""What a data set holds, and what is wrong with it: read once, before a recipe is planned."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.case.segmentation_file import segment_fields
from SegWithUCore.io.volume import orientation_of, read_file
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from .case_reading import SEGMENTATION_SUFFIX, read_case
from .dataset import Case

FOREGROUND_SAMPLE = 10_000
"""Voxels of a case that intensity statistics are taken from: nnU-Net takes as many."""
AIR_HU = -500
"""Below it, a CT shows air; no other modality is stored with such values as a rule."""
RARE_SHARE = 0.1
"""A structure in fewer of the cases is named as rare."""


@dataclass(frozen=True)
class CaseFacts:
    """What was found in one case.

    Attributes:
        case: its files.
        size, spacing_mm: along its own axes x, y, z.
        orientation: letters towards which these run ("RAS").
        label_voxels: voxels of each label value but 0.
        foreground: of each channel, intensities of at most `FOREGROUND_SAMPLE` voxels that some label covers.
        lowest: smallest intensity of each channel.
        whole_numbers: whether every channel holds whole numbers only.
        voxels_sha256: of each channel.
    """

    case: Case
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    label_voxels: Mapping[int, int]
    foreground: tuple[np.ndarray, ...]
    lowest: tuple[float, ...]
    whole_numbers: bool
    voxels_sha256: tuple[str, ...]


@dataclass
class Survey:
    """All cases of a data set.

    Attributes:
        cases: those that can be used.
        unusable: one sentence a case that cannot.
        warnings: one sentence each on what to look at.
        names: of label values, where the data say them.
        channels: names of the channels, where the data say them.
    """

    cases: list[CaseFacts] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)

    @property
    def label_values(self) -> list[int]:
        """All that occur, background first."""
        return [0, *sorted({value for facts in self.cases for value in facts.label_voxels})]


def survey(cases: Sequence[Case], progress: Progress = silent) -> Survey:
    """Read every image and reference of a data set.

    A case that cannot be used does not stop the others.

    Args:
        cases: as `find_cases` gives them.

    Raises:
        InputError: no case can be used.
    """
    found = Survey()
    for number, case in enumerate(cases):
        progress("reading the data set", number / len(cases), case.name)
        try:
            found.cases.append(_facts(case, found))
        except InputError as error:
            found.unusable[case.name] = str(error)
    if not found.cases:
        name, reason = next(iter(found.unusable.items()))
        raise InputError(f"None of {len(cases)} cases can be used; {name}: {reason}")
    _drop_odd_channels(found)
    found.warnings += [*_duplicates(found), *_labels(found), *_orientations(found)]
    return found


def _facts(case: Case, found: Survey) -> CaseFacts:
    read = read_case(case)
    images, labels = read.images, sitk.GetArrayFromImage(read.reference)
    if case.reference.name.endswith(SEGMENTATION_SUFFIX):
        for segment in segment_fields(read_file(case.reference)):
            known = found.names.setdefault(segment.value, segment.name) if segment.name else ""
            if known != segment.name:
                found.warnings.append(
                    f"{case.reference} calls label {segment.value} '{segment.name}', and a case before it '{known}': "
                    "values are what counts, so give a structure the same one in all cases."
                )
    values, counts = np.unique(labels, return_counts=True)
    arrays = [sitk.GetArrayViewFromImage(image) for image in images]
    rng = np.random.default_rng(0)
    covered = np.flatnonzero(labels)
    chosen = covered if len(covered) <= FOREGROUND_SAMPLE else rng.choice(covered, FOREGROUND_SAMPLE, replace=False)
    size, spacing = images[0].GetSize(), images[0].GetSpacing()
    return CaseFacts(
        case=case,
        size=(size[0], size[1], size[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        orientation=orientation_of(images[0]),
        label_voxels={int(v): int(n) for v, n in zip(values, counts, strict=True) if v},
        foreground=tuple(array.reshape(-1)[chosen].astype(np.float64) for array in arrays),
        lowest=tuple(float(array.min()) for array in arrays),
        whole_numbers=all(bool(np.all(array == np.rint(array))) for array in arrays),
        voxels_sha256=tuple(voxel_hash(image) for image in images),
    )


def _drop_odd_channels(found: Survey) -> None:
    """Take cases with another number of channels than most out of the usable ones."""
    usual = Counter(len(facts.case.channels) for facts in found.cases).most_common(1)[0][0]
    for facts in [facts for facts in found.cases if len(facts.case.channels) != usual]:
        found.cases.remove(facts)
        found.unusable[facts.case.name] = (
            f"Case {facts.case.name} has {len(facts.case.channels)} channel(s) and most have {usual}: give it "
            "the same files."
        )


def _duplicates(found: Survey) -> list[str]:
    by_hash: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for facts in found.cases:
        by_hash[facts.voxels_sha256].append(facts.case.name)
    return [
        f"{' and '.join(names[:3])} hold the same image: keep one, or give both to one role."
        for names in by_hash.values()
        if len(names) > 1
    ]


def _labels(found: Survey) -> list[str]:
    said = []
    empty = [facts.case.name for facts in found.cases if not facts.label_voxels]
    if empty:
        said.append(
            f"{len(empty)} case(s), such as {empty[0]}, have an empty reference: right if there is nothing to find, "
            "else a forgotten drawing."
        )
    holding = Counter(value for facts in found.cases for value in facts.label_voxels)
    for value, count in sorted(holding.items()):
        if count < RARE_SHARE * len(found.cases):
            said.append(
                f"Label {value} is in {count} of {len(found.cases)} cases: a slip of the pen, or too rare to be learnt."
            )
    return said


def _orientations(found: Survey) -> list[str]:
    counts = Counter(facts.orientation for facts in found.cases)
    if len(counts) == 1:
        return []
    listed = ", ".join(f"{count} {letters}" for letters, count in counts.most_common(4))
    return [f"Images lie differently ({listed}): they are turned alike before the network sees them."]
