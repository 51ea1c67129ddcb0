"""Train the small networks of stage two of the error probability; numpy alone.

A bundle whose engine does without torch gets its stage two without torch.
"""

from itertools import pairwise

import numpy as np
from scipy.special import expit

WIDTH = 24
MEMBERS = 5
EPOCHS = 4
BATCH = 512
RATE = 5e-3
DECAY = 3e-3
MOMENTUM, POWER = 0.9, 0.999

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


def trained_layers(inputs: np.ndarray, table: np.ndarray, wrong: np.ndarray, seed: int) -> Layers:
    """Train all members side by side with Adam on the cross-entropy, each on its own order of the voxels.

    They begin by adding nothing to the table's log-odds.

    Args:
        inputs: standardised features, (voxels, features).
        table: log-odds that the networks correct.
    """
    random = np.random.default_rng(seed)
    values = _beginning(inputs.shape[1], random)
    optimiser = _Adam(values)
    batches = max(1, len(inputs) // BATCH)
    for epoch in range(EPOCHS):
        orders = np.stack([random.permutation(len(inputs)) for _ in range(MEMBERS)])
        for number, part in enumerate(np.array_split(orders, batches, 1)):
            done = (epoch + number / batches) / EPOCHS
            optimiser.step(_gradients(values, inputs[part], table[part], wrong[part]), done)
    return tuple((values[n], values[n + 1]) for n in range(0, len(values), 2))


def _beginning(features: int, random: np.random.Generator) -> list[np.ndarray]:
    """Weight and bias of each layer, one after the other; the last layer is 0."""
    sizes = (features, WIDTH, WIDTH, 1)
    values = []
    for before, after in pairwise(sizes):
        spread = np.sqrt(2 / before) if after > 1 else 0.0
        values.append((random.standard_normal((MEMBERS, before, after)) * spread).astype(np.float32))
        values.append(np.zeros((MEMBERS, 1, after), np.float32))
    return values


def _gradients(values: list[np.ndarray], x: np.ndarray, table: np.ndarray, wrong: np.ndarray) -> list[np.ndarray]:
    """Gradients of the mean cross-entropy of each member's batch; `x` is (members, voxels, features)."""
    w1, b1, w2, b2, w3, b3 = values
    first = np.maximum(x @ w1 + b1, 0)
    second = np.maximum(first @ w2 + b2, 0)
    odds = (second @ w3 + b3)[..., 0] + table
    last = ((expit(odds) - wrong) / x.shape[1])[..., None].astype(np.float32)
    middle = (last @ w3.swapaxes(1, 2)) * (second > 0)
    outer = (middle @ w2.swapaxes(1, 2)) * (first > 0)
    found = []
    for below, back in ((x, outer), (first, middle), (second, last)):
        found += [below.swapaxes(1, 2) @ back, back.sum(1, keepdims=True)]
    return found


class _Adam:
    """Adam with decoupled weight decay and a rate that falls along a cosine to 0 (Loshchilov and Hutter 2019)."""

    def __init__(self, values: list[np.ndarray]) -> None:
        self._values, self._steps = values, 0
        self._means = [np.zeros_like(value) for value in values]
        self._powers = [np.zeros_like(value) for value in values]

    def step(self, gradients: list[np.ndarray], done: float) -> None:
        """Change the values in place; `done` is the part of the training that lies behind."""
        self._steps += 1
        rate = RATE * 0.5 * (1 + np.cos(np.pi * done))
        for value, gradient, mean, power in zip(self._values, gradients, self._means, self._powers, strict=True):
            mean += (1 - MOMENTUM) * (gradient - mean)
            power += (1 - POWER) * (gradient * gradient - power)
            size = np.sqrt(power / (1 - POWER**self._steps)) + 1e-8
            value -= (rate * (mean / (1 - MOMENTUM**self._steps) / size + DECAY * value)).astype(np.float32)
