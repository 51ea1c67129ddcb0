"""Train what the evidence on ACDC needs, one training after the other, each resumed where it stopped.

    python Testing/Benchmarks/acdc/acdc_trainings.py --status
    nohup python Testing/Benchmarks/acdc/acdc_trainings.py --background > /dev/null 2>&1 &
    python Testing/Benchmarks/acdc/acdc_trainings.py --collect

A training that is killed at any moment loses the epoch it was in. Several drivers may run at once, one a core: what one
trains the others leave alone, also when the driver dies and its training lives on. `README.md` has the plan and the
costs; `--collect` copies logs to `../results/trainings` and notes the hashes of finished weights in `hashes.json`.
Linux and macOS.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from nnunet_data import NUMBER, PLANS, nnunet_environment
from patient_folds import write_fold_tables
from trainings import (
    HERE,
    NNUNET_CONFIGURATION,
    NNUNET_TRAINER,
    ROOT,
    Training,
    chosen,
    nnunet_folder,
    planned,
    progress_of,
    sha256,
    weights_of,
)

HASHES = HERE / "hashes.json"
LOGS = HERE.parent / "results" / "trainings"
LOW_PRIORITY = 10


def main() -> int:
    """Train, show the state, or collect logs and hashes."""
    options = _options()
    trainings = planned(chosen())
    known = [training.name for training in trainings]
    for name in set(options.only or ()) - set(known):
        print(f"There is no training '{name}': choose from {', '.join(known)}.", file=sys.stderr)
        return 2
    if options.only:
        trainings = [training for training in trainings if training.name in options.only]
    if options.status:
        print(status(trainings, options))
        return 0
    if options.collect:
        collect(trainings, options.runs)
        return 0
    if options.background:
        go_to_the_background()
    failed = [training.name for training in trainings if not done(training, options)]
    if failed:
        print(f"These ended with an error, see their logs in {options.runs}: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = ROOT.parent
    parser.add_argument("--runs", type=Path, default=beside / "runs" / "acdc", help="folder of the runs")
    parser.add_argument("--data", type=Path, default=beside / "shared" / "data", help="folder with acdc, hippocampus")
    parser.add_argument("--nnunet", type=Path, default=beside / "venv-nnunet", help="environment with nnunetv2 2.8")
    parser.add_argument("--threads", type=int, default=1, help="of each training (OMP_NUM_THREADS)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these trainings only")
    parser.add_argument("--status", action="store_true", help="print what is done, running and waiting")
    parser.add_argument("--collect", action="store_true", help="copy logs and hashes into the repository")
    parser.add_argument("--background", action="store_true", help="in a session of its own, with low priority")
    options = parser.parse_args()
    for folder in ("runs", "data", "nnunet"):
        setattr(options, folder, getattr(options, folder).absolute())
    return options


def go_to_the_background() -> None:
    """A session of its own, and low priority there: where the kernel groups processes by session, `nice` alone counts
    only within one's own."""
    if os.getsid(0) != os.getpid():
        with contextlib.suppress(PermissionError):  # the leader of a group of processes may not
            os.setsid()
    os.nice(LOW_PRIORITY)
    group = Path("/proc/self/autogroup")
    if group.exists() and os.getsid(0) == os.getpid():
        group.write_text(str(LOW_PRIORITY), encoding="ascii")


def done(training: Training, options: argparse.Namespace) -> bool:
    """Do one training unless it is finished, cannot begin or is another's; False when it ended with an error."""
    if training.waits_for or why_not(training, options):
        return True
    with locked(training, options.runs) as handle:
        if handle is None or progress_of(training, options.runs).finished:
            return True
        if training.in_runs:
            kind = training.cases.split("/")[1]
            write_fold_tables(options.data / kind, options.runs / "folds" / kind)
        return all(_run(call, training, options, handle) for call in commands(training, options))


