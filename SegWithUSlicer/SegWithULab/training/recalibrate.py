"""A bundle calibrated on other cases, whatever its weights come from; no torch where an engine does without."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.flag_limits import LEAST_CASES
from SegWithUCore.calibration.stage_two import StageTwo
from SegWithUCore.inference.engines import TORCH
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.models.bundle import CARD_FILE, LICENCE_FILE, Bundle, fitted_now, write_bundle_json
from SegWithUCore.models.graph_files import graphs_lacking, read_graph_file
from SegWithUCore.models.graphs import GRAPH_FILES, Graphs
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.model_card import model_card
from SegWithUCore.models.model_name import site_version
from SegWithUCore.models.quality import QUALITY, quality_warnings
from SegWithUCore.models.stage_two_file import BLOCK, CHECK, copy_further_stages, copy_stage_two, write_stage_two
from SegWithUCore.models.training_record import TRAINING_FOLDER, TrainingRecord, read_record, write_record
from SegWithUCore.models.weights_file import verify_weights, weights_path
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import OutputError, UsageError
from SegWithUCore.util.progress import Progress, silent

from .calibrate import display_windows, fitted, predict_case
from .dataset import Case
from .error_likeness import LIKENESS, CaseErrors, errors_alike
from .fit_stage_two import FittedStageTwo, fit_stage_two, fit_table
from .reference_cases import OutOfFold, ReferenceCase, SeenCases, bytes_of
from .refit import CaseSummary, Refit, refit, summary_of
from .whole_cases import PredictedCases, fit_on_unseen
from .within_structures import WITHIN, within_structures, worse_sentences


@dataclass(frozen=True)
class Recalibration:
    """What became of a calibration: the bundle that was written, None where the model's own is kept, and why."""

    bundle: Bundle | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class CalibrationJob:
    """What is calibrated anew, on what, and where it goes.

    Attributes:
        bundle: read from a folder; its default head is calibrated.
        target: folder of the bundle to write.
        engine, device: what predicts the cases.
        record: of the training, with what has seen the cases; None for the model's own.
    """

    bundle: Bundle
    cases: Sequence[Case]
    target: Path
    overwrite: bool = False
    engine: str = TORCH
    device: str = "cpu"
    record: TrainingRecord | None = None

    def check(self) -> None:
        """Refuse a target that is there, and damaged weights."""
        if self.target.exists() and not self.overwrite:
            raise OutputError(f"{self.target} exists already: choose another output folder or pass --overwrite.")
        verify_weights(self.bundle)

    @property
    def graphs(self) -> Graphs | None:
        """Compiled graphs that come along."""
        return self.bundle.graphs if graphs_lacking(self.bundle) is None else None

    @property
    def plain(self) -> Bundle:
        """The bundle without figures: they were measured with the earlier calibration."""
        return replace(self.bundle, figures=None, graphs=self.graphs)

    @property
    def about(self) -> dict[str, Any]:
        """Name and version of what is written."""
        return {**self.bundle.about, "version": site_version(self.bundle.about["version"])}


def recalibrate(
    job: CalibrationJob,
    stage_two_only: bool = False,
    out_of_fold: OutOfFold | None = None,
    progress: Progress = silent,
) -> Recalibration:
    """Write a bundle with the same weights, graphs and fingerprint, calibrated on new cases; whole or not at all.

    A calibration that is there already is replaced only by what predicts new cases better (`refit`), and gets a stage
    two that sees the image where that ranks errors better; where nothing does, no bundle is written. Figures that were
    measured with the earlier calibration do not come along.

    Args:
        stage_two_only: keep all else of the calibration that is there.
        out_of_fold: training cases that fold networks predicted, for stage two.

    Raises:
        InputError: damaged weights or graphs, an unusable case, or cases that hold no errors to fit on.
        OutputError: the target exists or cannot be written.
        UsageError: the engine is not there.
    """
    job.check()
    bundle, graphs, plain = job.bundle, job.graphs, job.plain
    if bundle.calibration is None:
        with atomic_folder(job.target, job.overwrite) as work:
            copy_files(bundle, graphs, work, job.record)
            written = calibrated(replace(plain, display=None), job.cases, work, job.device, progress, job.engine)
        return Recalibration(replace(written, folder=job.target), ())
    found, stage = _refit(job, progress, stage_two_only, out_of_fold)
    record = _with_earlier_cases(bundle, job.record)
    if not found.is_changed:
        poor = quality_warnings(bundle.name, bundle.labels, {QUALITY: found.calibration.get(QUALITY)})
        return Recalibration(None, (*(f"Warning: {warning}" for warning in poor), *found.sentences))
    with atomic_folder(job.target, job.overwrite) as work:
        copy_files(bundle, graphs, work, record)
        calibration = fitted_now(found.calibration)
        if stage is not None:
            calibration[BLOCK] = write_stage_two(stage, work, bundle.default_head.name)
        else:
            copy_stage_two(bundle, work)
        written = write_bundle_json(replace(plain, calibration=calibration, about=job.about), work)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
    return Recalibration(replace(written, folder=job.target), found.sentences)


