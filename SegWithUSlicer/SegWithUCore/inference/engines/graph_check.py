"""A stored input of a bundle's graphs with what torch gave on it, so that any computer can repeat the comparison.

Written when graphs are compiled, repeated by `segwithu models verify --deep`; no torch here.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from safetensors.numpy import load

from ...models.bundle import Bundle
from ...models.graph_files import MAKE_ANEW, read_graph_file
from ...models.graphs import CHECK_FILE
from ...util.errors import InputError
from .base import Engine

BLOCK = 4
"""Voxels along each axis that share a value of the stored input."""
STEPS_A_UNIT = 32
"""Steps of the stored whole numbers in one unit of a normalised image."""
PLACES = 1024
"""Voxels whose results are stored, evenly spread."""
SLACK, LEAST_LIMIT = 20.0, 1e-3
"""Another processor rounds otherwise: so many times the difference that was noted is still the same network."""
FLOAT_MAPS = ("calibration", "ranking", "epistemic", "aleatoric")


def example_input(channels: int, window_zyx: tuple[int, ...]) -> np.ndarray:
    """Draw the input to be stored, int8 (channels, z, y, x) in blocks."""
    blocks = [-(-size // BLOCK) for size in window_zyx]
    drawn = np.random.RandomState(0).randint(-64, 65, (channels, *blocks))
    return drawn.astype(np.int8)


def enlarged(blocks: np.ndarray, window_zyx: tuple[int, ...]) -> np.ndarray:
    """Make the window of a stored input, float32 (channels, z, y, x)."""
    found = blocks.astype(np.float32) / STEPS_A_UNIT
    for axis in (1, 2, 3):
        found = found.repeat(BLOCK, axis)
    z, y, x = window_zyx
    return np.ascontiguousarray(found[:, :z, :y, :x])


def places_in(voxels: int) -> np.ndarray:
    """Choose the voxels whose results are stored, as flat indices."""
    return np.unique(np.linspace(0, voxels - 1, min(PLACES, voxels)).astype(np.int64))


def window_answers(engine: Engine, window: np.ndarray) -> np.ndarray:
    """Logits and responses of a window, (channels, voxels)."""
    joined = np.concatenate(engine.window(window))
    return joined.reshape(len(joined), -1)


def map_answers(engine: Engine, chunk: np.ndarray) -> dict[str, np.ndarray]:
    """Compute maps of some voxels, by name, and their classes."""
    found = engine.maps(np.ascontiguousarray(chunk))
    maps = {name: getattr(found, name) for name in FLOAT_MAPS if getattr(found, name) is not None}
    return {name: np.array(values) for name, values in {**maps, "classes": found.classes}.items()}


Answers: TypeAlias = tuple[np.ndarray, Mapping[str, np.ndarray]]
"""Logits and responses, (channels, voxels), and maps of some chunk, by name."""


def differences(found: Answers, expected: Answers, classes: int) -> dict[str, float]:
    """Largest absolute differences by output; of the labels the share that differs.

    Args:
        found, expected: of two engines, the maps of the same chunk.
        classes: how many of the channels are logits.
    """
    (values, maps), (right_values, right_maps) = found, expected
    gap = np.abs(values - right_values)
    labels = values[:classes].argmax(0) != right_values[:classes].argmax(0)
    return {
        "logits": float(gap[:classes].max()),
        "responses": float(gap[classes:].max(initial=0)),
        "labels": float(labels.mean()),
        **{name: float(np.abs(maps[name] - right_maps[name]).max()) for name in FLOAT_MAPS if name in right_maps},
    }


def repeated_check(bundle: Bundle, engine: Engine) -> dict[str, float]:
    """Run the graphs of a bundle on its stored input; return the differences from what torch gave.

    Raises:
        InputError: the stored input is damaged, or a difference is far larger than when the graphs were made.
    """
    assert bundle.graphs is not None
    place = f"{bundle.folder}/{CHECK_FILE}"
    stored = load(read_graph_file(bundle, CHECK_FILE))
    window_zyx = bundle.input.window_zyx
    try:
        answers = window_answers(engine, enlarged(stored["blocks"], window_zyx))
        found, maps = answers[:, stored["places"]], map_answers(engine, stored["answers"])
        expected_maps = {name: stored[name] for name in (*FLOAT_MAPS, "classes") if name in stored}
        repeated = differences((found, maps), (stored["answers"], expected_maps), engine.num_classes)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{place} does not fit the graphs ({error!r:.100}): {MAKE_ANEW}.") from error
    for name, value in repeated.items():
        limit = SLACK * bundle.graphs.largest_difference.get(name, 0.0) + LEAST_LIMIT
        if not value <= limit:
            raise InputError(
                f"{place}: the graphs give {name} that differ from torch's by {value:.3g}, more than the {limit:.3g} "
                f"that rounding explains: {MAKE_ANEW}."
            )
    return repeated
