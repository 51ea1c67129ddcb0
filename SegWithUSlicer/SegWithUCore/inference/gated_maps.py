"""The head's maps where there is doubt, and interpolated ones elsewhere.

Where the softmax gives an error less than the gate's log-odds, the head hardly tells voxels from their neighbours: its
correction of these log-odds and its tempering are computed on the coarse grid that its responses are made on, and
interpolated. Above the gate every voxel gets its own. What is passed on is linear in both, so it may be interpolated on
another grid: logits, correction, softening (the calibration map before its softplus), and both parts of the evidence.
"""

from dataclasses import dataclass

import numpy as np

from ..calibration.case_level import ProbabilitySums
from ..calibration.gate import Gate
from .coarse_grid import interpolated, pooled, rows_at
from .engines.base import Engine, Voxelwise

CHUNK_VOXELS = 32768
"""Voxels a step, as for maps of every voxel."""
LEAST_SOFTENING, LINEAR_SOFTENING = np.float32(-20), np.float32(20)
"""Below the first the softplus is 0 in effect, beyond the second its argument."""
ROUNDING = 1e-3
"""Of log-odds, which are rounded to float32."""
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Parts:
    """What windows say of a part of a volume, stitched, each on its own grid.

    Attributes:
        fine: logits and detail, float32 (channels, z, y, x).
        coarse: responses, float32 (channels, z, y, x).
        first: coarse voxel that `coarse` begins with, (z, y, x).
        steps: voxels in a coarse one along each axis.
        start: voxel that `fine` begins with, (z, y, x).
    """

    fine: np.ndarray
    coarse: np.ndarray
    first: Triple
    steps: Triple
    start: Triple


def gated_channels(engine: Engine) -> int:
    """Count what `gated` gives for a voxel."""
    return engine.num_classes + 3 + engine.has_aleatoric


