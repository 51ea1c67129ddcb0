"""Cases with references, found through a split table or an nnU-Net folder; prepared, and what they look like."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.image_features import ImageFeatures, image_features, random_crop
from SegWithUCore.inference.ood_channels import MINIMUM_CASES, fit_appearance, fit_quality
from SegWithUCore.inference.ood_check import to_model_orientation
from SegWithUCore.inference.preprocessing import assessed_box, network_input, to_working_grid
from SegWithUCore.io.inputs import SUFFIXES, channels_by_case, stem_of
from SegWithUCore.io.volume import extents_mm, reorient
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.models.quality import IMAGE_QUALITY
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError, UsageError, naming
from SegWithUCore.util.folder_entries import EntryKind, entry_kind
from SegWithUCore.util.input_files import path_problem, plain_name, regular_file
from SegWithUCore.util.strict_json import shown

from .case_reading import SEGMENTATION_SUFFIX, SYNTHESISED, ReadCase, case_hash, class_indices, read_case
from .case_reading import Case as Case
from .recipe import Recipe

IMAGE_SUFFIXES = tuple(dict.fromkeys((".nii.gz", ".nii", *SUFFIXES)))
"""Of two files of one name the first of these counts."""


@dataclass(frozen=True)
class LabelMap:
    """A label map in the orientation of the network's input, with one voxel of background around.

    Attributes:
        indices: integers (z, y, x), of `labels`.
        labels: those of the file, and 0.
        spacing_mm: (z, y, x).
        box: first and last voxel of the structures, but for a few strays, (2, 3).
        growths: of structures whose size varies.
    """

    indices: np.ndarray
    labels: list[int]
    spacing_mm: np.ndarray
    box: np.ndarray
    growths: Sequence["Growth"] = ()


@dataclass(frozen=True)
class Growth:
    """A structure of a label map that grows or shrinks when images are synthesised.

    Attributes:
        part: of the map, where it may change.
        distance_mm: from the structure's surface, negative inside, float16, in `part`.
        inside, outside: indices that each voxel of `part` gets in the structure, and out of it.
        range_mm: largest move of the surface inwards (negative) and outwards.
    """

    part: tuple[slice, ...]
    distance_mm: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    range_mm: tuple[float, float]


Numbered = Callable[[Path], Mapping[str, Sequence[Path]]]
"""As `_by_prefix`, once a folder: looking through all files for each case takes the square of their number."""
FirstDraw = Callable[[sitk.Image, np.random.Generator], tuple[LabelMap, ReadCase]]
"""As `Synthesiser.first_draw`."""


@dataclass(frozen=True)
class PreparedCase:
    """One case on the network's working grid.

    Attributes:
        name: as in `Case`.
        image: float32 (channels, z, y, x), normalised.
        labels: int16 (z, y, x).
        spacing_mm: of the working grid, (x, y, z).
        extents_mm: edge lengths of the image as given, turned to the spec's orientation, (x, y, z).
        given_spacing_mm: its spacing, likewise.
        features: how each channel looks as given.
        off_centre_features: the same of a part cut at random, as a region of interest might be placed.
        group: as in `Case`: its patient, or else itself.
        voxels_sha256: see `case_hash`; of the label map, if the image is synthesised.
        label_map: what images are synthesised from; the case itself is one of them. None for a case with an image.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, ...]
    extents_mm: tuple[float, ...]
    given_spacing_mm: tuple[float, ...] = ()
    features: tuple[ImageFeatures, ...] = ()
    off_centre_features: tuple[ImageFeatures, ...] = ()
    group: str = ""
    voxels_sha256: str = ""
    label_map: LabelMap | None = None


