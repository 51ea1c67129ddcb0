"""Second stage fitted also on training cases predicted by cross-validation models, if that finds more errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segwithu_command import MODEL
from test_fit_second_stage import made_up

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.second_stage_file import check_message
from SegWithUCore.util.errors import UsageError
from SegWithULab.calibration import cross_validation
from SegWithULab.calibration import fit_second_stage as fitting
from SegWithULab.calibration.cases import CalibrationCase, PredictedCases, fit_table
from SegWithULab.calibration.cross_validation import Fold, find_folds, predicted_by_folds
from SegWithULab.calibration.fit_second_stage import FittedSecondStage, fit_second_stage
from SegWithULab.training.dataset import Case
from SegWithULab.training.run_folder import RunFolder


def of_folds(cases: list[CalibrationCase]) -> PredictedCases:
    """The cases as those of one cross-validation model."""
    named = [replace(case, patient=f"fold {number}") for number, case in enumerate(cases)]
    return PredictedCases(cases=named, tables=[fit_table(named)] * len(named))


@pytest.fixture(scope="module")
def own() -> list[CalibrationCase]:
    return [made_up(seed, told=1.5) for seed in range(10)]


@pytest.fixture(scope="module")
def alone(own: list[CalibrationCase]) -> FittedSecondStage:
    fitted = fit_second_stage(own, fit_table(own))
    assert fitted is not None
    return fitted


def test_cases_that_show_more_are_fitted_on_and_calibrate_nothing(
    own: list[CalibrationCase], alone: FittedSecondStage
) -> None:
    more = of_folds([made_up(seed, told=1.5) for seed in range(100, 130)])
    found = fit_second_stage(own, fit_table(own), other=more)
    assert found is not None
    check = found.check["out_of_fold"]
    assert check["taken"] and check["cases"] == 30
    assert check["difference"]["low"] > 0 and check["without"] == pytest.approx(alone.check["second_stage"])
    assert found.check["second_stage"] == pytest.approx(check["without"] + check["difference"]["mean"])
    assert found.stage.cases == 10, "the last calibration is of the network's own cases"
    assert "30 training cases" in check_message(found.check)
    assert "out_of_fold" not in alone.check


def misleading(seed: int) -> CalibrationCase:
    """A case whose image shows as many places as it has errors, all of them right."""
    case, random = made_up(seed, told=0), np.random.default_rng(seed)
    shown = np.zeros(case.wrong.size, bool)
    shown[random.choice(np.flatnonzero(~case.wrong), np.count_nonzero(case.wrong), replace=False)] = True
    view = replace(case.view, image=case.view.image + 2 * shown.reshape(case.wrong.shape).astype(np.float32))
    return replace(case, prediction=replace(case.prediction, view=view))


@pytest.mark.slow
def test_cases_that_mislead_are_left_out(own: list[CalibrationCase], alone: FittedSecondStage) -> None:
    more = of_folds([misleading(seed) for seed in range(100, 130)])
    found = fit_second_stage(own, fit_table(own), other=more)
    assert found is not None and not found.check["out_of_fold"]["taken"]
    arrays, before = found.stage.arrays(), alone.stage.arrays()
    assert all(np.array_equal(arrays[name], before[name]) for name in before)
    assert found.stage.knots == alone.stage.knots


def test_a_case_of_a_fold_counts_half(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [made_up(seed, told=2) for seed in range(10)]
    counts: list[int] = []
    trained_layers = fitting.trained_layers

    def counted(inputs: np.ndarray, *others: Any) -> Any:
        counts.append(len(inputs))
        return trained_layers(inputs, *others)

    monkeypatch.setattr(fitting, "trained_layers", counted)
    settings, table = fitting.Settings(((0, 1), (1, 0)), (True, True, True)), fit_table(cases)
    fitting._fit_members(cases, table, settings)
    fitting._fit_members(cases, table, settings, of_folds(cases))
    alone, both = counts
    assert both - alone == pytest.approx(alone / 2, abs=len(cases))


def run_that_saw(folder: Path, *hashes: str) -> RunFolder:
    """A run that notes these voxel hashes as its training cases."""
    folder.mkdir()
    (folder / "run.json").write_text('{"recipe": {}, "facts": {}}', encoding="utf-8")
    run = RunFolder(folder)
    run.add_facts({"voxels_sha256": {"train": dict.fromkeys(hashes, "")}} if hashes else {})
    return run


Found = Callable[..., list[list[str]]]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Found:
    """Says which of the cases a to d, whose hashes are A to D, runs predict; a and b are one patient's."""
    monkeypatch.setattr(cross_validation, "_check_like", lambda *_: None)
    monkeypatch.setattr(cross_validation, "LEAST_PATIENTS", 1)
    monkeypatch.setattr(
        cross_validation,
        "voxel_hashes",
        lambda cases, _: [f"{case.reference}{case.name.upper()}".lstrip(".") for case in cases],
    )
    bundle = read_bundle(MODEL)

    def named(names: str) -> list[Case]:
        return [Case(name, (), Path(), patient="p" if name in "ab" else name) for name in names]

    def shares(
        *seen: str, names: str = "abcd", cases: list[Case] | None = None, own: str | list[Case] = ""
    ) -> list[list[str]]:
        runs = [run_that_saw(tmp_path / f"run{number}", *hashes) for number, hashes in enumerate(seen)]
        others = {"--own": named(own) if isinstance(own, str) else own}
        folds = find_folds(bundle, "ABCD", runs, cases or named(names), others)
        return [[case.name for case in fold.cases] for fold in folds]

    return shares


