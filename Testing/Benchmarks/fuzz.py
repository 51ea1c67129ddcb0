"""Feed broken and hostile files to the real command, and count what it does with them.

    python Testing/Benchmarks/fuzz.py --tries 2000 --seed 1 [--only images dicom models cases] [--output NAME]

Each try damages one valid input (an image, a DICOM series, a model bundle, an nnU-Net result folder, a case folder) and
runs `segwithu` on it, in a process of its own forked from one that has imported everything. What may come of it:

clear       refused: exit code 1 or 2, one sentence that names the file, nothing left behind
unharmed    exit code 0 and the very result of the undamaged input, or a result with a warning that names the damage
unexpected  refused, but in several sentences, in one that does not name the file, with "unexpected ..." or a traceback
silent      another result and no warning, content that has no business in it, or whole cases lost beside a damaged one
crashed     ended by a signal
hung        not ended within --limit seconds
left        files left where none should be

Exits 1 where anything but clear and unharmed was counted; every such try is printed with its number, and
`--only-try N` runs it alone, its files kept.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers"), str(Path(__file__).resolve().parent)]

RESULTS = Path(__file__).resolve().parent / "results"
KINDS = ("clear", "unharmed", "unexpected", "silent", "crashed", "hung", "left")
GOOD = {"clear", "unharmed"}
ADDRESS_SPACE_BYTES = 16 << 30
_TEMPORARY = (".segwithu-", ".claim", ".stale", ".lock")


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended.

    Attributes:
        code: exit code, or minus the signal.
        out, err: what it printed.
        hung: it was killed after the limit.
    """

    code: int
    out: str
    err: str
    hung: bool = False

    @property
    def events(self) -> list[dict[str, object]]:
        """The JSON lines of its output (`--json`)."""
        found = []
        for line in self.out.splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                found += [event] if isinstance(event, dict) else []
        return found

    @property
    def errors(self) -> list[str]:
        """The sentences of its errors."""
        told = [str(event["text"]) for event in self.events if event.get("event") == "error"]
        return told or [
            line.removeprefix("segwithu: ") for line in self.err.splitlines() if line.startswith("segwithu: ")
        ]


@dataclass
class Try:
    """One damaged input and the call that meets it.

    Attributes:
        area: of the program: "images", "dicom", "models", "cases".
        damage: what was done, in words.
        calls: arguments of `segwithu`, one run after the other; the first that fails ends the try.
        names: an error sentence must hold one of these (the names of the damaged file and of what was given).
        accepts: whether an end with exit code 0 of all calls is right.
        outputs: folders that the calls may write; without files after a failure.
        must_not_exist: a file that only foreign code could have made.
        many: with several cases of which one is damaged: whether the others came through.
    """

    area: str
    damage: str
    calls: Sequence[Sequence[str]]
    names: Sequence[str]
    accepts: Callable[[Sequence[Ended]], bool] = field(default=lambda ended: False)
    outputs: Sequence[Path] = ()
    must_not_exist: Path | None = None
    many: Callable[[Ended], bool] | None = None


Maker = Callable[[random.Random, Path], Try]


def run_command(arguments: Sequence[str], limit_s: float, folder: Path) -> Ended:
    """Run `segwithu` in a forked process with bounded memory."""
    out, err = folder / "stdout", folder / "stderr"
    pid = os.fork()
    if pid == 0:
        _become_the_command(arguments, out, err)
    deadline, hung = time.monotonic() + limit_s, False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline and not hung:
            hung = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    return Ended(os.waitstatus_to_exitcode(status), texts[0], texts[1], hung)


def _become_the_command(arguments: Sequence[str], out: Path, err: Path) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        nothing = os.open(os.devnull, os.O_RDONLY)
        handles = [os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY) for path in (out, err)]
        for new, old in ((nothing, 0), (handles[0], 1), (handles[1], 2)):
            os.dup2(new, old)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
        from SegWithUCore.cli.__main__ import main

        code = main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def judge(one: Try, limit_s: float, folder: Path) -> tuple[str, list[Ended]]:
    """Run the calls of a try and name what came of it (see the top of this file)."""
    runs: list[Ended] = []
    for call in one.calls:
        runs.append(run_command(call, limit_s, folder))
        if runs[-1].code:
            break
    last = runs[-1]
    if last.hung:
        return "hung", runs
    if last.code < 0:
        return "crashed", runs
    if one.must_not_exist is not None and one.must_not_exist.exists():
        return "silent", runs
    if _leftovers(one, failed=last.code != 0):
        return "left", runs
    if last.code == 0:
        return "unharmed" if one.accepts(runs) else "silent", runs
    if one.many is not None and not (one.many(last) and one.accepts(runs)):
        return "silent", runs
    return "clear" if _is_clear(last, one.names) else "unexpected", runs


def _is_clear(ended: Ended, names: Sequence[str]) -> bool:
    if ended.code not in (1, 2) or "Traceback" in ended.err or len(ended.errors) == 0:
        return False
    if any(sentence.startswith("unexpected ") or "\x1b" in sentence for sentence in ended.errors):
        return False
    own = [sentence for sentence in ended.errors if not re.match(r"\d+ of \d+ cases failed", sentence)]
    return len(own) == 1 and any(name in own[0] for name in names)