def coarse_maps(engine: Engine, gate: Gate, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Compute correction, softening and parts of the evidence on the coarse grid, (3 or 4, z, y, x).

    Args:
        fine: logits and detail, averaged over coarse voxels.
        coarse: responses.
    """
    classes, shape = engine.num_classes, fine.shape[1:]
    chunk = np.concatenate([fine[:classes], coarse]).reshape(classes + len(coarse), -1)
    chunk[-(len(fine) - classes) :] += fine[classes:].reshape(len(fine) - classes, -1)
    found = np.empty((3 + engine.has_aleatoric, chunk.shape[1]), np.float32)
    odds = doubt(chunk[:classes]).odds
    _exact(engine, gate, chunk, odds, found)
    return found.reshape(-1, *shape)


def gated(engine: Engine, gate: Gate, parts: Parts, maps: np.ndarray) -> np.ndarray:
    """Compute logits, correction, softening and parts of the evidence of every voxel.

    Args:
        maps: of `coarse_maps`, on the grid of `parts.coarse`.

    Returns:
        Float32 (`gated_channels`, z, y, x).
    """
    classes, shape = engine.num_classes, parts.fine.shape[1:]
    found = np.empty((gated_channels(engine), *shape), np.float32)
    found[:classes] = parts.fine[:classes]
    box = [slice(start, start + size) for start, size in zip(parts.start, shape, strict=True)]
    found[classes:] = interpolated(maps, parts.steps, parts.first, box)
    flat = found.reshape(len(found), -1)
    chosen, odds = above_gate(flat[:classes], gate.log_odds)
    if not chosen.size:
        return found
    voxels = [index + start for index, start in zip(np.unravel_index(chosen, shape), parts.start, strict=True)]
    table = np.ascontiguousarray(parts.coarse.reshape(len(parts.coarse), -1).T)
    rows = rows_at(table, parts.coarse.shape[1:], parts.steps, parts.first, voxels)
    chunk = np.empty((classes + rows.shape[1], chosen.size), np.float32)
    np.take(flat[:classes], chosen, 1, out=chunk[:classes], mode="clip")  # far faster than flat[:classes, chosen]
    chunk[classes:] = rows.T
    detail = parts.fine[classes:].reshape(len(parts.fine) - classes, -1)
    chunk[-len(detail) :] += np.take(detail, chosen, 1)
    exact = np.empty((len(flat) - classes, chosen.size), np.float32)
    _exact(engine, gate, chunk, odds, exact)
    for row, values in zip(flat[classes:], exact, strict=True):
        row[chosen] = values
    return found


def gated_window(
    engine: Engine, gate: Gate, logits: np.ndarray, detail: np.ndarray, responses: np.ndarray
) -> np.ndarray:
    """Compute what `gated` gives of one window; arguments as `Engine.window_parts` gives them."""
    assert engine.steps is not None
    fine = np.concatenate([logits, detail])
    parts = Parts(fine, responses, (0, 0, 0), engine.steps, (0, 0, 0))
    return gated(engine, gate, parts, coarse_maps(engine, gate, pooled(fine, engine.steps), responses))


def _exact(engine: Engine, gate: Gate, chunk: np.ndarray, odds: np.ndarray, found: np.ndarray) -> None:
    """Run the head on voxels; `found` gets correction, softening and parts of the evidence."""
    for start in range(0, chunk.shape[1], CHUNK_VOXELS):
        part = slice(start, start + CHUNK_VOXELS)
        maps = engine.maps(np.ascontiguousarray(chunk[:, part]))
        np.subtract(maps.ranking, np.float32(gate.gain) * odds[part], out=found[0, part])
        found[1, part] = _before_softplus(maps.calibration)
        found[2, part] = maps.epistemic
        if maps.aleatoric is not None:
            found[3, part] = maps.aleatoric


def _before_softplus(values: np.ndarray) -> np.ndarray:
    small = np.minimum(values, LINEAR_SOFTENING)
    with np.errstate(divide="ignore"):
        found = np.log(np.expm1(small))
    return np.where(values > LINEAR_SOFTENING, values, np.maximum(found, LEAST_SOFTENING))


@dataclass(frozen=True)
class Doubt:
    """What logits alone say; arrays (voxels,).

    Attributes:
        odds: log-odds of an error by the softmax, float32.
        best: the largest logit.
        classes, runner_up: of the largest and the second largest logit, uint8; the lower one of two that tie.
    """

    odds: np.ndarray
    best: np.ndarray
    classes: np.ndarray
    runner_up: np.ndarray


def doubt(logits: np.ndarray) -> Doubt:
    """Find the two largest of (classes, voxels), and log((1 - p) / p) for the largest probability p.

    The log-odds are exact also where p rounds to 1: the best class counts 1 in the sum, as the second does.
    """
    best, second = logits[0], np.full_like(logits[0], -np.inf)
    first_class, second_class = np.zeros(best.shape, np.uint8), np.zeros(best.shape, np.uint8)
    for number, value in enumerate(logits[1:], 1):
        larger, next_one = value > best, value > second
        _choose(second_class, np.uint8(number), next_one)
        _choose(second_class, first_class, larger)
        _choose(first_class, np.uint8(number), larger)
        np.maximum(second, np.minimum(best, value), out=second)
        best = np.maximum(best, value)
    others, spare = np.full(best.shape, -1, np.float32), np.empty(best.shape, np.float32)
    for value in logits:
        np.minimum(np.subtract(value, second, out=spare), 0, out=spare)
        others += np.exp(spare, out=spare)
    np.log(others, out=others)
    others += second
    others -= best
    return Doubt(others, best, first_class, second_class)


def _choose(found: np.ndarray, other: np.ndarray | np.uint8, where: np.ndarray) -> None:
    """Put `other` into `found` (uint8) where the boolean says so: by bits, an eighth of the time of `numpy.where`."""
    changed = found ^ other
    changed &= np.negative(where.view(np.uint8))  # all bits of 1
    found ^= changed


def above_gate(logits: np.ndarray, log_odds: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the voxels of (classes, voxels) that an error is as likely at, by the softmax, and their log-odds.

    Log-odds lie between the lead of the second class and log(classes - 1) more: most voxels need no exponentials.
    """
    best, second = logits[0], np.full_like(logits[0], -np.inf)
    for value in logits[1:]:
        second = np.maximum(second, np.minimum(best, value))
        best = np.maximum(best, value)
    near = np.flatnonzero(second - best >= np.float32(log_odds - np.log(max(1, len(logits) - 1)) - ROUNDING))
    odds = doubt(np.take(logits, near, 1)).odds
    above = odds >= log_odds
    return near[above], odds[above]


def maps_of_gated(engine: Engine, gate: Gate, values: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
    """Make classes and maps of what `gated` gave, voxel by voxel, on whatever grid it was brought to.

    Args:
        values: float32 (channels, *any).
        tempering_scale: by which tempered logits are divided before the softmax.
    """
    shape = values.shape[1:]
    flat = values.reshape(len(values), -1)
    count = flat.shape[1]
    kinds = (np.uint8, np.uint8, np.float32, np.float32)
    classes, runner_up, calibration, ranking = (np.empty(count, kind) for kind in kinds)
    sums = ProbabilitySums.zeros(engine.num_classes)
    number = engine.num_classes
    for start in range(0, count, CHUNK_VOXELS):
        part = slice(start, min(start + CHUNK_VOXELS, count))
        logits = np.ascontiguousarray(flat[:number, part])
        found = doubt(logits)
        classes[part], runner_up[part] = found.classes, found.runner_up
        ranking[part] = np.float32(gate.gain) * found.odds + flat[number, part]
        softened = _softplus(flat[number + 1, part])
        calibration[part] = softened
        sums += _tempered_sums(logits, found, np.sqrt(1 + softened) * np.float32(tempering_scale))
    return Voxelwise(
        classes.reshape(shape),
        runner_up.reshape(shape),
        calibration.reshape(shape),
        ranking.reshape(shape),
        values[number + 2],
        values[number + 3] if engine.has_aleatoric else None,
        sums,
    )


def _softplus(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(values, 0) + np.log(1 + np.exp(-np.abs(values)))
    return found


def _tempered_sums(logits: np.ndarray, found: Doubt, divisor: np.ndarray) -> ProbabilitySums:
    """Sum probabilities of the tempered logits, by class."""
    inverse = 1 / divisor
    raised = [np.exp((value - found.best) * inverse) for value in logits]
    total = raised[0].copy()
    for each in raised[1:]:
        total += each
    np.divide(1, total, out=total)
    expected, inside, ambiguous = (np.empty(len(raised), np.float64) for _ in range(3))
    for number, each in enumerate(raised):
        each *= total
        expected[number] = each.sum(dtype=np.float64)
        inside[number] = each.sum(where=found.classes == number, dtype=np.float64)
        ambiguous[number] = expected[number] - np.square(each).sum(dtype=np.float64)
    return ProbabilitySums(expected, inside, ambiguous)
