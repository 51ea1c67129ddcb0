"""Feed broken, hostile and misleading files to the real command, and count what it does with them.

    python Testing/Benchmarks/fuzz.py --tries 2000 --seed 1 [--only BLOCK ...] [--workers 2] [--output NAME]

Each try changes one valid input and runs `segwithu` on it, in a process of its own forked from one that has imported
everything. What is right is worked out without the product: from the numbers written into the files, or from what it
does with the unchanged input. What may come of a try:

clear       refused: exit code 1 or 2, one sentence with an error code that names the file, nothing left behind
no code     the same without an error code, as older refusals are
harmless    exit code 0 and what is right, or a note or warning that the unchanged input does not get
unknowable  exit code 0 and not what is right, but the files do not tell; the reasons are listed
too strict  refused, though it is right
unclear     refused, but in several sentences, in one that does not name the file, with "unexpected ..." or a traceback
SILENT      exit code 0, another result and no word; content that has no business in it; cases lost beside a damaged one
crash       ended by a signal
hang        not ended within --limit seconds
left over   files left where none should be
fuzz error  the fuzz itself failed

The blocks:

images, dicom, models, cases   damaged and hostile files of each kind
headers     units, missing origins, keys, odd numbers, voxel sizes that contradict, values beyond float32
contrasts   series of two contrasts or modalities, rescale tags in some slices, mosaics
links       slices, images, patients and cases that cannot be opened, are hidden, or lie deeper
references  references and further channels on other grids
moved       images whose headers were changed after segmenting
reviews     reviewers' versions that lie elsewhere, logs that cannot be true
exchanged   case folders whose files were changed after the run
judged      masks to judge: of others, exchanged, moved, partly without a name
added       labelled cases: one patient under several names, references that are not the image's
placement   models whose boxes in the template of a head cannot be true
writers     two processes with one target
empty       models that draw nothing

Exits 1 where anything bad was counted. Each such try is printed with its number: `--seed S --only-try N` runs it alone
and keeps its files.
"""

import argparse
import contextlib
import importlib
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
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers"), str(Path(__file__).resolve().parent)]

RESULTS = Path(__file__).resolve().parent / "results"
KINDS = ("clear", "no code", "harmless", "unknowable", "too strict", "unclear", "SILENT", "crash", "hang", "left over",
         "fuzz error")  # fmt: skip
