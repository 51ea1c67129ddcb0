"""Does an error probability that sees the image find errors better? Judged by nested folds, then once on test cases.

    python Testing/Benchmarks/stage_two.py [--model hippocampus] [--data ../shared/data] [--cache FOLDER] [--test]

Everything is refitted in every fold, the rivals too: today's table of the ranking map, a logistic regression of softmax
and distance to the boundary by direction, boosted trees that see the same features. Five folds by patient over the
calibration and select cases, three seeds of the networks. With --test then once on the test cases, all fitted
on calibration and select. Writes `results/stage_two.json` and `.md`. Needs scikit-learn for the trees.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
from scipy.special import expit, softmax  # noqa: E402

from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.prediction import NetworkView, Prediction  # noqa: E402
from SegWithUCore.inference.segment import Job, segment  # noqa: E402
from SegWithUCore.metrics.bootstrap import paired_bootstrap  # noqa: E402
from SegWithUCore.metrics.calibration import brier_score, expected_calibration_error  # noqa: E402
from SegWithUCore.metrics.error_detection import metrics_of, region_groups  # noqa: E402
from SegWithUCore.metrics.overlap import Band  # noqa: E402
from SegWithUCore.models.registry import resolve_model  # noqa: E402
from SegWithULab.benchmark.baselines.softmax_distance import class_pairs, distance_terms, logistic_weights  # noqa: E402
from SegWithULab.training.calibrate import predict_case  # noqa: E402
from SegWithULab.training.dataset import find_cases  # noqa: E402
from SegWithULab.training.fit_stage_two import (  # noqa: E402
    FitSettings,
    doubt_features,
    fit_stage_two,
    fit_table,
    folds_of,
    table_probability,
    tables_of_folds,
)
from SegWithULab.training.reference_cases import ReferenceCase  # noqa: E402

RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "stage_two.json"
SEEDS = (0, 1, 2)
FOLDS = 5
TABLE, LOGISTIC, TREES, STAGE_TWO = "table of the ranking map", "softmax + distance", "boosted trees", "stage two"
SHOWN_MM3 = 500.0
TIMED, TURNS = 6, 7
SURE_LOG_ODDS, THINNED = -7.0, 16
"""Of voxels away from the boundary that the softmax is surer of, one in so many stands for all in the logistic fit."""
METRICS = ("auprc", "auroc", "aurc", "band aurc", "brier", "cross-entropy", "found mm3")
FIELDS = ("logits", "classes", "runner_up", "calibration", "ranking", "epistemic", "aleatoric")
Score = Callable[["Measured"], np.ndarray]


@dataclass(frozen=True)
class Measured(ReferenceCase):
    """A case with what only benchmarks look at.

    Attributes:
        distance: to the predicted boundary, mm.
    """

    distance: np.ndarray


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--cache", type=Path, help="folder that keeps what the network said")
    parser.add_argument("--test", action="store_true", help="only measure the test cases, once, for the winner")
    parser.add_argument("--time", action="store_true", help="only measure the time that the model's stage two adds")
    options = parser.parse_args()
    table = options.data / "hippocampus" / "split.csv"
    if options.time:
        result = {**_earlier(options.model), "time": _added_time(table, options.model)}
        return _written(result)
    cases = measured_cases(table, ("calibration", "select"), options)
    if options.test:
        found = _on_test(cases, measured_cases(table, ("test",), options))
        return _written({**_earlier(options.model), "test": found})
    return _written({"model": options.model, "nested": _nested(cases)})


def _earlier(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"model": model}
    return found


def _written(result: Mapping[str, Any]) -> int:
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(_page(result), encoding="utf-8")
    print(_page(result))
    return 0


def _added_time(table: Path, name: str) -> dict[str, Any]:
    """Processor time of whole cases, read and written, with and without stage two in turn, on one thread."""
    model = Model(resolve_model(name), "cpu", engine="auto")
    both = {"with": model.fitted, "without": replace(model.fitted, stage_two=None)}
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    with TemporaryDirectory() as folder:
        for number, case in enumerate(find_cases(f"{table}:test")[:TIMED]):
            for turn in range(-1, TURNS):
                for which in both:
                    model.fitted = both[which]
                    job = Job(case.name, case.channels, Path(folder) / f"{number}-{turn}-{which}")
                    begun = time.process_time()
                    segment(job, model)
                    if turn >= 0:  # the first turn warms up
                        seconds[which].append(time.process_time() - begun)
    sums = {which: float(np.min(np.reshape(values, (TIMED, TURNS)), 1).sum()) for which, values in seconds.items()}
    return {
        "cases": TIMED,
        "seconds": sums,
        "added": sums["with"] / sums["without"] - 1,
        "engine": model.engine.identity(),
    }


def measured_cases(table: Path, roles: Sequence[str], options: argparse.Namespace) -> list[Measured]:
    """Predict the cases of some roles, or take what the folder `cache` keeps of them."""
    return [case for role in roles for case in _cases(f"{table}:{role}", options, role)]


def _cases(source: str, options: argparse.Namespace, role: str) -> list[Measured]:
    model: Model | None = None
    found = []
    for case in find_cases(source):
        file = options.cache / f"{role}_{case.name}.npz" if options.cache else None
        if file is None or not file.is_file():
            model = model or Model(resolve_model(options.model), "cpu")
            prediction, truth = predict_case(case, model)
            if file is not None:
                _keep(file, prediction, truth)
        else:
            prediction, truth = _kept(file)
        assert prediction.view is not None
        distance = Band().distance(prediction.classes, prediction.view.spacing_mm)
        found.append(Measured(prediction, truth, case.group, distance))
    return found


def _keep(file: Path, prediction: Prediction, truth: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    view = prediction.view
    assert view is not None
    arrays = {name: getattr(prediction, name) for name in FIELDS}
    seen = {"image": view.image, "order": view.order, "working_mm": view.working_mm, "spacing_mm": view.spacing_mm}
    np.savez(file, truth=truth, voxel=prediction.voxel_mm3, **arrays, **seen)


def _kept(file: Path) -> tuple[Prediction, np.ndarray]:
    with np.load(file) as arrays:
        order, working, spacing = (tuple(arrays[name].tolist()) for name in ("order", "working_mm", "spacing_mm"))
        view = NetworkView(arrays["image"], order, working, spacing)
        maps = {name: arrays[name] for name in FIELDS}
        return Prediction(**maps, voxel_mm3=float(arrays["voxel"]), view=view), arrays["truth"]


def _nested(cases: Sequence[Measured]) -> dict[str, Any]:
    folds = folds_of([case.group for case in cases], 100, FOLDS)
    answers: list[dict[str, list[np.ndarray]]] = [{} for _ in SEEDS]
    for fold in range(FOLDS):
        fitted = _fitted([case for case, own in zip(cases, folds, strict=True) if own != fold])
        for number in np.flatnonzero(folds == fold).tolist():
            for run, found in zip(answers, _answers(cases[number], fitted), strict=True):
                for name, score in found.items():
                    run.setdefault(name, [np.empty(0)] * len(cases))[number] = score
        print(f"fold {fold} done", file=sys.stderr, flush=True)
    runs = [{name: measured_scores(cases, scores) for name, scores in run.items()} for run in answers]
    return _compared([case.group for case in cases], runs)


def _on_test(cases: Sequence[Measured], test: Sequence[Measured]) -> dict[str, Any]:
    fitted = _fitted(cases)
    answers = [_answers(case, fitted) for case in test]
    runs = [
        {name: measured_scores(test, [answer[number][name] for answer in answers]) for name in answers[0][number]}
        for number in range(len(SEEDS))
    ]
    return _compared([case.group for case in test], runs)


def _answers(case: Measured, fitted: Mapping[str, Sequence[Score]]) -> list[dict[str, np.ndarray]]:
    """Score a case with all that was fitted, one answer a seed; what knows no seed answers once."""
    found = {name: [score(case) for score in scores] for name, scores in fitted.items()}
    return [{name: scores[number % len(scores)] for name, scores in found.items()} for number in range(len(SEEDS))]


def _fitted(cases: Sequence[Measured]) -> dict[str, list[Score]]:
    """Fit everything that is compared on the same cases."""
    ours = fitted_scores(cases)
    return {
        TABLE: ours[TABLE],
        LOGISTIC: [_logistic(cases)],
        TREES: [_trees(cases, ours[TABLE][0])],
        STAGE_TWO: ours[STAGE_TWO],
    }


def fitted_scores(cases: Sequence[Measured]) -> dict[str, list[Score]]:
    """Fit the table, and stage two once a seed."""
    table, fold_tables = fit_table(cases), tables_of_folds(cases)

    def before(case: Measured) -> np.ndarray:
        return table_probability(case.prediction, table)

    def after(seed: int) -> Score:
        found = fit_stage_two(cases, table, seed, fold_tables)
        assert found is not None
        stage = found.stage

        def score(case: Measured) -> np.ndarray:
            chance = before(case)
            voxels, features = doubt_features(case, chance, stage.pairs, case.view.steps(stage.axes))
            chance[voxels] = stage.probability(features)
            return chance

        return score

    return {TABLE: [before], STAGE_TWO: [after(seed) for seed in SEEDS]}


def _logistic(cases: Sequence[Measured]) -> Score:
    """Logistic regression of 7 terms of softmax and distance for each pair of predicted class and runner-up."""
    terms = [_terms(case) for case in cases]
    keys = [_pair(case) for case in cases]
    weights: dict[int, np.ndarray] = {}
    sure = [
        (term[1] < SURE_LOG_ODDS / 4) & (case.distance > Band().width) for term, case in zip(terms, cases, strict=True)
    ]
    weigh = [np.where(each, THINNED, 1) * (~each | (_scan(each) % THINNED == 0)) for each in sure]
    for key in np.unique(np.concatenate([np.unique(each) for each in keys])).tolist():
        here = [(k == key) & (w > 0) for k, w in zip(keys, weigh, strict=True)]
        x = np.concatenate([t[:, h].T for t, h in zip(terms, here, strict=True)])
        y = np.concatenate([case.wrong[h] for case, h in zip(cases, here, strict=True)])
        w = np.concatenate([each[h] for each, h in zip(weigh, here, strict=True)])
        weights[key] = logistic_weights(x, y, w)

    def score(case: Measured) -> np.ndarray:
        found, key, x = np.zeros(case.wrong.shape, np.float32), _pair(case), _terms(case)
        for each, weight in weights.items():
            here = key == each
            found[here] = expit(weight @ x[:, here])
        return found

    return score


def _terms(case: Measured) -> np.ndarray:
    """Terms (7, z, y, x) of a case."""
    return distance_terms(softmax(case.prediction.logits.astype(np.float64), 0), case.distance)


def _pair(case: Measured) -> np.ndarray:
    return class_pairs(case.prediction.classes, case.prediction.runner_up)


def _scan(values: np.ndarray) -> np.ndarray:
    return np.arange(values.size).reshape(values.shape)


def _trees(cases: Sequence[Measured], before: Score) -> Score:
    """Boosted trees on the features of stage two, image included, and the distance."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings = FitSettings.of(cases, 0)

    def seen(case: Measured) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        steps = case.view.steps(settings.axes)
        voxels, features = doubt_features(case, before(case), settings.pairs, steps)
        return voxels, np.concatenate([features, case.distance[voxels][:, None]], 1)

    parts = [(seen(case), case.wrong) for case in cases]
    x = np.concatenate([features for (_, features), _ in parts])
    y = np.concatenate([wrong[voxels] for (voxels, _), wrong in parts])
    model = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.08, max_leaf_nodes=15, min_samples_leaf=200, l2_regularization=1.0, random_state=0
    ).fit(x, y)

    def score(case: Measured) -> np.ndarray:
        found = before(case)
        voxels, features = seen(case)
        found[voxels] = model.predict_proba(features)[:, 1]
        return found

    return score