def test_a_patient_goes_to_a_run_that_has_seen_none_of_its_cases(found: Found) -> None:
    assert found("AC", "D") == [["d"], ["a", "b", "c"]]


def test_runs_that_have_not_seen_a_patient_share_the_work(found: Found) -> None:
    assert found("A", "A", "CD") == [["c"], ["d"], ["a", "b"]]


def test_a_patient_that_all_have_seen_is_left_out(found: Found) -> None:
    assert found("A", "B") == [["c"], ["d"]]


def test_a_name_alone_makes_no_patient(found: Found) -> None:
    """Tables without patients, of two sites that count their cases alike."""
    nameless = [Case("c", (), Path()), Case("d", (), Path())]
    assert found("C", "D", cases=nameless, own=[Case("c", (), Path("other"))]) == [["d"], ["c"]]


@pytest.mark.parametrize(
    ("seen", "more", "words"),
    [
        (("",), {}, "keeps no hashes of its cases"),
        (("A", "ABCD"), {}, "run1 has seen all of the patients of --fold-cases"),
        (("AX", "C"), {}, r"run0 was trained with 1 case\(s\) that are not among --fold-cases, X first"),
        (("A", "C"), {"names": "abcde"}, "1 of 5 --fold-cases are no training cases of the model hippocampus, e first"),
        (("A", "C"), {"own": "xd"}, r"--fold-cases and --own share 1 case\(s\) or patients, such as d"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    seen: tuple[str, ...], more: dict[str, str], words: str, found: Found
) -> None:
    with pytest.raises(UsageError, match=words):
        found(*seen, **more)


def test_too_few_patients_for_a_table_are_refused(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "LEAST_PATIENTS", 2)
    with pytest.raises(UsageError, match=r"run0 is left with 1 patient\(s\) that it has not seen"):
        found("AC", "D")


def test_folds_that_memory_does_not_take_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = made_up(0, told=0)
    monkeypatch.setattr(cross_validation, "MOST_BYTES", 2 * one.bytes)
    monkeypatch.setattr(cross_validation, "write_plain_bundle", lambda *_: None)
    monkeypatch.setattr(cross_validation, "Model", lambda _: None)
    predicted: list[str] = []

    def predict_case(case: Case, *_: Any) -> tuple[Any, Any]:
        predicted.append(case.name)
        return one.prediction, one.truth

    monkeypatch.setattr(cross_validation, "predict_case", predict_case)

    def folds(*names: str) -> list[Fold]:
        return [Fold(RunFolder(Path("run")), [Case(name, (), Path()) for name in its]) for its in names]

    found = predicted_by_folds(folds("a", "b"))
    assert len(found.numbers) == len(found.cases) == len(found.tables) == 2 and found.networks == ["run", "run"]
    with pytest.raises(UsageError, match="--fold-cases"):
        predicted_by_folds(folds("ab", "cd"))
    assert predicted[-1] == "c", "it is noticed when the case is predicted that is too much"