GOOD = KINDS[:4]
BLOCKS = {
    "images": ("fuzz_images", 14), "dicom": ("fuzz_dicom", 14), "models": ("fuzz_models", 10),
    "cases": ("fuzz_cases", 10), "headers": ("fuzz_headers", 14), "contrasts": ("fuzz_contrasts", 14),
    "links": ("fuzz_links", 10), "references": ("fuzz_references", 5), "moved": ("fuzz_moved", 6),
    "reviews": ("fuzz_reviews", 6), "writers": ("fuzz_writers", 2), "empty": ("fuzz_empty", 1),
    "exchanged": ("fuzz_exchanged", 14), "judged": ("fuzz_judged", 10), "added": ("fuzz_added", 3),
    "placement": ("fuzz_placement", 4),
}  # fmt: skip
"""Module and share of the tries of each block: a try that must run a network or two processes costs more."""
ADDRESS_SPACE_BYTES = 24 << 30
"""OpenVINO reserves 16 GiB of addresses."""
_TEMPORARY = (".segwithu-", ".claim", ".stale", ".lock")


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended.

    Attributes:
        code: exit code, or minus the signal.
        out, err: what it printed.
        hung: it was killed after the limit.
        number: which of the commands that ran at the same time it was.
    """

    code: int
    out: str
    err: str
    hung: bool = False
    number: int = 0

    @property
    def events(self) -> list[dict[str, Any]]:
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

    @property
    def notes(self) -> set[str]:
        """What it remarked without refusing, with numbers and paths left out, which differ from run to run."""
        said = [str(event.get("text")) for event in self.events if event.get("event") in {"note", "warning"}]
        for event in self.events:
            said += [str(text) for text in event.get("warnings") or event.get("notes") or []]
        return {re.sub(r"\S*/\S*|[\d.]+", "", text) for text in said}

    def event(self, kind: str) -> dict[str, Any]:
        """Its first event of a kind; empty if there is none."""
        return next((event for event in self.events if event.get("event") == kind), {})


@dataclass
class Try:
    """One changed input and the call that meets it.

    Attributes:
        block: as listed above.
        damage: what was done, in words.
        calls: arguments of `segwithu`, one run after the other; the first that fails ends the try.
        names: an error sentence must hold one of these (the names of the damaged file and of what was given).
        accepts: whether an end with exit code 0 of all calls is right.
        outputs: folders that the calls may write; without files after a failure.
        must_not_exist: a file that only foreign code could have made.
        many: with several cases of which one is damaged: whether the others came through.
        right: the input is right, so a refusal is too strict.
        unknowable: why the files do not tell that the result is wrong.
        errors: so many error sentences at most.
        at_once: all calls run at the same time, and one alone may succeed.
    """

    block: str
    damage: str
    calls: Sequence[Sequence[str]]
    names: Sequence[str]
    accepts: Callable[[Sequence[Ended]], bool] = field(default=lambda ended: False)
    outputs: Sequence[Path] = ()
    must_not_exist: Path | None = None
    many: Callable[[Ended], bool] | None = None
    right: bool = False
    unknowable: str = ""
    errors: int = 1
    at_once: bool = False


Maker = Callable[[random.Random, Path], Try]


def said_more(control: Ended, word: str = "") -> Callable[[Sequence[Ended]], bool]:
    """Accept a run that remarks, with this word, what it does not remark of the unchanged input."""
    return lambda runs: any(word in note for note in runs[-1].notes - control.notes)


def unchanged(call: Sequence[str], folder: Path) -> Ended:
    """Run the command on input that is right; raises RuntimeError where it is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    if (ended := run_command(call, 600, folder)).code:
        raise RuntimeError(f"Unchanged input is refused: {' '.join(map(str, call))}: {ended.errors or ended.err}")
    return ended


def segment_hippocampi(images: Sequence[Path], cases: Path, *options: str) -> None:
    """Segment images with the shipped model."""
    from segwithu_command import MODEL

    unchanged(["segment", *map(str, images), "--model", str(MODEL), "--output", str(cases), *options], cases.parent)


def export(command: str, cases: Path, output: Path, *options: str) -> list[str]:
    """Arguments of an export ("export --bids"); of pages without the image, if no option says otherwise."""
    more = [*command.split()[1:], *options]
    more += ["--without-image"] if "--page" in more and "--with-image" not in more else []
    return ["export", str(cases), *more, "--output", str(output), "--json"]


def run_command(arguments: Sequence[str], limit_s: float, folder: Path) -> Ended:
    """Run `segwithu` in a forked process with bounded memory."""
    return run_at_once([arguments], limit_s, folder)[0]


def run_at_once(calls: Sequence[Sequence[str]], limit_s: float, folder: Path) -> list[Ended]:
    """Run several commands at the same time; ["worker", REQUEST] asks a worker of Slicer's."""
    outputs = [(folder / f"stdout{number}", folder / f"stderr{number}") for number in range(len(calls))]
    running: dict[int, int] = {}
    codes: dict[int, int] = {}
    sys.stdout.flush()
    for number, (call, streams) in enumerate(zip(calls, outputs, strict=True)):
        pid = os.fork()
        if pid == 0:
            _become_the_command(call, *streams)
        running[number] = pid
    deadline, hung = time.monotonic() + limit_s, set()
    while running:
        for number, pid in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[number] = os.waitstatus_to_exitcode(status)
                del running[number]
            elif time.monotonic() > deadline and number not in hung:
                hung.add(number)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    texts = [[path.read_text("utf-8", "replace") if path.exists() else "" for path in pair] for pair in outputs]
    for number, call in enumerate(calls):  # a worker stays, whatever it answers
        codes[number] = codes[number] or int(call[0] == "worker" and '"event": "result"' not in texts[number][0])
    return [Ended(codes[number], *texts[number], number in hung, number) for number in range(len(calls))]