def find_cases(source: str, label_maps: bool = False) -> list[Case]:
    """Find the cases that `source` names.

    Args:
        source: `TABLE.csv:ROLE` (columns `case`, `role` and, where several cases come from one patient, `patient`;
            of hearts also `phase`, ED or ES; files in `images/` and `labels/` next to the table, or in the folders that
            its columns `images` and `labels` name, counted from the table; several roles as in
            `TABLE.csv:calibration+select`),
            an nnU-Net data set folder, optionally with `:Tr` or `:Ts` (imagesTr and labelsTr by default),
            or a folder that holds `images/` and `labels/`.
        label_maps: images are to be synthesised from the references, which take their place; none are needed.

    Raises:
        UsageError: the table, role or folder does not exist.
        InputError: an image or reference is missing.
    """
    path, role = _parts(source)
    numbered = cache(_by_prefix)
    if path.is_file():
        return [
            _case(None if label_maps else _folder(path, row, "images"), _folder(path, row, "labels"), row["case"],
                  numbered, row.get("patient") or None, row["role"] == SYNTHESISED, row.get("phase") or "")
            for row in _chosen(path, role)
        ]  # fmt: skip
    if not path.is_dir():
        raise UsageError(f"{path} does not exist: give TABLE.csv:ROLE or an nnU-Net data set folder.", "no-data-set")
    images, labels = path / "images", path / "labels"
    if role or not (labels.is_dir() and (label_maps or images.is_dir())):
        images, labels = path / f"images{role or 'Tr'}", path / f"labels{role or 'Tr'}"
    if not labels.is_dir():
        wanted = "give an nnU-Net data set folder or TABLE.csv:ROLE"
        raise UsageError(f"{path} has no folder {labels.name}: {wanted}.", "no-data-set")
    names = sorted({name for file in labels.iterdir() if (name := _reference_name(file))})
    if not names:
        raise UsageError(f"{labels} contains no label files: check the folder.", "no-data-set")
    return [_case(None if label_maps else images, labels, name, numbered) for name in names]


def find_images(source: str) -> list[tuple[str, tuple[Path, ...]]]:
    """Find the images of the cases that a split table gives a role; references are not looked for.

    Args:
        source: `TABLE.csv:ROLE`, as for `find_cases`.

    Returns:
        Name and files of each case, one a channel.

    Raises:
        UsageError: the table or the role does not exist.
        InputError: an image is missing.
    """
    table, role = _parts(source)
    if not table.is_file():
        raise UsageError(f"{table} does not exist: give TABLE.csv:ROLE, or images.", "no-data-set")
    numbered = cache(_by_prefix)
    rows = _chosen(table, role)
    return [(row["case"], _channels(_folder(table, row, "images"), row["case"], numbered)) for row in rows]


def _parts(source: str) -> tuple[Path, str]:
    """Split a path and a role behind a colon; the colon of "C:/data" does not count."""
    place, _, role = source.rpartition(":")
    return (Path(source), "") if not place or "/" in role or "\\" in role else (Path(place), role)


def roles_of(table: Path) -> list[str]:
    """List the roles that a split table names, in the order in which they turn up.

    Raises:
        InputError: it is not a split table.
    """
    return list(dict.fromkeys(row["role"] for row in _rows(table)))


def _rows(table: Path) -> list[dict[str, str]]:
    rows = read_user_table(table, ("case", "role"), "give a split table, one row per case")
    for row in rows:
        _check_name(table, row["case"])
    twice = [case for case, count in Counter(row["case"] for row in rows).items() if count > 1]
    if twice:
        raise InputError(f"{table} has {len(twice)} case(s) more than once, such as {twice[0]}: keep one row per case.")
    return rows


def _check_name(table: Path, name: str) -> None:
    """Refuse what leads out of the folders of images and references, or that no file can be called.

    Raises:
        InputError: it is not a file name without suffix.
    """
    problem = path_problem(f"{name}_0000{SEGMENTATION_SUFFIX}")
    # The rules of Windows cover those of POSIX: either slash, drives, servers.
    if problem is None and (name in ("", "..") or PureWindowsPath(name).name != name):
        problem = "is not the name of a file"
    if problem:
        wanted = "give a file name without folder and suffix, and other folders in the columns images and labels"
        raise InputError(f"Case {shown(name)} in {table} {problem}: {wanted}.", "unusable-name")


def _folder(table: Path, row: Mapping[str, str], column: str) -> Path:
    """Return the folder that a row names in a column, or the folder of the column's name; both next to the table.

    Raises:
        InputError: no folder can be called so.
    """
    text = row.get(column) or column
    problem = path_problem(text)
    if problem:
        raise InputError(f"{table} names a folder in {column} that {problem}: correct {text[:40]!r}.", "unusable-name")
    return table.parent / text


