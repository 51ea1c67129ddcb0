"""Damaged and hostile case folders for fuzz.py: what a colleague may send, read by report, worklist, export, merging.

A secret stands outside the case folder; no output may hold it, and no path of the case may lead to it.
"""

import csv
import gzip
import io
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuzz import Ended, Maker, Try, export, segment_hippocampi
from fuzz_images import CASE, as_json

SECRET = "secret-4711-of-another-patient"
GOOD = "hippocampus_003"
EXPORTS = ("export", "export --anonymous", "export --bids")
VALUES: tuple[Any, ...] = (None, float("nan"), 1e308, -1, "", "=1+1", "\x1b[31m", [], {}, True, "../../secret.txt",
                           "/etc/passwd")  # fmt: skip


def prepare(data: Path, folder: Path) -> Maker:
    """Write the bases: two hippocampi segmented by the shipped model, with images, reviewed and edited."""
    from exchanged_cases import VERDICTS_THERE, edited, judged

    images = [data / "hippocampus" / "images" / f"{name}.nii.gz" for name in (CASE, GOOD)]
    segment_hippocampi(images, folder / "cases", "--include-image")
    judged(folder / "cases" / CASE, "Ada", VERDICTS_THERE, "a comment")
    edited(folder / "cases" / CASE, "Ada")

    def make(rng: random.Random, work: Path) -> Try:
        cases = work / "cases"
        shutil.copytree(folder / "cases", cases)
        (work / "secret.txt").write_text(SECRET)
        what = rng.choice([_description, _description, _file, _file, _review, _table, _link])(rng, cases / CASE)
        return _call(rng, work, cases, what, folder / "cases")

    return make


def _call(rng: random.Random, work: Path, cases: Path, what: str, whole: Path) -> Try:
    """One of the commands that read cases; with many cases the good one must come through."""
    output = work / "output"
    one, damaged = rng.random() < 0.4, cases / CASE
    command = rng.choice(["report", "worklist", *EXPORTS, "merge-reviews", "regions", "check"])
    names = [CASE, "case.json", "regions.csv", "review."]
    if command == "report":
        calls = [["report", str(damaged), "--output", str(output / "report.html"), "--json"]]
        output.mkdir()
    elif command == "worklist":
        calls = [["worklist", str(damaged if one else cases), "--output", str(output), "--json"]]
    elif command.startswith("export"):
        calls = [export(command, damaged if one else cases, output)]
    elif command == "merge-reviews":
        shutil.copytree(whole, output)
        calls = [["merge-reviews", str(damaged if one else cases), "--into", str(output), "--json"]]
    elif command == "regions":
        calls = [["regions", str(damaged), "--json"]]
    else:
        calls = [["check", str(damaged if one else cases), "--json"]]
    many = not one and command in {"worklist", *EXPORTS, "check"}
    outputs = [] if many or command in {"merge-reviews", "worklist"} else [output]
    there = _good_is_there(command, output) if many else None
    return Try("cases", f"{command}: {what}", calls, names, _nothing_foreign(output), outputs, many=there)


def _nothing_foreign(output: Path) -> Callable[[Sequence[Ended]], bool]:
    """Accept where no output holds the secret, a formula cell or a bare NaN."""

    def accepts(runs: Sequence[Ended]) -> bool:
        for path in [path for path in output.rglob("*") if path.is_file()] if output.is_dir() else []:
            content = path.read_bytes()
            try:
                inflated = gzip.decompress(content) if path.suffix == ".gz" else content
            except (OSError, EOFError, zlib.error):  # a damaged file was passed on
                return False
            if SECRET.encode() in inflated or b"root:x:0" in inflated or (path.is_symlink()):
                return False
            if path.suffix == ".csv" and _formula(content.decode("utf-8", "replace")):
                return False
            if path.suffix == ".json":
                try:
                    json.loads(content, parse_constant=_refuse)
                except ValueError:
                    return False
        return "\x1b" not in runs[-1].err

    return accepts


def _refuse(literal: str) -> None:
    raise ValueError(literal)


