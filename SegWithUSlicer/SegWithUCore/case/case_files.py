"""Files of a case folder: read here alone, and compared with what `case.json` says of each.

Standard library at file scope: worklists need no more as long as a file is the one that was written.
"""

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..regions.region import Region
from ..util.errors import InputError
from ..util.input_files import read_bounded
from .case_file import CASE_FILE, CHANGED_FILE, FILES, MAP_NAMES, SEGMENTATION_FILE, SEGMENTATION_NRRD_FILE, lost_maps
from .case_folders import DERIVED, REGION_INPUTS, case_contents, checked_file
from .region_files import MAKE_AGAIN, REGION_LABELS_FILE, REGIONS_FILE, parse_regions, regions_hash, regions_text

if TYPE_CHECKING:
    import SimpleITK as sitk

CASE_SCHEMA = Path(__file__).with_name("case.schema.json")
# Keys of a file in `case.json`.
FILE_SHA256, VOXELS_SHA256 = "sha256", "voxels_sha256"
SEGMENTATIONS = (SEGMENTATION_FILE, SEGMENTATION_NRRD_FILE)
_REGION_FILES = (REGIONS_FILE, REGION_LABELS_FILE)


def is_volume(name: str) -> bool:
    """Whether a file of a case holds voxels."""
    return name.endswith((".nii.gz", ".nrrd"))


def named_files(case: Mapping[str, Any]) -> list[str]:
    """List the files without which a case is not whole: all that were written but `DERIVED`."""
    entries = case.get("maps") or {}
    maps = [str(entries[name]["file"]) for name in MAP_NAMES if entries.get(name) is not None]
    regions = _REGION_FILES if case.get("regions") is not None else ()
    found = dict.fromkeys([SEGMENTATION_FILE, *maps, *regions, *file_records(case)])
    return [name for name in found if name not in DERIVED]


def shown_files(folder: Path, case: Mapping[str, Any]) -> list[str]:
    """List those of `named_files` without which a case cannot be reviewed, and all maps that are there."""
    return [name for name in named_files(case) if name not in (*REGION_INPUTS, *lost_maps(folder, case))]


def derived_notes(folder: Path, case: Mapping[str, Any]) -> dict[str, str]:
    """Return a note on each of `DERIVED` that was changed or is lost, by name."""
    records, notes = file_records(case), dict[str, str]()
    for name in DERIVED if SEGMENTATION_FILE in records else ():
        path = folder / name
        if path.is_file() and not is_as_written(folder, case, name):
            notes[name] = f"{path} is not the file that was written, and is not exported: delete it or move it."
        elif name in records and not path.is_file():
            notes[name] = f"{path} is missing: other files of the case hold what it showed."
    return notes


def file_record(path: Path) -> dict[str, str]:
    """Describe a file that was just written for the block `files` of `case.json`; a volume is read whole for it.

    Raises:
        InputError: it is cut or damaged: not every library reports a full disk.
    """
    voxels = {VOXELS_SHA256: _voxels_sha256(path)} if is_volume(path.name) else {}
    return {FILE_SHA256: _file_sha256(path), **voxels}


