"""What cannot be opened, for fuzz.py: slices, images, patients and cases as links to nothing, pipes, hidden, deeper.

All that was given must come through, or a word must be said of what was left out.
"""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_phantoms import write_series
from fuzz import Ended, Maker, Try, export, run_command, unchanged
from fuzz_contrasts import SLICES, accepts_whole, of_modality, volume
from fuzz_headers import nifti

PATIENTS = ("anna", "bert", "cleo")
WAYS = ("dangling", "dangling", "dangling", "itself", "loop", "pipe", "hidden", "deeper", "through file", "linked")
"""What becomes of a file or folder; the last is still readable."""


def prepare(data: Path, folder: Path) -> Maker:
    """Write a series, images, patients' series and segmented cases."""
    from segwithu_command import tiny_bundle

    write_series(volume(), folder / "series", change=of_modality("MR"))
    for number, name in enumerate(PATIENTS):
        (folder / "images").mkdir(exist_ok=True)
        (folder / "images" / f"{name}.nii").write_bytes(nifti())
        (folder / "numbered").mkdir(exist_ok=True)
        (folder / "numbered" / f"{name}_0000.nii").write_bytes(nifti())
        write_series(
            volume(), folder / "patients" / name, f"1.2.3.{number}", change=of_modality("MR"), skip=range(3, 10)
        )
    bundle = tiny_bundle(folder / "tiny")
    real = sorted((data / "hippocampus" / "images").glob("*.nii.gz"))[:3]
    call = ["segment", *map(str, real), "--model", str(bundle), "--output", str(folder / "cases"), "--unlike-training"]
    unchanged([*call, "--include-image"], folder)
    controls: dict[str, Ended] = {}

    def make(rng: random.Random, work: Path) -> Try:
        kind = rng.choice(["series", "images", "images", "numbered", "patients", "patients", "cases", "cases"])
        given, output = work / kind, work / "output"
        shutil.copytree(folder / kind, given)
        command = rng.choice(COMMANDS[kind])
        call = _call(command, given, bundle, output)
        if f"{command} {kind}" not in controls:
            controls[f"{command} {kind}"] = run_command(_call(command, given, bundle, work / "control"), 300, work)
        control = controls[f"{command} {kind}"]
        found = sorted(path for path in given.iterdir() if path.is_dir() or kind not in {"patients", "cases"})
        touched = _chosen(rng, found) if kind == "series" else [rng.choice(found)]
        way = rng.choice([*WAYS, "junk"])
        if way == "pipe" and touched[0].is_dir():
            way = "dangling"
        for path in [given / "junk"] if way == "junk" else touched:
            spoil(way, path, work)
        accepts = accepts_whole(control) if kind == "series" else _all_there(command, output, len(found), control)
        names = [given.name, *(path.name for path in touched)]
        what = f"{command}: {len(touched)} of {len(found)} {kind} {way}"
        # A case that is a link leads out of the folder, which exports refuse on purpose.
        right = way == "junk" or (way == "linked" and kind != "cases")
        return Try(
            "links", what, [call], names, accepts, right=right, errors=len(touched), outputs=_atomic(command, output)
        )

    return make


COMMANDS = {
    "series": ["check"], "images": ["check", "segment --each"], "numbered": ["segment"],
    "patients": ["check", "segment --each"], "cases": ["check", "worklist", "export", "export --bids", "export --page"],
}  # fmt: skip


def _call(command: str, given: Path, bundle: Path, output: Path) -> list[str]:
    if command.startswith("segment"):
        options = ["--model", str(bundle), "--output", str(output), "--json"]
        return ["segment", str(given), *command.split()[1:], *options]
    if command.startswith("export"):
        return export(command, given, output)
    return [command, str(given), *([] if command == "check" else ["--output", str(output)]), "--json"]


def _atomic(command: str, output: Path) -> list[Path]:
    """What must stay empty after a failure; the other cases come through a worklist and an export."""
    return [] if command.startswith(("export", "worklist", "segment")) else [output]


def _chosen(rng: random.Random, files: Sequence[Path]) -> list[Path]:
    """Some slices: at the end along the normal, as a shorter series would look, or anywhere."""
    import pydicom

    ordered = sorted(files, key=lambda file: float(pydicom.dcmread(file, specific_tags=["ImagePositionPatient"])
                                                   .ImagePositionPatient[2]))  # fmt: skip
    count = rng.choice([1, 2, 3, SLICES // 2])
    return {"last": ordered[-count:], "first": ordered[:count]}.get(rng.choice(["last", "first", "any"])) or rng.sample(
        ordered, count
    )


def spoil(way: str, path: Path, work: Path) -> None:
    """Make a file or folder what `way` says."""
    store = work / "store"
    store.mkdir(exist_ok=True)
    if way == "junk":
        (path.with_name("notes.txt")).write_text("a letter")
        (path.with_name(".DS_Store")).write_bytes(b"\0\0\0\1Bud1")
        path.with_name(".git").mkdir()
        return
    kept = store / path.name
    path.rename(kept)
    if way == "dangling":
        path.symlink_to(work / "annex" / "objects" / path.name)
    elif way == "itself":
        path.symlink_to(path)
    elif way == "loop":
        path.symlink_to(store / "other")
        if not (store / "other").is_symlink():
            (store / "other").symlink_to(path)
    elif way == "through file":
        path.symlink_to(work / "stdout0" / path.name)
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "hidden":
        kept.rename(path.with_name(f".{path.name}"))
    elif way == "deeper":
        (path.parent / "site2").mkdir(exist_ok=True)
        kept.rename(path.parent / "site2" / path.name)
    else:
        path.symlink_to(kept)


def _all_there(command: str, output: Path, count: int, control: Ended) -> Callable[[Sequence[Ended]], bool]:
    """Accept where all came through, or something was said."""

    def accepts(runs: Sequence[Ended]) -> bool:
        last = runs[-1]
        if last.notes - control.notes:
            return True
        if command == "check":
            return sum(event.get("event") == "checked" for event in last.events) == count
        if command == "worklist":
            return len((output / "worklist.csv").read_text("utf-8").splitlines()) == count + 1
        if command.startswith("segment"):
            return last.event("cohort").get("cases", 1) == count
        pattern = {"export": "*/case.json", "export --bids": "*/anat/*dseg.nii.gz"}.get(command, "*.html")
        return len([path for path in output.glob(pattern) if path.name != "index.html"]) == count

    return accepts
