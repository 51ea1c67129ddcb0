"""Choosing the gate of a bundle on validation cases: the highest at which the maps are as good as exact ones.

Every gate gets its own table and tempering scale on the calibration cases, as it will have in the bundle; figures are
those of the validation cases, against exact maps of the same cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.error_probability import fit_with_directions
from SegWithUCore.calibration.gate import Gate
from SegWithUCore.calibration.temperature_scaling import fit_temperature
from SegWithUCore.inference.engines import TORCH
from SegWithUCore.inference.engines.base import Engine, Voxelwise, joined_parts
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import Prediction, tempered_logits
from SegWithUCore.metrics.calibration import negative_log_likelihood
from SegWithUCore.metrics.error_detection import auroc, average_precision, score_groups
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import InputSpec
from SegWithUCore.models.training_record import TrainingRecord
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.progress import Progress, silent

from .calibrate import predict_case
from .dataset import Case
from .recalibrate import calibrated, copy_files

CANDIDATES = (-4.0, -6.0, -8.0)
"""Log-odds, the cheapest first."""
GUARD = {"auroc": -5e-4, "auprc": -1e-3, "nll": 2e-4, "volume": 0.01}
"""What the mean over cases may lose: AUROC and AUPRC of the error probability, NLL of the tempered probabilities; and
by how much the share of expected in true wrong volume, of all cases together, may change."""


class KeptWindows(Engine):
    """An engine that keeps what it said of each window: all gates look at the same."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._kept = engine, dict[bytes, tuple[np.ndarray, np.ndarray, np.ndarray]]()
        self.name, self.device, self.num_classes = engine.name, engine.device, engine.num_classes
        self.response_channels, self.has_aleatoric = engine.response_channels, engine.has_aleatoric
        self.window_bytes, self.steps = engine.window_bytes, engine.steps

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """As `Engine.window`."""
        assert self.steps is not None
        return joined_parts(*self.window_parts(image), self.steps)

    def window_parts(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Engine.window_parts`."""
        key = image.tobytes()
        if key not in self._kept:
            logits, detail, responses = self._engine.window_parts(image)
            self._kept[key] = (logits.copy(), detail.copy(), responses.copy())
        return self._kept[key]

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """As `Engine.maps`."""
        return self._engine.maps(chunk, tempering_scale)

    def versions(self) -> dict[str, str]:
        """As `Engine.versions`."""
        return self._engine.versions()

    def identity(self) -> dict[str, str | None]:
        """As `Engine.identity`."""
        return self._engine.identity()


def gate_figures(
    model: Model, fitting: Sequence[Case], judged: Sequence[Case], gates: Sequence[float], progress: Progress = silent
) -> dict[float | None, dict[str, np.ndarray]]:
    """Measure gates, and exact maps as None: `auroc`, `auprc`, `nll`, `expected` and `true` (voxels), one entry a case.

    Args:
        model: runs on torch, where the gain of its head is known.
        fitting: cases that table and tempering scale are fitted on.
        judged: cases that are measured.
        gates: log-odds.

    Raises:
        UsageError: this head has no coarse responses that could be interpolated.
    """
    if model.engine.steps is None or any(
        length % step for length, step in zip(model.bundle.input.window_zyx, model.engine.steps, strict=True)
    ):
        raise UsageError(f"The head of '{model.bundle.name}' cannot have a gate: all it makes is at full resolution.")
    engine, fitted = model.engine, model.fitted
    choices = [None, *(Gate(value, head_gain(model), len(judged)) for value in gates)]
    predicted: dict[float | None, list[tuple[Prediction, np.ndarray]]] = {_key(gate): [] for gate in choices}
    try:
        for number, case in enumerate([*fitting, *judged]):
            progress("trying gates", number / (len(fitting) + len(judged)), case.name)
            model.engine = KeptWindows(engine)
            for gate in choices:
                model.fitted = replace(fitted, gate=gate)
                predicted[_key(gate)].append(predict_case(case, model))
    finally:
        model.engine, model.fitted = engine, fitted
    return {key: _judged(pairs[: len(fitting)], pairs[len(fitting) :]) for key, pairs in predicted.items()}


def _key(gate: Gate | None) -> float | None:
    return None if gate is None else gate.log_odds


def head_gain(model: Model) -> float:
    """By which the head multiplies the softmax's log-odds."""
    return float(model.network.head.get_parameter("gain").detach())


def _judged(
    fitting: Sequence[tuple[Prediction, np.ndarray]], judged: Sequence[tuple[Prediction, np.ndarray]]
) -> dict[str, np.ndarray]:
    known, truths = zip(*fitting, strict=True)
    errors = [p.classes != truth for p, truth in fitting]
    classes, runner_ups = [p.classes for p in known], [p.runner_up for p in known]
    table = fit_with_directions([p.ranking for p in known], errors, classes, runner_ups)
    scale = fit_temperature([tempered_logits(p) for p in known], truths)
    found: dict[str, list[float]] = {name: [] for name in ("auroc", "auprc", "nll", "expected", "true")}
    for prediction, truth in judged:
        wrong = prediction.classes != truth
        chance = table(prediction.ranking, prediction.classes, prediction.runner_up)
        groups = score_groups(chance.ravel(), wrong.ravel())
        probabilities = softmax(tempered_logits(prediction, scale), 0)
        row = (
            auroc(groups),
            average_precision(groups),
            negative_log_likelihood(probabilities, truth),
            float(chance.sum(dtype=np.float64)),
            float(wrong.sum()),
        )
        for values, value in zip(found.values(), row, strict=True):
            values.append(value)
    return {name: np.asarray(values) for name, values in found.items()}


def changes(found: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return what a gate changes, by the names of `GUARD`."""
    means = {name: float(np.nanmean(found[name] - exact[name])) for name in ("auroc", "auprc", "nll")}
    shares = [each["expected"].sum() / max(1.0, each["true"].sum()) for each in (found, exact)]
    return {**means, "volume": float(shares[0] / shares[1] - 1)}


def within_guard(change: Mapping[str, float]) -> bool:
    """Whether a gate loses no more than `GUARD` allows."""
    good = change["auroc"] >= GUARD["auroc"] and change["auprc"] >= GUARD["auprc"]
    return good and change["nll"] <= GUARD["nll"] and abs(change["volume"]) <= GUARD["volume"]


def choose_gate(
    model: Model, fitting: Sequence[Case], judged: Sequence[Case], progress: Progress = silent
) -> Gate | None:
    """Choose the highest of `CANDIDATES` that keeps the guard in `judged_windows`; None if none does.

    Arguments as for `gate_figures`.
    """
    bundle, kept = model.bundle, list(CANDIDATES)
    try:
        for spec in judged_windows(bundle):
            if not kept:
                break
            model.bundle = replace(bundle, input=spec)
            found = gate_figures(model, fitting, judged, kept, progress)
            kept = [value for value in kept if within_guard(changes(found[value], found[None]))]
    finally:
        model.bundle = bundle
    return Gate(max(kept), head_gain(model), len(judged)) if kept else None


def judged_windows(bundle: Bundle) -> list[InputSpec]:
    """Return the model's input, and the same with windows of half the length if the network takes them.

    Cases that lie in one window have several then, which begin at odd voxels, too.
    """
    spec = bundle.input
    x, y, z = (edge // 2 for edge in spec.window)
    fits = all(edge and edge % each == 0 for edge, each in zip((z, y, x), bundle.backbone.size_divisors, strict=True))
    return [spec, replace(spec, window=(x, y, z))] if fits else [spec]


def regated(bundle: Bundle, fitting: Sequence[Case], judged: Sequence[Case], progress: Progress = silent) -> Bundle:
    """Choose the gate of a calibrated bundle anew, and change nothing else of its calibration.

    Graphs do not come along where they were made for exact maps and there is a gate now, or the other way round.

    Returns:
        `bundle` itself where the gate stays.
    """
    assert bundle.calibration is not None
    before = Gate.from_json(bundle.calibration.get("gate"))
    gate = choose_gate(Model(replace(bundle, graphs=None), engine=TORCH), fitting, judged, progress)
    if _key(gate) == _key(before):
        return bundle
    calibration = {key: value for key, value in bundle.calibration.items() if key != "gate"}
    if gate is not None:
        calibration["gate"] = gate.to_json()
    graphs = bundle.graphs if gate is not None and before is not None else None
    return replace(bundle, calibration=calibration, graphs=graphs)


def gate_sentence(before: Bundle | None, after: Bundle) -> str:
    """Say which gate was chosen for `after`, and whether it is that of `before`, the same model as it was."""
    old, new = (Gate.from_json((each.calibration or {}).get("gate")) if each else None for each in (before, after))
    if new is None:
        none = "none of those tried keeps the maps as good as exact ones"
        return f"No gate was set: {none}." if old is None else f"The gate of {old.log_odds:g} was taken out: {none}."
    same = "; that of the model" if _key(old) == _key(new) else ""
    return f"Gate: maps are exact where the softmax's log-odds of an error are {new.log_odds:g} or more{same}."


def with_gate(
    bundle: Bundle,
    fitting: Sequence[Case],
    judged: Sequence[Case],
    target: Path,
    progress: Progress = silent,
    record: TrainingRecord | None = None,
) -> Bundle:
    """Choose the gate of a bundle, and write the bundle with it and a calibration of its own; whole or not at all.

    Graphs and figures, which were made for other maps, do not come along. For a bundle whose calibration comes from
    other cases see `regated`.

    Args:
        bundle: read from a folder, `target` perhaps.
        record: of the training, with what has seen the cases; None for the bundle's own.

    Returns:
        What was written; the calibration is new, and without a gate if none keeps the guard.
    """
    model = Model(replace(bundle, graphs=None), engine=TORCH)
    gate = choose_gate(model, fitting, judged, progress)
    plain = replace(bundle, calibration=None, display=None, figures=None, graphs=None)
    with atomic_folder(target, overwrite=True) as work:
        copy_files(bundle, None, work, record)
        written = calibrated(plain, fitting, work, "cpu", progress, TORCH, gate)
    return replace(written, folder=target)
