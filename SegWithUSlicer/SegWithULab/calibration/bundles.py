"""Calibrated bundles: of a training run, or of a model that is there already; no torch where an engine does without."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.inference.engines import TORCH
from SegWithUCore.inference.lost_calibration import HARM
from SegWithUCore.inference.structures import TOTALS
from SegWithUCore.models import bundle as bundle_format
from SegWithUCore.models.bundle import Bundle, Graphs, check_bundle, fitted_now, write_bundle_json
from SegWithUCore.models.bundle_files import verify_weights, weights_path
from SegWithUCore.models.graphs import graphs_lacking, read_graph_file
from SegWithUCore.models.model_card import licence_notice, write_description
from SegWithUCore.models.model_name import site_version
from SegWithUCore.models.quality import QUALITY, quality_warnings
from SegWithUCore.models.second_stage_file import BLOCK, copy_further_stages, copy_second_stage, write_second_stage
from SegWithUCore.models.training_record import TRAINING_FOLDER, TrainingRecord, read_record, write_record
from SegWithUCore.network.specs import MASK_ALONE
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import OutputError, UsageError
from SegWithUCore.util.progress import Progress, silent

from ..training.case_reading import read_assessed
from ..training.dataset import Case
from .altered_cases import fit_harm
from .blocks import Calibration, ejection_block, total_blocks
from .cases import PredictedCases, predicted
from .fit import fit
from .fit_second_stage import LEAST_PATIENTS

if TYPE_CHECKING:
    from ..training.run_folder import RunFolder

UNSEEN = 0.18
"""Half width, in shares of a volume, for what synthesised images cannot show: that of nine in ten references whose
volumes, drawn by other rules, spread by 11 %."""
LEAST_OF_JUDGES = 5
"""Patients from which on a model without a network sees the image: by the mask alone 8 gave an AUPRC of .50, with the
image .76 (14 structures of 7 other brains, docs/user/judge.md)."""
Folds = Callable[[Bundle, float], PredictedCases]
"""Predicts training cases with cross-validation models, given the bundle without calibration and its scale."""


@dataclass(frozen=True)
class Calibrated:
    """The bundle that was written, None where the model's own calibration is kept; and a message on each part."""

    bundle: Bundle | None
    messages: tuple[str, ...]


def calibrate_run(
    run: "RunFolder",
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    progress: Progress = silent,
    heads_of: Bundle | None = None,
    record: TrainingRecord | None = None,
    validation: Sequence[Case] = (),
    folds: Folds | None = None,
) -> Calibrated:
    """Write the bundle of a run, calibrated on `cases`; whole or not at all.

    Args:
        heads_of: a model of the same backbone, whose heads come along as they are, to be chosen by name.
        record: how it was trained, and what has seen which cases; None for what the run knows.
        validation: cases on which the epochs were chosen: what is fitted per structure is fitted on them, too.

    Raises:
        InputError: the run is unfinished, a case is unusable, the cases contain no errors to fit, or `heads_of` has
            another backbone or no other head.
        OutputError: `target` exists or cannot be written.
    """
    from SegWithUCore.models.bundle_network import further_heads, write_weights

    from ..training.make_bundle import foreign_licence, plain_bundle
    from ..training.run_record import copy_logs, run_record

    recipe = run.recipe()
    backbone, head = run.load_best("backbone"), run.load_best("head")
    with atomic_folder(target, overwrite) as work:
        name = recipe.head["variant"]
        specs, tensors = further_heads(heads_of, backbone, name) if heads_of else ((), {})
        digest = write_weights(work, backbone, {name: head, **tensors})
        plain = plain_bundle(recipe, digest, run.facts())
        check_bundle(plain, str(run.path / "run.json"))
        write_record(work, record or run_record(run, {}))
        copy_logs(run, work)
        plain = replace(plain, heads=(*plain.heads, *specs))
        if heads_of is not None:
            copy_further_stages(plain, weights_path(heads_of).parent, work)
        made = _calibrated(plain, cases, validation, work, TORCH, folds, progress)
        (work / bundle_format.LICENCE_FILE).write_text(
            licence_notice(plain.about) + foreign_licence(run), encoding="utf-8"
        )
    return replace(made, bundle=replace(made.bundle, folder=target)) if made.bundle else made