@contextlib.contextmanager
def locked(training: Training, runs: Path) -> Iterator[int | None]:
    """The handle of a training's lock, None where somebody else has it.

    The lock lies on the open file, which the training's process inherits: it holds until both are gone.
    """
    runs.mkdir(parents=True, exist_ok=True)
    handle = os.open(runs / f"{training.name}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield handle if _taken(handle) else None
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Take a lock; once more after a moment, for `--status` holds it while it looks."""
    for attempt in range(3):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05 * attempt)
    return False


def why_not(training: Training, options: argparse.Namespace) -> str | None:
    """What is missing for a training to begin here, None where nothing is."""
    if training.recipe is None and not (options.nnunet / "bin" / "nnUNetv2_train").is_file():
        return f"nnU-Net (pip install nnunetv2 into {options.nnunet})"
    if training.recipe is not None and not training.recipe.is_file():
        return f"{training.recipe.name} (not written)"
    if training.backbone_of is not None:
        backbone = replace(training, name=training.backbone_of, backbone_of=None)
        return None if progress_of(backbone, options.runs).finished else f"the backbone {backbone.name}"
    return None


def commands(training: Training, options: argparse.Namespace) -> list[list[str]]:
    """What to run, one after the other."""
    if training.recipe is not None:
        return [(_own_command if training.backbone_of is None else _head_command)(training, training.recipe, options)]
    programs, found = options.nnunet / "bin", []
    if not (options.runs / "nnunet" / "preprocessed" / "Dataset027_ACDC" / "splits_final.json").is_file():
        script = [str(HERE / "nnunet_data.py"), "--data", str(options.data / "acdc"), "--runs", str(options.runs)]
        found.append([str(programs / "python"), *script])
    call = [str(programs / "nnUNetv2_train"), str(NUMBER), NNUNET_CONFIGURATION, str(training.fold)]
    call += ["-tr", NNUNET_TRAINER, "-p", PLANS, "-device", "cpu"]
    folder = nnunet_folder(training, options.runs)
    begun = any((folder / f"checkpoint_{which}.pth").is_file() for which in ("final", "latest"))
    return [*found, [*call, "--c"] if begun else call]


def _own_command(training: Training, recipe: Path, options: argparse.Namespace) -> list[str]:
    run, place = options.runs / training.name, options.runs if training.in_runs else options.data
    call = [sys.executable, "-m", "SegWithUCore.cli", "train-backbone", "--run", str(run)]
    call += ["--cases", str(place / training.cases), "--select", str(place / training.select)]
    call += ["--threads", str(options.threads)]
    if (run / "backbone_last.pt").is_file():
        return [*call, "--resume"]
    return [*call, "--recipe", str(recipe), *([] if training.seed is None else ["--seed", str(training.seed)])]


def _head_command(training: Training, recipe: Path, options: argparse.Namespace) -> list[str]:
    """The head of a recipe on the backbone that a run has, whose own recipe says all else."""
    run = options.runs / training.run
    call = [sys.executable, "-m", "SegWithUCore.cli", "train-head", "--run", str(run)]
    call += ["--cases", str(options.runs / training.cases), "--select", str(options.runs / training.select)]
    call += ["--threads", str(options.threads)]
    own, given = (json.loads(path.read_text(encoding="utf-8")) for path in (run / "run.json", recipe))
    blocks = {name: given[name] for name in ("head", "head_training")}
    if (run / "head_last.pt").is_file() and own["recipe"]["head"]["variant"] == given["head"]["variant"]:
        return [*call, "--resume"]
    file = run / "head_recipe.json"
    file.write_text(json.dumps({**own["recipe"], **blocks}, indent=1) + "\n", encoding="utf-8")
    return [*call, "--restart", "--recipe", str(file)]


def _run(call: list[str], training: Training, options: argparse.Namespace, handle: int) -> bool:
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    if training.recipe is None:
        trainer = {"nnUNet_extTrainer": str(HERE / "nnunet_trainer"), "nnUNet_n_proc_DA": "0"}  # 0: in the same process
        environment |= {**nnunet_environment(options.runs), **trainer}
    else:
        environment["PYTHONPATH"] = str(ROOT / "SegWithUSlicer")
    with (options.runs / f"{training.name}.log").open("a", encoding="utf-8") as log:
        ended = subprocess.run(
            call, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=(handle,), check=False
        )
    return ended.returncode == 0


def status(trainings: list[Training], options: argparse.Namespace) -> str:
    """A table: state, epochs, Dice on *select*, hours so far and (at the pace of late) to come."""
    lines = [f"{'training':18} {'epochs':>9} {'Dice':>6} {'s/epoch':>8} {'hours':>6} {'left':>6}  state"]
    for training in trainings:
        at = progress_of(training, options.runs)
        pace, spent = at.epoch_s, sum(at.seconds) / 3600
        left = "" if pace is None else f"{pace * (at.of - at.epochs) / 3600:.1f}"
        dice, each = "" if at.dice is None else f"{at.dice:.3f}", "" if pace is None else f"{pace:.0f}"
        epochs = f"{at.epochs}/{at.of}" if at.of else ""
        row = f"{training.name:18} {epochs:>9} {dice:>6} {each:>8} {spent:6.1f} {left:>6}"
        lines.append(f"{row}  {_state(training, at.finished, options)}")
    return "\n".join(lines)


def _state(training: Training, finished: bool, options: argparse.Namespace) -> str:
    if finished:
        return "finished"
    if missing := training.waits_for or why_not(training, options):
        return f"waits for {missing}"
    if not (options.runs / f"{training.name}.lock").exists():
        return "ready"
    with locked(training, options.runs) as handle:
        return "running" if handle is None else "stopped, goes on with the next driver"


def collect(trainings: list[Training], runs: Path) -> None:
    """Copy logs into the repository, and note the SHA-256 of finished weights; what was collected before stays."""
    LOGS.mkdir(parents=True, exist_ok=True)
    hashes = json.loads(HASHES.read_text(encoding="utf-8")) if HASHES.is_file() else {}
    for training in trainings:
        at = progress_of(training, runs)
        if training.recipe is None:
            if at.seconds:
                rows = [f"{epoch},{seconds:.1f}" for epoch, seconds in enumerate(at.seconds)]
                text = "\n".join(["epoch,seconds", *rows]) + "\n"
                (LOGS / f"{training.name}_log.csv").write_text(text, encoding="utf-8")
        elif at.epochs:
            shutil.copy(runs / training.run / f"{training.part}_log.csv", LOGS / f"{training.name}_log.csv")
        if at.finished:
            hours = round(sum(at.seconds) / 3600, 2)
            weights = sha256(weights_of(training, runs))
            hashes[training.name] = {"sha256": weights, "epochs": at.epochs, "hours": hours}
            print(f"{training.name}: {at.epochs} epochs, {hours} hours, {weights}")
    HASHES.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