@dataclass(frozen=True)
class Figures:
    """Metrics of each case by name, and of all cases together."""

    by_case: dict[str, list[float]]
    pooled: dict[str, float]


def measured_scores(cases: Sequence[Measured], scores: Sequence[np.ndarray]) -> Figures:
    """Metrics of each case for its error probability, and of all together."""
    rows, near, ratios = [], [], []
    for case, score in zip(cases, scores, strict=True):
        band = case.distance <= Band().width
        groups = region_groups(np.asarray(score, np.float32), case.wrong, {"whole": None, "band": band})
        whole = metrics_of(groups["whole"])
        p = np.clip(score.astype(np.float64), 1e-7, 1 - 1e-7)
        shown = np.argsort(score, axis=None, kind="stable")[::-1][: round(SHOWN_MM3 / case.prediction.voxel_mm3)]
        rows.append(
            {
                "auprc": whole["auprc"],
                "auroc": whole["auroc"],
                "aurc": 1000 * whole["aurc"],
                "band aurc": 1000 * metrics_of(groups["band"])["aurc"],
                "brier": brier_score(score, case.wrong),
                "cross-entropy": float(-np.log(np.where(case.wrong, p, 1 - p)).mean()),
                "found mm3": float(case.wrong.ravel()[shown].sum()) * case.prediction.voxel_mm3,
            }
        )
        near.append((score[band], case.wrong[band]))
        ratios.append((float(score.sum(dtype=np.float64)), float(case.wrong.sum())))
    sums = np.asarray(ratios)
    each = sums[:, 0] / np.maximum(sums[:, 1], 1)
    pooled = {
        "ece band": expected_calibration_error(*(np.concatenate(part) for part in zip(*near, strict=True))),
        "expected / true": float(sums[:, 0].sum() / sums[:, 1].sum()),
        "cases within 20 %": float((np.abs(each - 1) <= 0.2).mean()),
    }
    return Figures({key: [row[key] for row in rows] for key in METRICS}, pooled)