def calibrate_model(
    bundle: Bundle,
    cases: Sequence[Case],
    target: Path,
    overwrite: bool = False,
    engine: str = TORCH,
    progress: Progress = silent,
    record: TrainingRecord | None = None,
    folds: Folds | None = None,
) -> Calibrated:
    """Write a bundle with the same weights, graphs and OOD reference, calibrated on cases; whole or not at all.

    A calibration that is there already is replaced only by what predicts new cases better; where nothing does, no
    bundle is written. Figures that were measured with the earlier calibration do not come along.

    Args:
        bundle: read from a folder; its default head is calibrated.
        engine: what predicts the cases.
        record: of the training, with what has seen the cases; None for the model's own.

    Raises:
        InputError: damaged weights or graphs, an unusable case, or cases that contain no errors to fit.
        OutputError: the target exists or cannot be written.
        UsageError: the engine is not there, or cross-validation models are given for a calibrated model.
    """
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already: choose another output folder or pass --overwrite.")
    before, kept = bundle.calibration, read_record(weights_path(bundle).parent)
    if folds is not None and before is not None:
        raise UsageError(f"--folds goes with --cases: the model {bundle.name} is calibrated, and keeps what it has.")
    verify_weights(bundle)
    graphs = bundle.graphs if graphs_lacking(bundle) is None else None
    plain = replace(bundle, metrics=None, away=None, graphs=graphs)
    if before is not None:
        found = fit(predicted(plain, cases, engine, progress), bundle.labels, prior=before, totals=bundle.totals)
        if not found.is_changed:
            poor = quality_warnings(bundle.name, bundle.labels, {QUALITY: found.block.get(QUALITY)})
            return Calibrated(None, (*(f"Warning: {warning}" for warning in poor), *found.messages))
        if record is not None and record.roles:  # what stays of the calibration has seen the earlier cases
            seen = [((each and each.roles) or {}).get("calibration", ()) for each in (kept, record)]
            record = record.with_role("calibration", sorted({*seen[0], *seen[1]}))
    with atomic_folder(target, overwrite) as work:
        _copy_files(bundle, graphs, work, record)
        if before is None:
            made = _calibrated(plain, cases, (), work, engine, folds, progress)
        else:
            if found.second_stage is None:
                copy_second_stage(bundle, work)
            about = {**bundle.about, "version": site_version(bundle.about["version"])}
            fitted = replace(plain, calibration=written_block(found, bundle, work), about=about)
            made = Calibrated(write_description(fitted, work), found.messages)
    return replace(made, bundle=replace(made.bundle, folder=target)) if made.bundle else made


def _calibrated(
    plain: Bundle,
    cases: Sequence[Case],
    validation: Sequence[Case],
    work: Path,
    engine: str,
    folds: Folds | None,
    progress: Progress,
) -> Calibrated:
    """Calibrate the bundle whose weights lie in `work` from nothing; write description and card there."""
    bundle = write_bundle_json(plain, work)
    judged_as = read_assessed(cases[0], bundle).judged_as
    if judged_as is not None and len({*judged_as.tolist()}) < len(judged_as):
        problem = "--labels leaves structures without a label of their own, which --cases fits each of"
        raise UsageError(f"{problem}: name them all, or give the cases to --add.", "contradicting-options")
    # No calibration has shown that the network draws anything: low Dice may be its own, and the bundle says so.
    every = predicted(bundle, [*cases, *validation], engine, progress, least=0.0, is_on_maps_grid=True)
    own = list(islice(every, len(cases)))
    least = LEAST_OF_JUDGES if bundle.backbone.kind == MASK_ALONE else LEAST_PATIENTS
    by_folds = None if folds is None else partial(folds, bundle)
    found = fit(own, bundle.labels, folds=by_folds, validation=every, least=least)
    progress("fitting", 1.0)
    assert found.own is not None
    block = written_block(found, bundle, work) | total_blocks(found.own, bundle)
    block |= ejection_block(found.own, [case.phase for case in (*cases, *validation)], bundle.labels)
    if all(case.is_synthesised for case in cases):
        for name in ("volume_interval", TOTALS):
            block[name] = {key: {**each, "unseen": UNSEEN} for key, each in block[name].items()}
    display = {**(bundle.display or {}), **(found.display or {})}
    made = write_description(replace(bundle, calibration=block, display=display), work)
    harm = fit_harm(replace(made, folder=work), cases, engine, progress)
    if harm is not None:
        made = write_description(replace(made, ood_reference={**(made.ood_reference or {}), HARM: harm}), work)
    return Calibrated(made, found.messages)


def written_block(found: Calibration, bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Write a new second stage into the folder of a bundle; returns the calibration block that belongs there."""
    block = dict(found.block)
    if found.second_stage is not None:
        block[BLOCK] = write_second_stage(found.second_stage, folder, bundle.default_head.name)
    return fitted_now(block)


def _copy_files(bundle: Bundle, graphs: Graphs | None, work: Path, record: TrainingRecord | None) -> None:
    """Copy into `work` what stays the same when a bundle is calibrated."""
    weights = weights_path(bundle)
    shutil.copyfile(weights, work / weights.name)
    if bundle.placement is not None:
        shutil.copyfile(weights.parent / bundle_format.TEMPLATE_FILE, work / bundle_format.TEMPLATE_FILE)
    for name in bundle_format.GRAPH_FILES if graphs is not None else ():
        (work / name).write_bytes(read_graph_file(bundle, name))
    licence = weights.with_name(bundle_format.LICENCE_FILE)
    if licence.is_file():
        shutil.copyfile(licence, work / bundle_format.LICENCE_FILE)
    if (weights.parent / TRAINING_FOLDER).is_dir():
        shutil.copytree(weights.parent / TRAINING_FOLDER, work / TRAINING_FOLDER)
    if record is not None:
        write_record(work, record)
    copy_further_stages(bundle, weights.parent, work)
