"""Two processes that write one target at the same time, for fuzz.py: exports, calibrate, Slicer's workers.

One may win, and then the target holds what that one was asked for; the other must say that it did not.
"""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import SimpleITK as sitk
from fuzz import Ended, Maker, Try, export, segment_hippocampi
from fuzz_images import CASE
from fuzz_references import OTHER

COMMANDS = (*["export", "export --anonymous", "export --bids", "export --page", "worker"] * 2, "calibrate", "segment")
CALIBRATED = (10, 11)
"""Cases of the two tables; fewer than 10 say nothing of whole cases."""


def prepare(data: Path, folder: Path) -> Maker:
    """Segment two hippocampi, and make a tiny model with two tables to calibrate it on."""
    from segwithu_command import MODEL, tiny_bundle

    images = [data / "hippocampus" / "images" / f"{name}.nii.gz" for name in (CASE, OTHER)]
    segment_hippocampi(images, folder / "cases", "--include-image")
    bundle = tiny_bundle(folder / "tiny")
    names = sorted(path.name for path in (data / "hippocampus" / "images").iterdir())[: max(CALIBRATED)]
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for name in names:
            shutil.copy(data / "hippocampus" / kind / name, folder / kind / name)
    for count in CALIBRATED:
        rows = "".join(f"{name.split('.')[0]},calibration,{name}\n" for name in names[:count])
        (folder / f"table{count}.csv").write_text(f"case,role,patient\n{rows}")

    def make(rng: random.Random, work: Path) -> Try:
        command = rng.choice(COMMANDS)
        target = work / "target"
        order = rng.choice([(0, 1), (1, 0)])
        calls = [_call(command, number, folder, images, str(MODEL), str(bundle), target) for number in order]
        accepts = _one_writer(command, order, target)
        names = [target.name, "case"]
        return Try("writers", f"{command}, twice at once", calls, names, accepts, [work / "target"], at_once=True)

    return make


def _call(
    command: str, number: int, folder: Path, images: Sequence[Path], model: str, bundle: str, target: Path
) -> list[str]:
    if command == "worker":
        request = {"request": "segment", "id": 1, "name": "case", "files": [str(images[number])], "model": model,
                   "target": str(target / "case"), "settings": {"device": "cpu"}}  # fmt: skip
        return ["worker", json.dumps(request)]
    if command == "segment":
        return ["segment", str(images[number]), "--name", "case", "--model", model, "--output", str(target), "--json"]
    if command == "calibrate":
        table = f"{folder / f'table{CALIBRATED[number]}.csv'}:calibration"
        return ["calibrate", "--model", bundle, "--add", table, "--output", str(target), "--no-graphs",
                "--allow-seen-cases", "--json"]  # fmt: skip
    return export(command, folder / "cases" / (CASE, OTHER)[number], target)


def _one_writer(command: str, order: Sequence[int], target: Path) -> Callable[[Sequence[Ended]], bool]:
    def accepts(runs: Sequence[Ended]) -> bool:
        winners = [order[run.number] for run in runs if run.code == 0]
        if len(winners) != 1:
            return not winners
        return bool(_holds(command, winners[0], target))

    return accepts


def _holds(command: str, winner: int, target: Path) -> bool:
    """Whether the target is what the winner was asked for, by the sizes of the two images or the numbers of cases."""
    if command == "calibrate":
        return f'"cases": {CALIBRATED[winner]}' in (target / "bundle.json").read_text("utf-8")
    name, other = (CASE, OTHER) if winner == 0 else (OTHER, CASE)
    if command in ("export", "export --bids"):
        names = [path.name for path in target.iterdir() if path.is_dir()]
        return names == [name if command == "export" else f"sub-{name.replace('_', '')}"]
    if command.startswith("export"):  # under other names, which a table beside them explains
        names = target.with_name("target-names.json").read_text("utf-8")
        made = len(list(target.glob("*.html"))) == 2 if "page" in command else (
            sitk.ReadImage(str(next(target.glob("*/segmentation.nii.gz")))).GetSize() == SIZES[winner])  # fmt: skip
        return made and name in names and other not in names
    return bool(sitk.ReadImage(str(target / "case" / "segmentation.nii.gz")).GetSize() == SIZES[winner])


SIZES = ((35, 51, 35), (34, 52, 35))
"""Of the two hippocampi."""