def _chosen(table: Path, role: str) -> list[dict[str, str]]:
    rows, wanted = _rows(table), role.split("+")
    there = {row["role"] for row in rows}
    missing = next((one for one in wanted if one not in there), None)
    if missing is not None:
        roles = ", ".join(sorted(there))
        raise UsageError(f"{table} has no case with role '{missing}': choose one of {roles}, as in {table.name}:ROLE.")
    return [row for row in rows if row["role"] in wanted]


def _case(
    images: Path | None,
    labels: Path,
    name: str,
    numbered: Numbered,
    patient: str | None = None,
    is_synthesised: bool = False,
    phase: str = "",
) -> Case:
    channels = () if images is None else _channels(images, name, numbered)
    reference = _files(labels, name, (SEGMENTATION_SUFFIX, *IMAGE_SUFFIXES))
    if not reference:
        raise InputError(f"{labels} has no reference of case {name}: expected {name}.nii.gz.")
    if any(path.samefile(reference[0]) for path in channels):
        problem = f"{reference[0]} is given as image and as reference of case {name}"
        raise InputError(f"{problem}: correct the columns images and labels.", "image-as-reference")
    return Case(name, channels or (reference[0],), reference[0], patient, is_synthesised=is_synthesised, phase=phase)


def _by_prefix(folder: Path) -> dict[str, list[Path]]:
    """Group the files of a folder by what stands before the last "_" of their names."""
    found = defaultdict[str, list[Path]](list)
    for file in folder.iterdir() if folder.is_dir() else ():
        found[file.name.rpartition("_")[0]].append(file)
    return found


def _channels(images: Path, name: str, numbered: Numbered) -> tuple[Path, ...]:
    """Return the files of a case, one a channel."""
    whole, first = _files(images, name), _files(images, f"{name}_0000")
    if whole and first:
        raise InputError(f"{whole[0]} and {first[0].name} are both images of case {name}: keep one.")
    if whole:
        return tuple(whole)
    channels = channels_by_case(numbered(images).get(name, ())).get(plain_name(name), {})
    if not channels:
        raise InputError(f"{images} has no image of case {name}: expected {name}.nii.gz or {name}_0000.nii.gz.")
    if sorted(channels) != list(range(len(channels))):
        found = ", ".join(f"{number:04d}" for number in channels)
        raise InputError(f"{images} has the channels {found} of case {name}: complete them.", "other-channels")
    for file in channels.values():
        regular_file(file, "give an image file")
    return tuple(channels[number] for number in sorted(channels))


