"""Evaluations summed up, against scikit-learn on the same voxels and against plain counting."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from evaluated_cases import evaluated, image, made_up, nothing_there, shipped_bundle
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models import model_card as cards
from SegWithULab.evaluation.case_metrics import OUR_SCORE, detection_metrics, measure_case, recorded_metrics
from SegWithULab.evaluation.evaluate import Evaluation, add_case, recorded, summary
from SegWithULab.evaluation.report import markdown, report_tables, write_report
from SegWithULab.training.dataset import Case

SEEDS = range(6)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at how wide an interval over cases is."""
    monkeypatch.setattr("SegWithULab.evaluation.evaluate.DRAWS", 20)


def row(result: dict[str, object], figure: str, region: str, score: str) -> dict[str, float]:
    rows = [r for r in result["detection"] if (r["value"], r["region"], r["score"]) == (figure, region, score)]  # type: ignore[attr-defined]
    assert len(rows) == 1
    return dict(rows[0])


def test_means_and_pooled_figures_are_those_of_scikit_learn() -> None:
    result = summary(*evaluated(SEEDS))
    areas = []
    for seed in SEEDS:
        prediction, truth = made_up(seed)
        wrong, unsure = prediction.classes != truth, 1 - softmax(prediction.logits.astype(np.float64), 0).max(0)
        areas.append(roc_auc_score(wrong.ravel(), unsure.ravel()))
    auroc = row(result, "auroc", "whole", "softmax")
    assert auroc["mean"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_regions_hold_what_their_words_say() -> None:
    prediction, truth = made_up(0)
    bundle = shipped_bundle()
    case = measure_case(prediction, truth, (2.0, 1.5, 1.0), bundle, Band(2.0))
    band, inside = case.regions["band"], case.regions["inside"]
    assert not (band & inside).any()
    assert (((prediction.classes > 0) & ~band) == inside).all()
    own = case.regions[bundle.labels[1].name]
    assert (own == ((prediction.classes == 1) | (truth == 1))).all()
    assert (own & (prediction.classes != 1)).any(), "what was missed of a structure counts for it"
    assert case.regions["whole"].all()


@pytest.mark.parametrize("judged_as", [(0, 1, 1), (0, 1, 0)], ids=["one label for both", "second without a label"])
def test_structures_without_labels_of_their_own_are_measured_as_sums(judged_as: tuple[int, ...]) -> None:
    prediction, truth = made_up(0)
    bundle, groups = shipped_bundle(), np.array(judged_as)
    case = measure_case(prediction, groups[truth], (2.0, 1.5, 1.0), bundle, Band(2.0), groups)
    drawn, true = groups[prediction.classes] == 1, groups[truth] == 1
    assert (case.error == (drawn != true)).all()
    metrics = recorded_metrics(case, detection_metrics(case), bundle)
    dice = {title[5:]: value for title, value in metrics.items() if title.startswith("dice ")}
    first, second = (label.name for label in bundle.labels[1:])
    name = f"{first} + {second}" if judged_as[2] else first
    assert dice == {name: pytest.approx(2 * (drawn & true).sum() / (drawn.sum() + true.sum()))}
    inside = softmax(prediction.logits.astype(np.float64), 0)[groups == 1].sum(0)
    assert metrics["nll plain"] == pytest.approx(-np.log(np.where(true, inside, 1 - inside)).mean())
    own = measure_case(prediction, truth, (2.0, 1.5, 1.0), bundle, Band(2.0))
    # 1 - softmax is the chance that the label is wrong, and the error probability shrinks as it does.
    chance = np.where(drawn, 1 - inside, inside)
    assert case.scores["softmax"] == pytest.approx(chance, abs=1e-6)
    shrunk = case.scores[OUR_SCORE] / own.scores[OUR_SCORE]
    assert shrunk == pytest.approx(chance / own.scores["softmax"], rel=1e-3, abs=1e-4) and shrunk.min() < 0.5


def test_cases_without_errors_are_counted_and_left_out_of_means() -> None:
    without, more = (summary(*evaluated(range(3), flawless=count)) for count in (0, 2))
    regions = {entry["region"]: entry for entry in more["regions"]}
    assert regions["whole"]["cases_without_errors"] == 2
    assert regions["whole"]["error_rate"]["cases"] == 5
    few, many = row(without, "auroc", "whole", "ranking"), row(more, "auroc", "whole", "ranking")
    assert (few["mean"], few["cases"]) == (many["mean"], many["cases"])
    assert row(more, "aurc", "whole", "ranking")["cases"] == 5


def test_what_is_said_of_all_cases_is_json_without_nan_and_fits_the_bundle() -> None:
    evaluation, bundle = evaluated(range(2), flawless=1)
    result = summary(evaluation, bundle)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    kept = recorded(result)
    assert set(kept) == {"cases", "table", "comparisons", "by_case"}
    titles = {entry["title"] for entry in kept["table"]}
    template = Path(cards.__file__).with_name("model_card.md.jinja").read_text(encoding="utf-8")
    named = re.findall(r'^  \["([^"]+)", "[^"]+", \d+\],$', template, re.MULTILINE)
    assert len(named) == 17 and set(named) <= titles
    assert bundle.metrics is not None
    assert {entry["title"] for entry in bundle.metrics["table"]} <= titles
    assert "AUROC" in cards.model_card(bundle)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("empty", [True, False])
def test_cases_in_which_nothing_is_wrong_or_nothing_is_there_make_a_report(empty: bool, tmp_path: Path) -> None:
    evaluation, bundle = evaluated(range(0), flawless=2)
    if empty:
        evaluation = Evaluation()
        add_case(evaluation, Case("empty", (), Path()), *nothing_there(), [image()], bundle)
    result = summary(evaluation, bundle)
    json.dumps(result, allow_nan=False)
    assert all(entry["cases_without_errors"] == len(evaluation.cases) for entry in result["regions"])
    assert row(result, "auroc", "whole", "ranking")["mean"] is None
    assert "aurc whole, ranking / softmax" not in result["comparisons"]
    write_report(tmp_path, result, evaluation, bundle, "made up")
    assert (tmp_path / "report.html").is_file()


def test_two_phases_of_a_heart_make_one_patient() -> None:
    apart, together = summary(*evaluated(SEEDS)), summary(*evaluated(SEEDS, patients=3))
    assert (apart["patients"], together["patients"]) == (6, 3)
    first, second = row(apart, "aurc", "whole", "ranking"), row(together, "aurc", "whole", "ranking")
    assert first["mean"] == second["mean"]
    assert (first["low"], first["high"]) != (second["low"], second["high"])


def test_without_calibration_there_is_no_error_probability_and_all_else() -> None:
    result = summary(*evaluated(range(2), calibrated=False))
    assert {entry["score"] for entry in result["detection"]} == {"ranking", "softmax", "distance"}
    assert result["reliability"] == {}
    assert all("predicted_dice" not in entry for entry in result["structures"])
    titles = [table.title for table in report_tables(result)]
    assert "Error detection, mean over cases" in titles and "Predicted Dice" not in titles


def test_a_band_in_voxels_trusts_no_spacing() -> None:
    result = summary(*evaluated(range(2), Band(2, in_slices=True)))
    assert not any(entry["title"].startswith("surface dice") for entry in result["table"])
    assert "2 voxels in the plane of the slices" in markdown(report_tables(result))


def test_intervals_hold_what_plain_counting_finds() -> None:
    evaluation, bundle = evaluated(SEEDS)
    entries = [case.structures[0] for case in evaluation.cases]
    held = np.mean([entry["low_mm3"] <= entry["true_mm3"] <= entry["high_mm3"] for entry in entries])
    found = summary(evaluation, bundle)["structures"][0]
    assert found["volume_interval"]["coverage"] == held
    errors = [abs(entry["dice"] - entry["predicted_dice"]) for entry in entries]
    assert found["predicted_dice"]["mean_absolute_error"]["value"] == pytest.approx(np.mean(errors))