def _formula(text: str) -> bool:
    cells = [cell for row in csv.reader(io.StringIO(text.replace("\r", "\n"))) for cell in row]
    return any(cell.startswith(("=", "+", "-", "@")) and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _good_is_there(command: str, output: Path) -> Callable[[Ended], bool]:
    def there(ended: Ended) -> bool:
        if command == "export":
            return (output / GOOD / "segmentation.nii.gz").is_file()
        if command.startswith("export"):
            return any(output.glob("case-*/segmentation.nii.gz" if "anon" in command else "sub-*003/anat/*dseg.nii.gz"))
        if command == "worklist":
            table = output / "worklist.csv"
            return table.is_file() and GOOD in table.read_text("utf-8")
        return any(GOOD in str(event.get("source")) for event in ended.events)

    return there


def _description(rng: random.Random, case: Path) -> str:
    """A field of case.json replaced, or its text damaged."""
    file = case / "case.json"
    text = file.read_text("utf-8")
    way = rng.choice(["field", "field", "field", "cut", "deep", "list", "nan", "huge"])
    if way == "field":
        from fuzz_models import _changed, _places

        places = [path for path in _places(json.loads(text)) if len(path) < 6]
        block = rng.choice(sorted({path[0] for path in places}))
        path = rng.choice([path for path in places if path[0] == block])
        value = rng.choice([*VALUES, ...])
        _changed(file, path, value)
        return f"case.json {'/'.join(map(str, path))} = {'gone' if value is ... else repr(value)}"
    ways: dict[str, Callable[[], str]] = {
        "cut": lambda: text[: rng.randrange(len(text))],
        "deep": lambda: text.rstrip()[:-1] + ', "deep": ' + "[" * 20000 + "]" * 20000 + "}",
        "list": lambda: "[]",
        "nan": lambda: as_json({**json.loads(text), "created": float("nan")}),
        "huge": lambda: text.rstrip()[:-1] + ', "huge": "' + "x" * (70 << 20) + '"}',
    }
    file.write_text(ways[way](), "utf-8")
    return f"case.json {way}"


FILES = ("case.json", "segmentation.nii.gz", "segmentation.seg.nrrd", "regions.csv", "regions.nii.gz",
         "error_probability.nii.gz", "runner_up.nii.gz", "image.nii.gz", "review.Ada.jsonl")  # fmt: skip


def _file(rng: random.Random, case: Path) -> str:
    """A file cut, damaged, gone, or something else than a file."""
    path = case / rng.choice([name for name in FILES if (case / name).is_file()])
    way = rng.choice(["cut", "bit", "gone", "empty", "folder", "pipe", "device", "other"])
    content = bytearray(path.read_bytes())
    path.unlink()
    if way == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    elif way == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "device":
        path.symlink_to("/dev/zero")
    elif way == "other":
        path.write_bytes(b"This is a letter.\n" * 100)
    return f"{path.name} {way}"


def _review(rng: random.Random, case: Path) -> str:
    """A log with forged lines, or a returned segmentation whose voxels lie elsewhere."""
    log = case / "review.Ada.jsonl"
    lines = log.read_text("utf-8").splitlines()
    way = rng.choice(["nan", "deep", "long", "reviewer", "escape", "detached", "many"])
    if way == "detached":
        secret = case.parents[1] / "secret.txt"
        header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 30 1 1\nencoding: raw\ndata file: "
        (case / "segmentation_reviewed.Bob.seg.nrrd").write_text(f"{header}{secret}\n")
        return "returned segmentation is detached"
    forged = json.loads(lines[1])
    forged |= {
        "nan": {"seconds": float("nan")},
        "reviewer": {"reviewer": "../../Eve"},
        "escape": {"comment": "\x1b]0;x\x07"},
    }.get(way, {})
    text = as_json(forged)
    if way == "deep":
        text = text[:-1] + ', "x": ' + "[" * 5000 + "]" * 5000 + "}"
    if way == "long":
        forged["comment"] = "y" * (20 << 20)
        text = as_json(forged)
    repeated = [text] * (20000 if way == "many" else 1)
    log.write_text("\n".join([*lines, *repeated]) + "\n", "utf-8")
    return f"log with a forged line: {way}"


def _table(rng: random.Random, case: Path) -> str:
    """regions.csv with cells that cannot be true."""
    path = case / "regions.csv"
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    value = rng.choice(["", "nan", "inf", "-1", "1e999", "=1+1", "x" * 200_000, "\x1b[31m"])
    rows[row][column] = value
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), "utf-8")
    return f"regions.csv row {row} column {column} = {value[:20]!r}"


def _link(rng: random.Random, case: Path) -> str:
    """A link or a path out of the case folder."""
    way = rng.choice(["notes", "image", "segmentation", "path", "review"])
    outside = case.parents[1] / "secret.txt"
    if way == "path":
        content = json.loads((case / "case.json").read_text("utf-8"))
        content["input"]["channels"][0]["file"] = rng.choice(
            ["/etc/passwd", "../../secret.txt", "//server/share/image.nii.gz"]
        )
        (case / "image.nii.gz").unlink()
        (case / "case.json").write_text(as_json(content), "utf-8")
        return "path in case.json leads outside"
    names = {"notes": "notes.txt", "image": "image.nii.gz", "segmentation": "segmentation_reviewed.Bob.seg.nrrd",
             "review": "review.Bob.jsonl"}  # fmt: skip
    path = case / names.get(way, "notes.txt")
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    return f"{path.name} is a link out of the case"
