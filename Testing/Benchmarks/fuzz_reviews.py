"""Reviewers' versions that lie elsewhere and logs that cannot be true, for fuzz.py: report, export, check, merging."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from fuzz import Ended, Maker, Try, export, said_more, segment_hippocampi, unchanged
from fuzz_images import CASE
from fuzz_references import OTHER, elsewhere

COMMANDS = ("report", "export", "check", "merge-reviews")
"""Pages and BIDS are not among them: they hold the model's segmentation alone."""


def prepare(data: Path, folder: Path) -> Maker:
    """Segment two hippocampi, reviewed and edited by one reader, and write down what is said of them."""
    from exchanged_cases import VERDICTS_THERE, edited, judged

    images = [data / "hippocampus" / "images" / f"{name}.nii.gz" for name in (CASE, OTHER)]
    segment_hippocampi(images, folder / "cases", "--include-image")
    shutil.copytree(folder / "cases", folder / "ours")
    judged(folder / "cases" / CASE, "eve", VERDICTS_THERE, "a comment")
    edited(folder / "cases" / CASE, "eve")
    controls = {}
    for command in COMMANDS:
        work = folder / "controls" / command
        for name in ("cases", "ours"):
            shutil.copytree(folder / name, work / name)
        controls[command] = unchanged(_call(command, work), folder)

    def make(rng: random.Random, work: Path) -> Try:
        for name in ("cases", "ours"):
            shutil.copytree(folder / name, work / name)
        case = work / "cases" / CASE
        if rng.random() < 0.35:
            what = _log(rng, case / "review.eve.jsonl")
            accepts = said_more(controls["merge-reviews"])
            return Try("reviews", what, [_call("merge-reviews", work)], ["review.eve", CASE], accepts)
        command = rng.choice(COMMANDS)
        what, more = _version(rng, case, work / "cases" / OTHER)
        accepts = _always if more.pop("unmoved") else said_more(controls[command])
        names = ["segmentation_reviewed.eve", CASE]
        return Try("reviews", f"{command}: {what}", [_call(command, work)], names, accepts, **more)

    return make


def _always(runs: Sequence[Ended]) -> bool:
    return True


def _call(command: str, work: Path) -> list[str]:
    case = str(work / "cases" / CASE)
    if command == "report":
        return ["report", case, "--output", str(work / "report.html"), "--json"]
    if command == "check":
        return ["check", case, "--json"]
    if command == "merge-reviews":
        return ["merge-reviews", str(work / "cases"), "--into", str(work / "ours"), "--json"]
    return export(command, Path(case), work / "output")


def _version(rng: random.Random, case: Path, other: Path) -> tuple[str, dict[str, Any]]:
    """Put the reviewer's version elsewhere, or empty it, which a reader may do."""
    path = case / "segmentation_reviewed.eve.seg.nrrd"
    version = sitk.ReadImage(str(path))
    if rng.random() < 0.15:
        way, changed, same = "without a voxel", with_header(sitk.Image(version) * 0, version), True
    else:
        foreign = sitk.ReadImage(str(other / "segmentation.seg.nrrd"))
        way, changed, same = elsewhere(rng, version, foreign)
        changed = with_header(changed, foreign if "other case" in way else version)
    sitk.WriteImage(changed, str(path), useCompression=True)
    known = on_lattice(changed, version)
    unmoved = same or (known is not None and known <= (on_lattice(version, version) or set()))
    why = "the labelled voxels of a version all lie on voxels of the case: it may be what the reviewer drew"
    right = "without a voxel" in way or "rounded" in way
    return f"version {way}", {"unmoved": unmoved, "right": right, "unknowable": "" if known is None else why}


def with_header(image: sitk.Image, source: sitk.Image, beginning: str = "Segment") -> sitk.Image:
    """Give an image the entries of a header that begin so."""
    for key in source.GetMetaDataKeys():
        if key.startswith(beginning):
            image.SetMetaData(key, source.GetMetaData(key))
    return image


def on_lattice(version: sitk.Image, case: sitk.Image) -> set[tuple[int, ...]] | None:
    """On which voxels of the case the labelled voxels lie, by their places alone; None if some lie on none."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(version) != 0)[:, ::-1]
    direction, spacing = np.reshape(version.GetDirection(), (3, 3)), np.array(version.GetSpacing())
    own, size = np.reshape(case.GetDirection(), (3, 3)), np.array(case.GetSize())
    found = (indices * spacing @ direction.T + version.GetOrigin() - case.GetOrigin()) @ own / case.GetSpacing()
    nearest = np.rint(found).astype(int)
    steps = np.abs(direction.T @ own)
    same = np.allclose(np.abs(steps @ case.GetSpacing()), spacing, rtol=1e-3) and np.allclose(
        steps, np.rint(steps), atol=1e-3
    )
    inside = bool((nearest >= 0).all() and (nearest < size).all()) and np.allclose(found, nearest, atol=0.01)
    return set(map(tuple, nearest.tolist())) if same and inside else None


def _log(rng: random.Random, log: Path) -> str:
    """Lines that the reviewer of this log cannot have written."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    way = rng.choice(["another reviewer", "before the header", "backwards"])
    at = rng.randrange(1, len(lines) - 1)
    if way == "another reviewer":
        lines[at]["reviewer"] = rng.choice(["bob", "Eve", "eve "])
    elif way == "before the header":
        lines.insert(0, lines.pop(at))
    else:
        lines[at]["when"] = rng.choice(["2025-12-31T00:00:00Z", "2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return f"merge-reviews: line {at} of the log is of {way}" if "another" in way else f"merge-reviews: line {at} {way}"
