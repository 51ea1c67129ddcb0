"""Cases with references, found through a split table or an nnU-Net folder."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.image_features import ImageFeatures, image_features, random_crop
from SegWithUCore.inference.ood_check import to_model_orientation
from SegWithUCore.inference.preprocessing import assessed_box, network_input, to_working_grid
from SegWithUCore.io.inputs import SUFFIXES
from SegWithUCore.io.volume import extents_mm, reorient
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.folder_entries import EntryKind, entry_kind
from SegWithUCore.util.input_files import path_problem, regular_file
from SegWithUCore.util.strict_json import shown

from .case_reading import SEGMENTATION_SUFFIX, case_hash, class_indices, read_case
from .case_reading import Case as Case

IMAGE_SUFFIXES = tuple(dict.fromkeys((".nii.gz", ".nii", *SUFFIXES)))
"""Of two files of one name the first of these counts."""


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
        voxels_sha256: see `case_hash`.
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


def find_cases(source: str) -> list[Case]:
    """Find the cases that `source` names.

    Args:
        source: `TABLE.csv:ROLE` (columns `case`, `role` and, where several cases come from one patient, `patient`;
            files in `images/` and `labels/` beside the table, or in the folders that its columns `images` and
            `labels` name, counted from the table; several roles as in `TABLE.csv:calibration+select`),
            an nnU-Net data set folder, optionally with `:Tr` or `:Ts` (imagesTr and labelsTr by default),
            or a folder that holds `images/` and `labels/`.

    Raises:
        UsageError: the table, role or folder does not exist.
        InputError: an image or reference is missing.
    """
    place, _, role = source.rpartition(":")
    if not place or "/" in role or "\\" in role:
        place, role = source, ""
    path = Path(place)
    if path.is_dir() and not role and (path / "images").is_dir() and (path / "labels").is_dir():
        return _cases_of_folders(path / "images", path / "labels")
    if path.is_dir():
        return _nnunet_cases(path, role or "Tr")
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give TABLE.csv:ROLE or an nnU-Net data set folder.")
    return _table_cases(path, role)


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
    place, _, role = source.rpartition(":")
    table = Path(place)
    if not table.is_file():
        raise UsageError(f"{table} does not exist: give TABLE.csv:ROLE, or images.")
    return [(row["case"], _channels(_folder(table, row, "images"), row["case"])) for row in _chosen(table, role)]


def roles_of(table: Path) -> list[str]:
    """List the roles that a split table names, in the order in which they turn up.

    Raises:
        InputError: it is none.
    """
    return list(dict.fromkeys(row["role"] for row in _rows(table)))


def _rows(table: Path) -> list[dict[str, str]]:
    rows = read_user_table(table, ("case", "role"), "give a split table, one row a case")
    for row in rows:
        _check_name(table, row["case"])
    twice = [case for case, count in Counter(row["case"] for row in rows).items() if count > 1]
    if twice:
        raise InputError(f"{table} has {len(twice)} case(s) more than once, such as {twice[0]}: keep one row a case.")
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
        raise InputError(
            f"{table} has the case {shown(name)}, which {problem}: give names of files in images/ and labels/ without "
            "folder and suffix; other folders go into the columns images and labels.",
            code="not-a-case-name",
        )


def _table_cases(table: Path, role: str) -> list[Case]:
    return [
        _case(
            _folder(table, row, "images"),
            _folder(table, row, "labels"),
            row["case"],
            row.get("patient") or None,
        )
        for row in _chosen(table, role)
    ]


def _folder(table: Path, row: Mapping[str, str], column: str) -> Path:
    """Return the folder that a row names in a column, or the folder of the column's name; both beside the table.

    Raises:
        InputError: no folder can be called so.
    """
    text = row.get(column) or column
    problem = path_problem(text)
    if problem:
        raise InputError(
            f"{table} names the folder '{text[:40]}' in the column {column}, which {problem}: correct it.", "not-a-path"
        )
    return table.parent / text


def _chosen(table: Path, role: str) -> list[dict[str, str]]:
    rows, wanted = _rows(table), role.split("+")
    there = {row["role"] for row in rows}
    missing = next((one for one in wanted if one not in there), None)
    if missing is not None:
        roles = ", ".join(sorted(there))
        raise UsageError(f"{table} has no case with role '{missing}': choose one of {roles}, as in {table.name}:ROLE.")
    return [row for row in rows if row["role"] in wanted]


def _nnunet_cases(folder: Path, part: str) -> list[Case]:
    labels = folder / f"labels{part}"
    if not labels.is_dir():
        raise UsageError(f"{folder} has no folder labels{part}: give an nnU-Net data set folder or TABLE.csv:ROLE.")
    return _cases_of_folders(folder / f"images{part}", labels)


def _cases_of_folders(images: Path, labels: Path) -> list[Case]:
    names = sorted({_stem(path) for path in labels.iterdir() if path.name.endswith(IMAGE_SUFFIXES)})
    if not names:
        raise InputError(f"{labels} holds no label files: check the folder.")
    return [_case(images, labels, name) for name in names]


def _case(images: Path, labels: Path, name: str, patient: str | None = None) -> Case:
    channels = _channels(images, name)
    reference = _files(labels, name, (SEGMENTATION_SUFFIX, *IMAGE_SUFFIXES))
    if not reference:
        raise InputError(f"{labels} has no reference of case {name}: expected {name}.nii.gz.")
    if any(path.samefile(reference[0]) for path in channels):
        raise InputError(
            f"{reference[0]} is given as the image and as the reference of case {name}: correct the columns images and "
            "labels.",
            code="image-as-reference",
        )
    return Case(name, channels, reference[0], patient)


def _channels(images: Path, name: str) -> tuple[Path, ...]:
    """Return the files of a case, one a channel."""
    channels = _files(images, name)
    numbered: list[Path] = []
    while not channels and (found := _files(images, f"{name}_{len(numbered):04d}")):
        numbered.append(found[0])
    channels = channels or numbered
    if not channels:
        raise InputError(f"{images} has no image of case {name}: expected {name}.nii.gz or {name}_0000.nii.gz.")
    return tuple(channels)


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


def _stem(path: Path) -> str:
    for suffix in (SEGMENTATION_SUFFIX, *IMAGE_SUFFIXES):
        if path.name.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


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
            raise InputError(
                f"Case {case.name} has {len(case.channels)} image file(s) ({names}) and the recipe wants "
                f"{len(wanted)} channel(s) ({', '.join(wanted)}): give one file a channel, such as {numbered}."
            )


def prepare(case: Case, spec: InputSpec, label_values: Sequence[int]) -> PreparedCase:
    """Read a case and bring image and reference onto the working grid.

    Args:
        label_values: values a reference may hold, background included; class c is `label_values[c]`.

    Raises:
        InputError: unreadable files, differing grids or unknown label values.
    """
    read = read_case(case)
    images, reference = read.images, read.reference
    whole = reorient(images[0], spec.orientation)
    box = assessed_box(images, spec)
    array, grid = network_input([box.crop(image) for image in images], spec)
    shown = to_working_grid(box.crop(reference), spec, labels=True)
    seed = zlib.crc32(case.name.encode())
    views = [sitk.GetArrayViewFromImage(image) for image in images]
    return PreparedCase(
        case.name,
        array,
        class_indices(shown, label_values, case.reference),
        grid.GetSpacing(),
        tuple(extents_mm(whole)),
        whole.GetSpacing(),
        tuple(to_model_orientation(image_features(view), images[0], spec.orientation) for view in views),
        tuple(
            to_model_orientation(image_features(random_crop(view, seed)), images[0], spec.orientation) for view in views
        ),
        case.group,
        case_hash(images),
    )


def left_right_axis(orientation: str) -> int:
    """Find the tensor axis (z, y, x numbering) along which left and right lie, for an orientation such as "RAS".

    Raises:
        InputError: axes are taken as stored ("xyz"), so that nobody knows.
    """
    if set(orientation) <= set("xyz"):
        raise InputError(
            f"The recipe takes images as they are stored (orientation {orientation}), so left and right cannot be "
            "exchanged: set mirror to false."
        )
    letters = orientation.upper()
    return 2 - next(i for i, letter in enumerate(letters) if letter in "LR")