def _compared(groups: Sequence[str], runs: Sequence[Mapping[str, Figures]]) -> dict[str, Any]:
    """Means over seeds, and differences to stage two with their bootstrap intervals over patients."""
    names = list(runs[0])
    mean = {name: {m: np.mean([run[name].by_case[m] for run in runs], 0) for m in METRICS} for name in names}
    pooled = {name: {k: [run[name].pooled[k] for run in runs] for k in runs[0][name].pooled} for name in names}
    differences = {
        name: {
            m: asdict(paired_bootstrap(mean[STAGE_TWO][m].tolist(), mean[name][m].tolist(), groups=groups))
            for m in METRICS
        }
        for name in names
        if name != STAGE_TWO
    }
    return {
        "cases": len(groups),
        "seeds": len(runs),
        "means": {name: {m: float(np.nanmean(values)) for m, values in mean[name].items()} for name in names},
        "auprc_by_seed": {name: [float(np.nanmean(run[name].by_case["auprc"])) for run in runs] for name in names},
        "pooled": pooled,
        "stage_two_minus": differences,
    }


TITLES = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "aurc": "AURC x 1000",
    "band aurc": "AURC in the band x 1000",
    "brier": "Brier score of the error",
    "cross-entropy": "cross-entropy of the error",
    "found mm3": "wrong mm3 among the 500 mm3 shown first",
}