def refit_whole_cases(
    job: CalibrationJob, out_of_fold: PredictedCases | None = None, progress: Progress = silent
) -> Recalibration:
    """Write a bundle whose volume intervals, predicted Dice and limit of flags are fitted anew, and no more.

    All of them: none is fitted on single voxels, so validation cases serve as well as calibration cases. What is
    raised as for `recalibrate`.

    Args:
        out_of_fold: training cases that fold networks predicted, for predicted Dice and flags.
    """
    bundle = job.bundle
    if bundle.calibration is None:
        raise UsageError(f"The model {bundle.name} is not calibrated: leave --whole-cases-only out to fit all of it.")
    job.check()
    blocks = fit_on_unseen(job.plain, job.cases, out_of_fold, progress=progress, engine=job.engine)
    calibration, kept, new = _with_whole_cases(bundle, blocks)
    if not new:
        raise UsageError(
            f"{len(job.cases)} cases are too few for anything that is said of whole cases: volume intervals need cases "
            f"of 9 patients, predicted Dice 10 cases, limits of flags {LEAST_CASES}."
        )
    with atomic_folder(job.target, job.overwrite) as work:
        copy_files(bundle, job.graphs, work, job.record)
        copy_stage_two(bundle, work)
        calibration = fitted_now(calibration)
        written = write_bundle_json(replace(job.plain, calibration=calibration, about=job.about), work)
        (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
    sentences = [f"Fitted anew on {len(job.cases)} cases: {', '.join(new)}."]
    if out_of_fold is not None:
        count = len(out_of_fold.numbers)
        sentences[0] += f" All but volume intervals also on {count} that fold networks predicted."
        sentences.append(blocks["flags"][LIKENESS]["sentence"])
    return Recalibration(replace(written, folder=job.target), (*sentences, *kept))


def _with_whole_cases(bundle: Bundle, blocks: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Put the blocks in the place of the model's, which stay where there are too few cases.

    Returns:
        The calibration, a sentence for each block that stays, wholly or in part, and what is new.
    """
    before, sentences, new = bundle.calibration or {}, [], []
    found = {**before, **blocks}
    for name, words in (("volume_interval", "volume interval"), ("predicted_dice", "predicted Dice")):
        left = (before.get(name) or {}).keys() - blocks[name].keys()
        found[name] = {**(before.get(name) or {}), **blocks[name]}
        titles = [label.name for label in bundle.labels if str(label.value) in left]
        if titles:
            sentences.append(f"The model's own {words} is kept, too few cases for another: {', '.join(titles)}.")
        new += [words] if blocks[name] else []
    if blocks["flags"]["cases"] >= LEAST_CASES or not before.get("flags"):
        new.append("limit of flags")
    else:
        found["flags"] = before["flags"]
        sentences.append(f"The model's own limit of flags is kept, too few cases for another: give {LEAST_CASES}.")
    return found, sentences, new


def copy_files(bundle: Bundle, graphs: Graphs | None, work: Path, record: TrainingRecord | None) -> None:
    """Copy into `work` what stays the same when a bundle is calibrated anew."""
    weights = weights_path(bundle)
    shutil.copyfile(weights, work / weights.name)
    for name in GRAPH_FILES if graphs is not None else ():
        (work / name).write_bytes(read_graph_file(bundle, name))
    licence = weights.with_name(LICENCE_FILE)
    if licence.is_file():
        shutil.copyfile(licence, work / LICENCE_FILE)
    if (weights.parent / TRAINING_FOLDER).is_dir():
        shutil.copytree(weights.parent / TRAINING_FOLDER, work / TRAINING_FOLDER)
    if record is not None:
        write_record(work, record)
    copy_further_stages(bundle, weights.parent, work)


def _table_knows(bundle: Bundle, record: TrainingRecord | None) -> bool:
    """Whether the model was calibrated on some of the cases that `record` notes for this calibration."""
    before = read_record(weights_path(bundle).parent)
    old, new = (((each and each.roles) or {}).get("calibration", ()) for each in (before, record))
    return not set(old).isdisjoint(new)


def _with_earlier_cases(bundle: Bundle, record: TrainingRecord | None) -> TrainingRecord | None:
    """Add the cases of the calibration that is there: what stays of it has seen them."""
    before = read_record(weights_path(bundle).parent)
    old, new = (((each and each.roles) or {}).get("calibration", ()) for each in (before, record))
    return record.with_role("calibration", list({*old, *new})) if record is not None and record.roles else record


def _refit(
    job: CalibrationJob, progress: Progress, stage_two_only: bool, out_of_fold: OutOfFold | None
) -> tuple[Refit, StageTwo | None]:
    """Refit what new cases better; and fit a stage two, None where it does not help.

    A table that knows some of the cases would look better than on new ones: then stage two is compared with tables
    that are fitted anew on the other folds.
    """
    bundle, known = job.plain, _table_knows(job.bundle, job.record)
    assert bundle.calibration is not None
    table = ErrorProbability.from_json(bundle.calibration["error_probability"])
    scale = float(bundle.calibration["tempering_scale"])
    summaries: list[CaseSummary] = []
    others = [] if out_of_fold is None else out_of_fold.cases
    wanted = stage_two_only or BLOCK not in bundle.calibration
    seen = SeenCases(wanted, sum(bytes_of(case) for case in others))
    pairs = _predicted(bundle, job.cases, job.device, progress, job.engine)
    for case, (prediction, truth) in zip(job.cases, pairs, strict=True):
        seen.add(ReferenceCase(prediction, truth, case.group))
        if not stage_two_only:
            summaries.append(summary_of(prediction, truth, table, scale, case.group))
    progress("fitting", 1.0)
    kept = (
        Refit(bundle.calibration, (), False) if stage_two_only else refit(bundle.calibration, bundle.labels, summaries)
    )
    fitted_on = ErrorProbability.from_json(kept.calibration["error_probability"])
    settings: dict[str, Any] = {"fixed_table": not known, "out_of_fold": out_of_fold}
    found = fit_stage_two(seen.cases, fitted_on, **settings) if seen.cases else None
    if found is not None and found.check.out_of_fold is not None:
        alike = errors_alike(*([CaseErrors.of(case) for case in cases] for cases in (seen.cases, others)))
        found = replace(found, check=found.check.with_fold_errors(alike))
    if found is None:
        return replace(kept, sentences=(*kept.sentences, *seen.sentences)), None
    blocks = check_blocks(found, bundle.labels, [case.group for case in seen.cases])
    sentences = [*kept.sentences, found.check.sentence, *worse_sentences(blocks[WITHIN], bundle.labels)]
    if not found.check.helps:
        return replace(kept, sentences=tuple(sentences)), None
    replaced = bundle.calibration.get(BLOCK)
    if replaced is not None:
        sentences.append(f"It takes the place of one fitted on {replaced['cases']} cases; the two were not compared.")
    changed = replace(kept, calibration={**kept.calibration, **blocks}, sentences=tuple(sentences), is_changed=True)
    return changed, found.stage


def summaries_of(
    bundle: Bundle, cases: Sequence[Case], progress: Progress = silent, engine: str = TORCH
) -> list[CaseSummary]:
    """Predict cases with a calibrated bundle, and sum each up; what is raised as for `recalibrate`."""
    calibration = bundle.calibration or {}
    table = ErrorProbability.from_json(calibration["error_probability"])
    scale = float(calibration["tempering_scale"])
    pairs = zip(cases, _predicted(bundle, cases, "cpu", progress, engine), strict=True)
    return [summary_of(prediction, truth, table, scale, case.group) for case, (prediction, truth) in pairs]


def _predicted(
    bundle: Bundle, cases: Sequence[Case], device: str, progress: Progress, engine: str
) -> Iterator[tuple[Prediction, np.ndarray]]:
    model = Model(bundle, device, engine=engine)
    for number, case in enumerate(cases):
        progress("predicting the calibration cases", number / len(cases), case.name)
        yield predict_case(case, model)


def calibrated(
    plain: Bundle,
    cases: Sequence[Case],
    work: Path,
    device: str,
    progress: Progress,
    engine: str = TORCH,
) -> Bundle:
    """Calibrate the bundle whose weights lie in `work`; write description and card there.

    Stage two of the error probability is taken where cross-validation over the cases says that it helps.
    """
    bundle = write_bundle_json(plain, work)
    pairs = _predicted(bundle, cases, device, progress, engine)
    known = [ReferenceCase(*pair, case.group) for case, pair in zip(cases, pairs, strict=True)]
    progress("fitting", 1.0)
    calibration = whole_calibration(known, bundle, work)
    windows = display_windows([case.prediction for case in known])
    written = write_bundle_json(replace(bundle, calibration=calibration, display=windows), work)
    (work / CARD_FILE).write_text(model_card(written), encoding="utf-8")
    return written


def whole_calibration(cases: Sequence[ReferenceCase], bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Fit everything on cases that neither network nor head has seen; returns the calibration block.

    Args:
        bundle: whose default head made the predictions.
        folder: gets the file of stage two, where cross-validation by patient says that it helps.
    """
    table = fit_table(cases)
    found = fit_stage_two(cases, table)
    blocks: dict[str, Any] = {}
    if found is not None:
        blocks = check_blocks(found, bundle.labels, [case.group for case in cases])
    stage = found.stage if found is not None and found.check.helps else None
    patients = [case.group for case in cases]
    predictions, truths = [case.prediction for case in cases], [case.truth for case in cases]
    fit = fitted(predictions, truths, bundle.labels, table, stage, patients)
    if stage is not None:
        blocks[BLOCK] = write_stage_two(stage, folder, bundle.default_head.name)
    return fitted_now({**fit, **blocks})


def check_blocks(found: FittedStageTwo, labels: Sequence[Label], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Blocks of a calibration that say what cross-validation found."""
    return {CHECK: found.check.to_json(), WITHIN: within_structures(found.within, groups, labels)}