def file_records(case: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    """Return what `case.json` says of its files, by name; earlier versions knew those of regions alone."""
    if FILES in case:
        return dict(case[FILES])
    old = (case.get("regions") or {}).get("files_sha256")
    return {name: {FILE_SHA256: sha256} for name, sha256 in old.items()} if isinstance(old, Mapping) else {}


def is_as_written(folder: Path, case: Mapping[str, Any], name: str) -> bool:
    """Whether a file of a case has the bytes that were written, but for line ends of tables; reads no voxels."""
    return file_records(case).get(name, {}).get(FILE_SHA256) == _file_sha256(folder / name)


def case_file(folder: Path, case: Mapping[str, Any], name: str) -> Path:
    """Return a file of a case, if it is the one that `case.json` speaks of, or a volume with the same voxels.

    Of a case whose version kept no hashes, volumes must lie where the image lay, and regions are refused; in any other
    case a file without a hash is not its own.

    Args:
        case: the content of its `case.json`.

    Raises:
        InputError: it is missing, is a link that leads elsewhere, was changed, or lies elsewhere than the image.
    """
    path, records = checked_file(folder, name), file_records(case)
    if is_as_written(folder, case, name):
        return path
    record = records.get(name)
    if record is None and (name in _REGION_FILES or SEGMENTATION_FILE in records):
        raise changed_error(folder, name)
    if is_volume(name):
        _check_place(path, folder, case)
    if record is None or (VOXELS_SHA256 in record and _voxels_sha256(path) == record[VOXELS_SHA256]):
        return path
    raise changed_error(folder, name)


def case_volume(folder: Path, case: Mapping[str, Any], name: str, labels: bool = False) -> "sitk.Image":
    """Read a volume of a case, on the grid of its image, if it is the one that `case.json` speaks of.

    Args:
        case: the content of its `case.json`.
        labels: as int16, whatever type the file has.

    Raises:
        InputError: as `case_file`, or it is damaged or holds no labels.
    """
    from ..io.volume import read_file, read_labels

    path = case_file(folder, case, name)
    return read_labels(path) if labels else read_file(path)


def regions_of_case(folder: Path, case: Mapping[str, Any]) -> tuple[tuple[Region, ...], str]:
    """Read the regions of a case, by rank, and the hash that ties reviews to them.

    Raises:
        InputError: as `case_file`, or they are damaged.
    """
    text = regions_text(case_file(folder, case, REGIONS_FILE).parent)
    return parse_regions(text, str(folder / REGIONS_FILE)), regions_hash(text)


def check_files(folder: Path, case: Mapping[str, Any]) -> None:
    """Read all files of a case, but images, what is derived, and what reviewers added.

    Raises:
        InputError: one is missing, damaged, changed, or lies on another grid than the image that was segmented.
    """
    if case["regions"] is not None:
        parse_regions(regions_text(folder), str(folder / REGIONS_FILE))
    for name in dict.fromkeys([*named_files(case), *case_contents(folder).model]):
        if name not in (CASE_FILE, "image.nii.gz", *DERIVED):
            (case_volume if is_volume(name) else case_file)(folder, case, name)


def changed_error(folder: Path, name: str) -> InputError:
    """Make the error of a file that is not the one that `case.json` speaks of, with the ways out."""
    path, check = folder / name, f"segwithu check {shlex.quote(str(folder))}"
    if name in _REGION_FILES:
        return InputError(f"{path} is not the file of {CASE_FILE}: {MAKE_AGAIN}.", "changed-regions")
    ways = "restore it from a copy, or segment the case again with --overwrite"
    if name in SEGMENTATIONS:
        ways = f"keep it as a reviewer's edit by {check} --take-as-edit NAME, or undo that by {check} --restore"
    return InputError(f"{path} is not the file that was written, but saved over or exchanged: {ways}.", CHANGED_FILE)


def _file_sha256(path: Path) -> str:
    if path.suffix == ".csv":  # which may travel by ways that change the ends of lines
        table = read_bounded(path, 16 << 20)
        return hashlib.sha256(table.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _voxels_sha256(path: Path) -> str:
    """`case_image.voxel_hash` of a file, with a piece of it in memory; slope and intercept make another."""
    import numpy as np

    from ..io.image_file import voxel_pieces
    from ..io.volume import stored_header

    stored = stored_header(path)
    found = hashlib.sha256(repr(stored.scale).encode() if stored.is_scaled else b"")
    for piece in voxel_pieces(stored, None):
        found.update(np.frombuffer(piece, stored.number).astype("<f4", copy=False).data)
    return found.hexdigest()


def _check_place(path: Path, folder: Path, case: Mapping[str, Any]) -> None:
    from ..io.volume import read_header
    from .case_image import ELSEWHERE, case_grid

    own, grid = read_header(path).grid, case_grid(folder, case)
    if own is not None and not own.is_at(grid):
        places = f"{own.place} instead of {grid.place}"
        raise InputError(f"{path} lies elsewhere than the image, {places}: segment the case again.", ELSEWHERE)