def _page(result: Mapping[str, Any]) -> str:
    words = {
        "nested": "Nested folds by patient over calibration and select: everything refitted in each fold",
        "test": "Test cases, measured once: everything fitted on calibration and select",
    }
    lines = ["# `python Testing/Benchmarks/stage_two.py`", "", f"Model {result['model']}."]
    for part, title in words.items():
        if part in result:
            lines += ["", f"## {title}", "", *_tables(result[part])]
    if "time" in result:
        found, seconds = result["time"], result["time"]["seconds"]
        lines += ["", "## Time", ""]
        lines.append(
            f"Stage two adds {found['added']:.1%} to the processor time of a whole case ({seconds['with']:.2f} "
            f"instead of {seconds['without']:.2f} s for {found['cases']} cases, read and written; engine "
            f"{found['engine']['name']}, least of {TURNS} turns)."
        )
    return "\n".join(lines) + "\n"


def _tables(found: Mapping[str, Any]) -> list[str]:
    names = list(found["means"])
    lines = [f"{found['cases']} cases, mean over {found['seeds']} seeds.", "", f"| | {' | '.join(names)} |"]
    lines.append("|---|" + "---|" * len(names))
    for metric, title in TITLES.items():
        lines.append(f"| {title} | " + " | ".join(f"{found['means'][name][metric]:.4g}" for name in names) + " |")
    for key in found["pooled"][names[0]]:
        cells = [f"{np.mean(found['pooled'][name][key]):.4g}" for name in names]
        lines.append(f"| {key}, pooled | " + " | ".join(cells) + " |")
    rivals = list(found["stage_two_minus"])
    lines += ["", "Stage two minus the other, with 95 % bootstrap intervals over patients.", ""]
    lines += [f"| | {' | '.join(rivals)} |", "|---|" + "---|" * len(rivals)]
    for metric, title in TITLES.items():
        cells = [found["stage_two_minus"][name][metric] for name in rivals]
        texts = [f"{c['mean']:+.4g} ({c['low']:+.4g} to {c['high']:+.4g})" for c in cells]
        lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