def _become_the_command(arguments: Sequence[str], out: Path, err: Path) -> None:
    code = 70
    try:
        os.setpgid(0, 0)
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
        nothing, asking = os.pipe()  # kept open: a worker leaves as soon as nobody can ask it any more
        handles = [os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY) for path in (out, err)]
        for new, old in ((nothing, 0), (handles[0], 1), (handles[1], 2)):
            os.dup2(new, old)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
        if arguments[0] == "worker":
            from SegWithUCore.worker.__main__ import main

            os.write(asking, f'{arguments[1]}\n{{"request": "quit", "id": 2}}\n'.encode())
            arguments = []
        else:
            from SegWithUCore.cli.__main__ import main

            os.close(asking)
        code = main([str(argument) for argument in arguments])
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def judge(one: Try, limit_s: float, folder: Path) -> tuple[str, list[Ended]]:
    """Run the calls of a try and name what came of it (see the top of this file)."""
    runs: list[Ended] = []
    if one.at_once:
        runs = sorted(run_at_once(one.calls, limit_s, folder), key=lambda ended: ended.code != 0)
    for call in () if one.at_once else one.calls:
        runs.append(run_command(call, limit_s, folder))
        if runs[-1].code:
            break
    return _named(one, runs), runs


def _named(one: Try, runs: Sequence[Ended]) -> str:
    last = runs[-1]
    if any(run.hung for run in runs):
        return "hang"
    if any(run.code < 0 for run in runs):
        return "crash"
    if one.must_not_exist is not None and one.must_not_exist.exists():
        return "SILENT"
    failed = last.code != 0
    if leftovers(one, failed=failed and not one.at_once):
        return "left over"
    accepted = one.accepts(runs) if not failed or one.many or one.at_once else False
    wrong = (failed and one.many is not None and not (one.many(last) and accepted)) or (one.at_once and not accepted)
    if wrong or (not failed and not accepted):
        return "unknowable" if one.unknowable else "SILENT"
    if not failed:
        return "harmless"
    if one.right:
        return "too strict"
    if not _is_clear(one, last):
        return "unclear"
    return "clear" if any(re.search(r"\[[a-z0-9]+(-[a-z0-9]+)+\]", text) for text in last.errors) else "no code"


def _is_clear(one: Try, ended: Ended) -> bool:
    if ended.code not in (1, 2) or "Traceback" in ended.err:
        return False
    if any(re.search(r"[Uu]nexpected [A-Z]|\x1b", sentence) for sentence in ended.errors):
        return False
    own = [sentence for sentence in ended.errors if not re.match(r"\d+ of \d+ cases (failed|cannot be used)", sentence)]
    own = own or [str(event["text"]) for event in ended.events if event.get("event") == "note"][: one.errors]
    named = [sentence for sentence in own if any(name in sentence for name in one.names)]
    return 0 < len(own) <= one.errors and len(named) == len(own)


def leftovers(one: Try, failed: bool) -> list[Path]:
    """Temporary files, and after a failure all files, in the folders that the calls may write."""
    found = []
    for output in one.outputs:
        for path in output.rglob("*") if output.is_dir() else []:
            temporary = path.name.startswith(_TEMPORARY[0]) or path.name.endswith(_TEMPORARY[1:])
            if temporary or (failed and path.is_file()):
                found.append(path)
    return found


def _prepared(blocks: Sequence[str], data: Path, bases: Path) -> dict[str, Maker | str]:
    """What makes a try in each block, or why it cannot; unchanged inputs are made under `bases` once."""
    found: dict[str, Maker | str] = {}
    for block in blocks:
        try:
            found[block] = importlib.import_module(BLOCKS[block][0]).prepare(data, bases / block)
        except Exception as error:  # noqa: BLE001 - the other blocks go on
            print(f"{block} could not be prepared:\n{traceback.format_exc()}", flush=True)
            found[block] = f"the block could not be prepared: {error}"
    return found


