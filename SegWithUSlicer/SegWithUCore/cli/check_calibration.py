"""`segwithu check-calibration`: whether a model's probabilities hold on labelled cases of one's own."""

import argparse
from typing import TYPE_CHECKING, Any

from ..regions.region import UNCERTAIN
from ..util.errors import UsageError
from .arguments import add_engine_option, add_network_option, add_threads_option
from .case_roles import test_record
from .console import Console, table
from .train import CASES_HELP

if TYPE_CHECKING:
    from ..calibration.readings import Reading


def add_commands(commands: Any) -> None:
    """Add the command."""
    check = commands.add_parser(
        "check-calibration",
        examples=("check-calibration -m hippocampus --cases mine.csv:labelled",),
        help="say whether a model's error probabilities hold on labelled cases of your own",
        description="Predict labelled cases and compare what the error probability says with what was wrong: of "
        f"voxels that read {UNCERTAIN:g}, how many were wrong? Intervals are of patients; with fewer than 8 there is "
        "no verdict. Nothing is written.",
    )
    check.add_argument("--model", required=True, help="name or folder of a calibrated model")
    check.add_argument("--cases", required=True, help=CASES_HELP)
    add_engine_option(check)
    add_network_option(check)
    add_threads_option(check)
    check.add_argument(
        "--allow-seen-cases", action="store_true", help="judge on cases that the model was trained or calibrated with"
    )
    check.set_defaults(run=run, record=False)


def run(options: argparse.Namespace, console: Console) -> int:
    """Say whether the probabilities hold."""
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.recalibrate import summaries_of

    from ..calibration.readings import LEVELS, reading
    from ..calibration.site_line import by_patient
    from ..models.registry import resolve_model
    from ..models.weights_file import verify_weights

    console.started()
    bundle = resolve_model(options.model)
    if bundle.calibration is None:
        raise UsageError(
            f"The model {bundle.name} is not calibrated, so it says no error probability: fit it with "
            f"`segwithu calibrate --model {options.model}`."
        )
    cases = find_cases(options.cases)
    verify_weights(bundle)
    test_record(bundle, cases, options, console)
    with console.progress("check-calibration") as progress:
        summaries = summaries_of(bundle, cases, progress=progress, engine=options.engine)
    patients = by_patient([case.all_errors for case in summaries], [case.patient for case in summaries])
    readings = [reading(patients, level) for level in LEVELS]
    headline = reading(patients)
    data = {"model": bundle.name, "cases": len(cases), "patients": len(patients), "verdict": headline.verdict}
    off = [f"{one.level:g} ({one.verdict})" for one in readings if one.is_off and one.level != headline.level]
    sentence = f"{headline.sentence} Other readings that are off: {', '.join(off)}." if off else headline.sentence
    data |= {"sentence": sentence, "readings": [one.to_json() for one in readings]}
    console.result(f"{sentence}\n{_table(readings)}", data)
    return 0


def _table(readings: "list[Reading]") -> str:
    rows = []
    for one in readings:
        observed = f"{one.observed.mean * 100:.1f} % ({one.observed.low * 100:.1f} to {one.observed.high * 100:.1f})"
        read, wrong = (f"{one.read * 100:.1f} %", observed) if one.voxels else ("", "")
        rows.append([f"{one.level:g}", read, wrong, str(one.voxels), str(one.patients), one.verdict])
    header = ["reads about", "on average", "wrong, with 95 % interval", "voxels", "patients", "verdict"]
    return table(header, rows, words=(2, 5))