def _files(folder: Path, stem: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Find the file of that name with the first of some suffixes; links to files are usual in data sets of git-annex.

    Raises:
        InputError: it is a link to nothing or no file, and no other may take its place unsaid.
    """
    paths = (folder / f"{stem}{suffix}" for suffix in suffixes)
    found = [path for path in paths if entry_kind(path) is not EntryKind.ABSENT][:1]
    for path in found:
        regular_file(path, "give an image file")
    return found


def _reference_name(path: Path) -> str | None:
    """Return the name of the case that a reference is of, all of the file's but its suffix; None for other files."""
    return path.name.removesuffix(SEGMENTATION_SUFFIX) if path.name.endswith(SEGMENTATION_SUFFIX) else stem_of(path)


def file_facts(cases: Sequence[Case]) -> list[list[Any]]:
    """Name, size and time of all files of some cases, which are not hashed, for they may have many gigabytes."""
    files = [path for case in cases for path in (*case.channels, case.reference)]
    return [[path.name, path.stat().st_size, int(path.stat().st_mtime)] for path in files]


def check_channels(cases: Sequence[Case], spec: InputSpec) -> None:
    """Check that every case has as many image files as the network wants channels, before any is read.

    Raises:
        InputError: names the first case that has not.
    """
    wanted = spec.channels
    for case in cases:
        if len(case.channels) != len(wanted):
            names = ", ".join(path.name for path in case.channels)
            numbered = ", ".join(f"{case.name}_{number:04d}" for number in range(len(wanted)))
            found = f"Case {case.name} has {len(case.channels)} image file(s) ({names})"
            raise InputError(f"{found}, but the recipe wants {', '.join(wanted)}: give one a channel, as {numbered}.")


def prepare(
    case: Case, spec: InputSpec, label_values: Sequence[int], first_draw: FirstDraw | None = None
) -> PreparedCase:
    """Read a case and bring image and reference onto the working grid.

    Args:
        label_values: values a reference may hold, background included; class c is `label_values[c]`.
        first_draw: synthesises the image from the case, a label map, always the same for a case's name.

    Raises:
        InputError: unreadable files, differing grids or unknown label values.
    """
    read, seed, label_map = read_case(case), zlib.crc32(case.name.encode()), None
    voxels_sha256 = case_hash(read.images)
    if first_draw is not None:
        with naming(str(case.reference)):
            label_map, read = first_draw(read.reference, np.random.default_rng(seed))
    images, reference = read.images, read.reference
    whole = reorient(images[0], spec.orientation)
    box = assessed_box(images, spec)
    array, grid = network_input([box.crop(image) for image in images], spec)
    shown = to_working_grid(box.crop(reference), spec, labels=True)
    views = [sitk.GetArrayViewFromImage(image) for image in images]
    features, cropped = (
        tuple(to_model_orientation(image_features(view), images[0], spec.orientation) for view in shown_views)
        for shown_views in (views, [random_crop(view, seed) for view in views])
    )
    grids = (grid.GetSpacing(), tuple(extents_mm(whole)), whole.GetSpacing())
    classes = class_indices(shown, label_values, case.reference)
    return PreparedCase(case.name, array, classes, *grids, features, cropped, case.group, voxels_sha256, label_map)


def left_right_axis(orientation: str) -> int:
    """Find the tensor axis (z, y, x numbering) along which left and right lie, for an orientation such as "RAS".

    Raises:
        InputError: axes are taken as stored ("xyz"), so left and right are unknown.
    """
    if set(orientation) <= set("xyz"):
        found = f"The recipe takes images as stored (orientation {orientation}), where left and right are unknown"
        raise InputError(f"{found}: set mirror to false, in a block 'synthesis' mirrored to 0.")
    letters = orientation.upper()
    return 2 - next(i for i, letter in enumerate(letters) if letter in "LR")


def ood_reference(train: Sequence[PreparedCase], select: Sequence[PreparedCase], recipe: Recipe) -> dict[str, Any]:
    """Compute the reference of the OOD check: ranges and averages of training cases; limits include validation cases.

    Returns:
        `cases`, `field_of_view_mm` and `spacing_mm` of the training cases; `channels`, for each channel's look, and
        `quality` likewise (None for too few cases); `volumes_mm3`, the volumes of each structure in the references
        (empty for too few cases).
    """
    extents, spacings = np.array([c.extents_mm for c in train]), np.array([c.given_spacing_mm for c in train])
    both, spec = [*train, *select], recipe.input
    # With axes taken as they are stored ("xyz") left and right are unknown.
    mirrored = recipe.backbone_training.mirror and not spec.orientation.islower()
    axis = left_right_axis(spec.orientation) if mirrored else None
    looks, quality = {}, {}
    for number, name in enumerate(spec.channels):
        own = [case.features[number] for case in train]
        others = [case.features[number] for case in select] + [case.off_centre_features[number] for case in both]
        looks[name] = fit_appearance(own, others, axis, spec.channel_normalisations[number].kind == "fixed")
        quality[name] = fit_quality(own, others, axis)
    return {
        "cases": len(train),
        "field_of_view_mm": {"low": extents.min(0).tolist(), "high": extents.max(0).tolist()},
        "spacing_mm": {"low": spacings.min(0).tolist(), "high": spacings.max(0).tolist()},
        "channels": looks,
        IMAGE_QUALITY: quality,
        "volumes_mm3": {
            str(value): _volumes(index, both)
            for index, value in enumerate(recipe.label_values)
            if index > 0 and len(train) >= MINIMUM_CASES
        },
    }


def _volumes(index: int, cases: Sequence[PreparedCase]) -> Mapping[str, float]:
    """Smallest and largest volume of a class in the references, 0 where a case lacks it."""
    volumes = [float((case.labels == index).sum() * np.prod(case.spacing_mm)) for case in cases]
    return {"cases": len(cases), "low": min(volumes), "high": max(volumes)}