_MADE: dict[str, Maker | str] = {}
"""Inherited by forked workers."""


def _block(options: argparse.Namespace, number: int) -> str:
    shares = [BLOCKS[block][1] for block in options.only]
    return random.Random(f"{options.seed}-{number}-block").choices(options.only, shares)[0]


def _one_try(options: argparse.Namespace, place: Path, number: int) -> dict[str, Any]:
    """Make and judge one try; returns what is told of it."""
    block = _block(options, number)
    work = place / f"try-{number}"
    told: dict[str, Any] = {"try": number, "block": block}
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(int(options.limit * 4))
    try:
        work.mkdir()
        maker = _MADE[block]
        if isinstance(maker, str):
            raise RuntimeError(maker)
        one = maker(random.Random(f"{options.seed}-{number}"), work)
        told["damage"] = one.damage
        kind, runs = judge(one, options.limit, work)
        told |= {"came to": kind, **_told(one, runs)}
    except Exception:  # noqa: BLE001 - a fault of the fuzz must not end it
        told |= {"came to": "fuzz error", "traceback": traceback.format_exc()[-3000:]}
    finally:
        signal.alarm(0)
    if options.only_try is not None:
        shutil.copytree(work, options.keep / work.name, symlinks=True, dirs_exist_ok=True, ignore=_no_pipes)
    shutil.rmtree(work, ignore_errors=True)
    return told


def _too_long(*_: object) -> None:
    raise TimeoutError("making and judging the try took too long")


def _no_pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (path := Path(folder, name)).exists() and not (path.is_file() or path.is_dir())]


def _told(one: Try, runs: Sequence[Ended]) -> dict[str, Any]:
    last = runs[-1]
    return {
        "call": " ".join(map(str, one.calls[-1 if one.at_once else len(runs) - 1])),
        "codes": [run.code for run in runs],
        "errors": last.errors[:4] or last.err[-600:],
        "notes": sorted(last.notes)[:3],
        "names": list(one.names)[:4],
        "unknowable": one.unknowable,
        "left": [str(path) for path in leftovers(one, failed=last.code != 0 and not one.at_once)][:4],
    }


def _tries(options: argparse.Namespace, place: Path) -> Iterator[dict[str, Any]]:
    """Make all tries in forked workers; one that dies with its try is replaced."""
    numbers = list(range(options.tries)) if options.only_try is None else [options.only_try]
    workers = [_Worker(options, place, numbers[share :: options.workers]) for share in range(options.workers)]
    while any(worker.left for worker in workers):
        time.sleep(0.05)
        for worker in workers:
            yield from worker.new()


class _Worker:
    """A forked process that makes tries one by one and writes a line about each."""

    def __init__(self, options: argparse.Namespace, place: Path, numbers: list[int]) -> None:
        self.left, self._options, self._place = numbers, options, place
        self._file, self._read = place / f"told-{numbers[0] if numbers else 'nothing'}.jsonl", 0
        self._file.touch()
        self._begin()

    def _begin(self) -> None:
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            return
        try:
            for number in self.left:
                told = json.dumps(_one_try(self._options, self._place, number), default=str) + "\n"
                with self._file.open("a") as file:
                    file.write(told)
        finally:  # whatever happens, the clearing up is the parent's
            os._exit(0)

    def new(self) -> Iterator[dict[str, Any]]:
        """What it has written since it was last asked."""
        ended = self.left and os.waitpid(self._pid, os.WNOHANG)[0]
        lines = self._file.read_text("utf-8").split("\n")[:-1]  # the last may not be whole yet
        for line in lines[self._read :]:
            yield json.loads(line)
        self.left = self.left[len(lines) - self._read :]
        self._read = len(lines)
        if ended and self.left:
            number = self.left.pop(0)
            yield _died(self._options, number)
            self._begin()


