"""Second-stage error classifier: a small network that sees the image, on top of the ranking map's table.

The table (`error_probability`) turns the ranking map into an error probability voxel by voxel. Where that is above
`LOOKS_ABOVE`, the second stage reads the head's maps, the pair of classes, and image and score around the voxel
(`local_features`), and shifts the log-odds. Its probabilities are calibrated last, on values cross-validated by
patient. numpy alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .local_features import Steps, Voxels, boundary_normals, local_features, mask_features

LOOKS_ABOVE = 0.01
"""Error probability of the table above which a second stage looks whose bundle does not say."""
FLOOR = 1e-6
MAPS = ("log-odds of the table", "ranking", "log-odds of the softmax", "tempering", "energy", "aleatoric")
CHUNK = 512
"""Voxels that the network sees at once: what it computes of them stays in the L2 cache."""

Pairs = tuple[tuple[int, int], ...]
"""Predicted class and runner-up."""
Mask = tuple[np.ndarray, np.ndarray]
"""Index of the most and second most probable class, (z, y, x)."""


@dataclass(frozen=True)
class HeadMaps:
    """What the head says of each voxel, arrays (z, y, x).

    Attributes:
        classes, runner_up: index of the most and second most probable class.
        ranking, calibration, epistemic: float32.
        aleatoric: float32, None if the head has no such branch.
    """

    classes: np.ndarray
    runner_up: np.ndarray
    ranking: np.ndarray
    calibration: np.ndarray
    epistemic: np.ndarray
    aleatoric: np.ndarray | None


@dataclass(frozen=True)
class UncertainVoxels:
    """The uncertain voxels of some planes, and what is known of them without the image.

    Attributes:
        voxels: indices along z, y and x.
        columns: float32 (voxels, `MAPS` and the number of the pair of classes, -1 for none that is told apart).
        normals: across the boundary, (3, voxels).
        pairs: how many are told apart.
    """

    voxels: Voxels
    columns: np.ndarray
    normals: np.ndarray
    pairs: int

    def features(
        self, image: np.ndarray, probability: np.ndarray, steps: Steps, mask: Mask | None = None
    ) -> np.ndarray:
        """All that the second stage reads, float32 (voxels, features).

        Args:
            image: as the network gets it, float32 (channels, z, y, x).
            probability: the table's, (z, y, x).
            mask: for a second stage that sees the segmentation's shape.
        """
        around = [local_features(image, probability, self.voxels, self.normals, steps)]
        if mask is not None:
            around.append(mask_features(image, *mask, self.voxels, steps))
        is_pair = self.columns[:, -1:] == np.arange(self.pairs, dtype=np.float32)
        return np.concatenate([self.columns[:, :-1], is_pair.astype(np.float32), *around], 1)

    def chosen(self, which: np.ndarray) -> "UncertainVoxels":
        """Return some of the voxels, by their numbers."""
        z, y, x = (each[which] for each in self.voxels)
        return UncertainVoxels((z, y, x), self.columns[which], self.normals[:, which], self.pairs)


def find_uncertain_voxels(
    logits: np.ndarray,
    inner: slice,
    maps: HeadMaps,
    probability: np.ndarray,
    pairs: Pairs,
    steps: Steps,
    looks_above: float = LOOKS_ABOVE,
) -> UncertainVoxels:
    """Find the uncertain voxels of some planes: where the table is above `looks_above`.

    Args:
        logits: float32 (classes, z, y, x): of the planes and `steps.unit` planes around them, where there are so many.
        inner: which planes of `logits` they are.
        maps, probability: of the planes alone; the table's error probability.
    """
    z, y, x = np.nonzero(probability > looks_above)
    first, second = maps.classes[z, y, x], maps.runner_up[z, y, x]
    within = (z + (inner.start or 0), y, x)
    table = np.clip(probability[z, y, x].astype(np.float64), FLOOR, 1 - FLOOR)
    numbers = np.full((len(logits), len(logits)), -1, np.float32)  # of the pair of two classes
    for number, pair in enumerate(pairs):
        numbers[pair] = number
    columns = [
        np.log(table / (1 - table)),
        maps.ranking[z, y, x],
        _softmax_log_odds(logits[(slice(None), *within)], first),
        np.log1p(maps.calibration[z, y, x]),
        np.log(maps.epistemic[z, y, x] + np.float32(FLOOR)),
        np.zeros(len(z)) if maps.aleatoric is None else np.log1p(maps.aleatoric[z, y, x]),
        numbers[first, second],
    ]
    described = np.stack([np.asarray(column, np.float32) for column in columns], 1)
    return UncertainVoxels((z, y, x), described, boundary_normals(logits, within, first, second, steps), len(pairs))


@dataclass(frozen=True)
class SecondStage:
    """The fitted second stage.

    Attributes:
        pairs: of classes that the network tells apart; others look like none of them.
        axes: along which axes (z, y, x) of the grid that the network sees voxels have neighbours.
        mean, scale: of each feature, (features,).
        layers: weight (members, in, out) and bias (members, 1, out) of each layer.
        knots, values: of the last calibration: increasing log-odds, and the non-decreasing ones that they become;
            linear between, constant beyond.
        cases: number of cases it was fitted on.
        line: slope and offset that the log-odds of all voxels get last, those of the table too: of a site whose own
            cases asked for it.
        looks_above: error probability of the table above which it judges.
        sees_mask: whether it reads the shape of the segmentation, too (`mask_features`).
    """

    pairs: Pairs
    axes: tuple[bool, ...]
    mean: np.ndarray
    scale: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    knots: tuple[float, ...]
    values: tuple[float, ...]
    cases: int
    line: tuple[float, float] = (1.0, 0.0)
    looks_above: float = LOOKS_ABOVE
    sees_mask: bool = False

    def raw_log_odds(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of an error before the last calibration, float32.

        In float64 and rounded last: however many voxels a product takes at once, the results are the same.

        Args:
            features: of `UncertainVoxels.features`.
        """
        found = np.empty(len(features), np.float32)
        for start in range(0, len(features), CHUNK):
            part = features[start : start + CHUNK].astype(np.float64)
            found[start : start + CHUNK] = part[:, 0] + self._corrections(part)
        return found

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Error probability of uncertain voxels, float32; `features` as for `raw_log_odds`."""
        slope, offset = self.line
        odds = slope * np.interp(self.raw_log_odds(features), self.knots, self.values) + offset
        return (1 / (1 + np.exp(-odds))).astype(np.float32)

    def below_threshold(self, table: np.ndarray) -> np.ndarray:
        """Error probability of all other voxels, float32, from the table's."""
        if self.line == (1.0, 0.0):
            return table
        slope, offset = self.line
        chance = np.clip(table.astype(np.float64), FLOOR, 1 - FLOOR)
        return (1 / (1 + np.exp(-(slope * np.log(chance / (1 - chance)) + offset)))).astype(np.float32)

    @cached_property
    def _first(self) -> tuple[np.ndarray, np.ndarray]:
        """The first layer of all members side by side, for features as they are: (in, members * out) and bias."""
        weight, bias = (each.astype(np.float64) for each in self.layers[0])
        weight /= self.scale.astype(np.float64)[:, None]
        shift = self.mean.astype(np.float64) @ weight
        return np.ascontiguousarray(weight.swapaxes(0, 1)).reshape(len(self.mean), -1), (bias[:, 0] - shift).ravel()

    def _corrections(self, features: np.ndarray) -> np.ndarray:
        """Return what the members add to the table's log-odds, on average."""
        weight, bias = self._first
        members, total = len(self.layers[0][0]), np.zeros(len(features))
        wide = features @ weight
        wide += bias
        for member, hidden in enumerate(np.split(wide, members, 1)):
            for weight, bias in self.layers[1:]:
                hidden = np.maximum(hidden, 0) @ weight[member].astype(np.float64) + bias[member]
            total += hidden[:, 0]
        return total / members

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what goes into a safetensors file."""
        found = {"mean": self.mean, "scale": self.scale}
        for number, (weight, bias) in enumerate(self.layers):
            found |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what goes into the calibration block of a bundle."""
        return {
            "cases": self.cases,
            "pairs": [list(pair) for pair in self.pairs],
            "axes": list(self.axes),
            "knots": list(self.knots),
            "values": list(self.values),
            "looks_above": self.looks_above,
            "sees_mask": self.sees_mask,
            **({} if self.line == (1.0, 0.0) else {"line": list(self.line)}),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "SecondStage":
        """From the calibration block of a bundle and its file of arrays.

        Raises:
            ValueError: arrays are missing, or do not fit together.
        """
        count = sum(name.endswith(".weight") for name in arrays)
        pairs = tuple((int(first), int(second)) for first, second in data["pairs"])
        try:
            layers = tuple((arrays[f"layers.{n}.weight"], arrays[f"layers.{n}.bias"]) for n in range(count))
            mean, scale = arrays["mean"], arrays["scale"]
        except KeyError as error:
            raise ValueError(f"it has no array {error}") from error
        _check_shapes(mean, scale, layers)
        knots, values = tuple(data["knots"]), tuple(data["values"])
        slope, offset = data.get("line", (1.0, 0.0))
        line = (float(slope), float(offset))
        above, sees = float(data.get("looks_above", LOOKS_ABOVE)), bool(data.get("sees_mask", False))
        return cls(
            pairs, tuple(data["axes"]), mean, scale, layers, knots, values, int(data["cases"]), line, above, sees
        )


def refined(
    stage: SecondStage, uncertain: UncertainVoxels, image: np.ndarray, probability: np.ndarray, steps: Steps, mask: Mask
) -> np.ndarray:
    """Error probability after the second stage, float32 (z, y, x).

    Args:
        uncertain: of the whole volume.
        image: as the network gets it, float32 (channels, z, y, x).
        probability: the table's.
        mask: most and second most probable class.
    """
    found = np.array(stage.below_threshold(probability), np.float32)
    if uncertain.voxels[0].size:
        features = uncertain.features(image, probability, steps, mask=mask if stage.sees_mask else None)
        found[uncertain.voxels] = stage.probability(features)
    return found


def _softmax_log_odds(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Log-odds of an error that the softmax gives, of logits (classes, voxels) and the class predicted."""
    best = logits.max(0)
    others = np.where(np.arange(len(logits))[:, None] == classes, -np.inf, logits - best)
    total = np.zeros(best.shape, np.float32)
    for each in others:  # one after the other: the same sum for any number of voxels
        total += np.exp(each)
    return np.log(np.maximum(total, np.float32(1e-30)))


def _check_shapes(mean: np.ndarray, scale: np.ndarray, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    width = mean.size
    fits = bool(layers) and mean.shape == scale.shape == (width,) and bool((scale > 0).all())
    members = layers[0][0].shape[0] if fits and layers[0][0].ndim == 3 else 0
    for weight, bias in layers:
        fits = fits and weight.ndim == 3 and weight.shape[:2] == (members, width)
        width = weight.shape[-1] if weight.ndim else 0
        fits = fits and bias.shape == (members, 1, width)
    if not fits or not members or width != 1:
        raise ValueError("its arrays do not fit together")