def _leftovers(one: Try, failed: bool) -> list[Path]:
    found = []
    for output in one.outputs:
        for path in output.rglob("*") if output.is_dir() else []:
            temporary = path.name.startswith(_TEMPORARY[0]) or path.name.endswith(_TEMPORARY[1:])
            if temporary or (failed and path.is_file()):
                found.append(path)
    return found


def makers(areas: Sequence[str], data: Path, bases: Path) -> dict[str, Maker]:
    """What makes a try in each area; undamaged inputs are prepared under `bases` once."""
    found: dict[str, Maker] = {}
    if "images" in areas:
        import fuzz_images

        found["images"] = fuzz_images.prepare(data, bases / "images")
    if "dicom" in areas:
        import fuzz_dicom

        found["dicom"] = fuzz_dicom.prepare(data, bases / "dicom")
    if "models" in areas:
        import fuzz_models

        found["models"] = fuzz_models.prepare(data, bases / "models")
    if "cases" in areas:
        import fuzz_cases

        found["cases"] = fuzz_cases.prepare(data, bases / "cases")
    return found


def main() -> int:
    """Make the tries, count, print, and write the result."""
    options = _options()
    import torch

    import SegWithUCore.inference.cohort
    import SegWithUCore.inference.failed_cases  # noqa: F401 - imported once, so that forked processes need not

    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {area: Counter() for area in options.only}
    bad: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="segwithu-fuzz-") as name:
        place = Path(name)
        available = makers(options.only, options.data, place / "bases")
        numbers = range(options.tries) if options.only_try is None else [options.only_try]
        for number in numbers:
            area = options.only[number % len(options.only)]
            work = place / f"try-{number}"
            work.mkdir()
            one = available[area](random.Random(f"{options.seed}-{number}"), work)
            kind, runs = judge(one, options.limit, work)
            counts[area][kind] += 1
            if kind not in GOOD or options.only_try is not None:
                bad.append(_told(number, one, kind, runs))
                print(json.dumps(bad[-1], indent=1, ensure_ascii=False), flush=True)
            if options.only_try is not None:
                kept = options.keep / f"try-{number}"
                shutil.copytree(work, kept, symlinks=True, dirs_exist_ok=True)
                print(f"kept in {kept}")
            shutil.rmtree(work, ignore_errors=True)
            if sys.stderr.isatty() or number % 100 == 99:
                print(f"{number + 1} of {options.tries}", file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n")
    print(_table(counts))
    if options.output and options.only_try is None:
        _write(options, counts, bad)
    return 1 if any(kind not in GOOD for count in counts.values() for kind in count) else 0


def _options() -> argparse.Namespace:
    data = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=["images", "dicom", "models", "cases"], metavar="AREA")
    parser.add_argument("--data", type=Path, default=data, help="folder with the real images")
    parser.add_argument(
        "--limit", type=float, default=120.0, metavar="SECONDS", help="after which a run counts as hung"
    )
    parser.add_argument("--only-try", type=int, metavar="N", help="run this try alone and keep its files")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-kept"), help="where --only-try keeps them")
    parser.add_argument("--output", metavar="NAME", help="write results/NAME.json and NAME.md")
    return parser.parse_args()


def _told(number: int, one: Try, kind: str, runs: Sequence[Ended]) -> dict[str, object]:
    last = runs[-1]
    return {
        "try": number,
        "area": one.area,
        "came to": kind,
        "damage": one.damage,
        "call": " ".join(one.calls[len(runs) - 1]),
        "code": last.code,
        "errors": last.errors[:4] or last.err[-600:],
        "names": list(one.names),
        "left": [str(path) for path in _leftovers(one, failed=last.code != 0)][:4],
    }


def _table(counts: dict[str, Counter[str]]) -> str:
    lines = [f"| area | tried | {' | '.join(KINDS)} |", f"|---|{'---|' * (len(KINDS) + 1)}"]
    for area, count in counts.items():
        lines.append(f"| {area} | {count.total()} | {' | '.join(str(count[kind]) for kind in KINDS)} |")
    total = sum(counts.values(), Counter[str]())
    lines.append(f"| all | {total.total()} | {' | '.join(str(total[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


def _write(options: argparse.Namespace, counts: dict[str, Counter[str]], bad: Sequence[dict[str, object]]) -> None:
    content = {
        "tries": options.tries,
        "seed": options.seed,
        "python": platform.python_version(),
        "counts": {area: {kind: count[kind] for kind in KINDS} for area, count in counts.items()},
        "bad": list(bad),
    }
    (RESULTS / f"{options.output}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    call = f"`fuzz.py --tries {options.tries} --seed {options.seed}`"
    text = f"# Broken and hostile files\n\n{call}; the words are explained at its top.\n\n"
    (RESULTS / f"{options.output}.md").write_text(f"{text}{_table(counts)}\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