def _died(options: argparse.Namespace, number: int) -> dict[str, Any]:
    told = {"try": number, "block": _block(options, number), "came to": "fuzz error"}
    return told | {"traceback": "the process that made and judged the try has died"}


def main() -> int:
    """Make the tries, count, print, and write the result."""
    options = _options()
    import torch

    import SegWithUCore.cohort.one_case
    import SegWithUCore.cohort.workers  # noqa: F401 - imported once, so that forked processes need not

    torch.set_num_threads(1)
    begun = time.monotonic()
    counts: dict[str, Counter[str]] = {block: Counter() for block in options.only}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="segwithu-fuzz-") as name:
        _MADE.update(_prepared(options.only, options.data, Path(name) / "bases"))
        for done, told in enumerate(_tries(options, Path(name)), 1):
            kind = told["came to"]
            counts[told["block"]][kind] += 1
            if kind not in ("clear", "harmless") or options.only_try is not None:
                found.append(told)
            unprepared = kind == "fuzz error" and isinstance(_MADE[told["block"]], str)
            if (kind not in GOOD and not unprepared) or options.only_try is not None:
                print(json.dumps(told, indent=1, ensure_ascii=False), flush=True)
            if done % 100 == 0:
                print(f"{done} of {options.tries}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print(_table(counts))
    print(_reasons(found))
    if options.output and options.only_try is None:
        _write(options, counts, found)
    return 1 if any(kind not in GOOD for count in counts.values() for kind in count) else 0


def _options() -> argparse.Namespace:
    data = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000, help="of all blocks together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(BLOCKS), choices=list(BLOCKS), metavar="BLOCK")
    parser.add_argument("--workers", type=int, default=1, help="processes that make tries at the same time")
    parser.add_argument("--data", type=Path, default=data, help="folder with the real images")
    parser.add_argument(
        "--limit", type=float, default=120.0, metavar="SECONDS", help="after which a run counts as hung"
    )
    parser.add_argument("--only-try", type=int, metavar="N", help="run this try alone and keep its files")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-kept"), help="where --only-try keeps them")
    parser.add_argument("--output", metavar="NAME", help="write results/NAME.json and NAME.md")
    return parser.parse_args()


def _table(counts: dict[str, Counter[str]]) -> str:
    lines = [f"| block | tried | {' | '.join(KINDS)} |", f"|---|{'---|' * (len(KINDS) + 1)}"]
    for block, count in [*counts.items(), ("all", sum(counts.values(), Counter[str]()))]:
        lines.append(f"| {block} | {count.total()} | {' | '.join(str(count[kind]) for kind in KINDS)} |")
    return "\n".join(lines)


def _reasons(found: Sequence[dict[str, Any]]) -> str:
    """Why results are not knowable from the files, each with its count."""
    reasons = Counter(str(told["unknowable"]) for told in found if told["came to"] == "unknowable")
    return "\n".join(["", *(f"- not knowable from the files, {n} times: {why}" for why, n in reasons.most_common())])


def _write(options: argparse.Namespace, counts: dict[str, Counter[str]], found: Sequence[dict[str, Any]]) -> None:
    content = {
        "tries": options.tries,
        "seed": options.seed,
        "python": platform.python_version(),
        "counts": {block: {kind: count[kind] for kind in KINDS} for block, count in counts.items()},
        "bad": [told for told in found if told["came to"] not in GOOD],
        "refusals without a code": sorted({f"{told['block']}: {told['damage']}: {told['errors'][0]:.200}"
                                           for told in found if told["came to"] == "no code"}),
    }  # fmt: skip
    (RESULTS / f"{options.output}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    call = f"`fuzz.py --tries {options.tries} --seed {options.seed}`"
    text = f"# Broken, hostile and misleading files\n\n{call}; the words are explained at its top.\n\n"
    (RESULTS / f"{options.output}.md").write_text(f"{text}{_table(counts)}\n{_reasons(found)}\n", "utf-8")


if __name__ == "__main__":
    sys.modules["fuzz"] = sys.modules["__main__"]  # the blocks import it by name: one module, not two
    sys.exit(main())
