"""What a schema cannot say of a model's description: fields that must fit each other."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..errors import InputError
from .input_spec import check_label_values

_AXES = {"L": 0, "R": 0, "A": 1, "P": 1, "I": 2, "S": 2, "x": 0, "y": 1, "z": 2}
"""The patient axis, or the stored one, that each letter of an orientation lies on."""
HIGHEST_PERCENTILE = 100


def check_description(data: Mapping[str, Any], source: str, remedy: str) -> None:
    """Check parsed JSON that fits the bundle schema.

    Args:
        source, remedy: begin and end of every sentence.

    Raises:
        InputError: names the field, the value found and what is wanted.
    """
    heads, backbone = data["heads"], data["backbone"]
    if sum(head["default"] for head in heads) != 1 or len({head["name"] for head in heads}) < len(heads):
        raise InputError(f"{source} needs heads of different names and exactly one default: {remedy}.")
    values = check_label_values([label["value"] for label in data["labels"]], source)
    _check_input(data["input"], source, remedy)
    window, divisor = data["input"]["window"], backbone["size_divisor"]
    divisors = [divisor] * 3 if isinstance(divisor, int) else divisor[::-1]
    if any(size % by for size, by in zip(window, divisors, strict=True)):
        multiples = divisors[0] if len(set(divisors)) == 1 else list(divisors)
        raise InputError(f"{source} has the window {list(window)}, not in multiples of {multiples}: {remedy}.")
    for block, place in _blocks(data):
        _check_calibration(block.get("calibration"), values, f"{source} at {place}calibration", remedy)
        for name, pair in (block.get("display") or {}).items():
            _check_rises(pair, f"{source} at {place}display/{name}", remedy)
    _check_fingerprint(data["fingerprint"], values, f"{source} at fingerprint", remedy)


def _blocks(data: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Where calibration and display windows are: for the default head at the top, for others in their entries."""
    yield data, ""
    for number, head in enumerate(data["heads"]):
        yield head, f"heads/{number}/"


def _check_input(spec: Mapping[str, Any], source: str, remedy: str) -> None:
    axes = spec["orientation"]
    if len({_AXES[letter] for letter in axes}) < len(axes):
        raise InputError(f"{source} has the orientation {axes}: give one letter of each of LR, AP, IS.")
    each = spec["normalisation"] if isinstance(spec["normalisation"], list) else [spec["normalisation"]]
    if isinstance(spec["normalisation"], list) and len(each) != len(spec["channels"]):
        raise InputError(
            f"{source} has {len(each)} normalisations for {len(spec['channels'])} channels: give one for all, or one a "
            "channel."
        )
    for how in each:
        if how["kind"] == "none":
            continue
        _check_rises([how["low"], how["high"]], f"{source} at input/normalisation", remedy, strictly=True)
        if how["kind"] != "fixed" and not 0 <= how["low"] < how["high"] <= HIGHEST_PERCENTILE:
            raise InputError(
                f"{source} has the percentiles {how['low']:g} and {how['high']:g} at input/normalisation: they lie "
                f"between 0 and {HIGHEST_PERCENTILE}; {remedy}."
            )
        if how["kind"] == "fixed" and how["std"] == 0:
            raise InputError(f"{source} has std 0 at input/normalisation: it divides by it; {remedy}.")


def _check_calibration(block: Mapping[str, Any] | None, values: Sequence[int], source: str, remedy: str) -> None:
    if block is None:
        return
    rival = (block.get("rivals") or {}).get("maximum_softmax")
    for table in (block["error_probability"], *([rival] if rival else [])):
        _check_table(table, values, source, remedy)
    for name, percentiles in (block.get("sources") or {}).items():
        _check_rises(percentiles or (), f"{source}/sources/{name}", remedy)
    for part in ("volume_interval", "predicted_dice"):
        _check_keys(block.get(part), values, f"{source}/{part}", remedy)


def _check_table(table: Mapping[str, Any], values: Sequence[int], source: str, remedy: str) -> None:
    ranking, probability = table["ranking"], table["probability"]
    steps = [b > a for a, b in pairwise(ranking)] + [b >= a for a, b in pairwise(probability)]
    if len(ranking) != len(probability) or not all(steps):
        raise InputError(
            f"{source} has an error-probability table that does not rise ({len(ranking)} ranking values, "
            f"{len(probability)} probabilities): fit it again with `segwithu calibrate`."
        )
    for number, direction in enumerate(table.get("directions", ())):
        if max(direction["predicted"], direction["runner_up"]) >= len(values):
            raise InputError(
                f"{source} has a direction ({number}) that names the classes {direction['predicted']} and "
                f"{direction['runner_up']}, but there are {len(values)}: {remedy}."
            )


def _check_fingerprint(block: Mapping[str, Any] | None, values: Sequence[int], source: str, remedy: str) -> None:
    if block is None:
        return
    for name in ("field_of_view_mm", "spacing_mm"):
        for pair in zip(block[name]["low"], block[name]["high"], strict=True):
            _check_rises(pair, f"{source}/{name}", remedy)
    for name, look in (block.get("channels") or {}).items():
        for part in ("noise", "middle_half") if look else ():
            _check_rises(look[part], f"{source}/channels/{name}/{part}", remedy)
    volumes = block.get("volumes_mm3") or {}
    _check_keys(volumes, values, f"{source}/volumes_mm3", remedy)
    for value, found in volumes.items():
        _check_rises([found["low"], found["high"]], f"{source}/volumes_mm3/{value}", remedy)


def _check_rises(numbers: Sequence[float], place: str, remedy: str, strictly: bool = False) -> None:
    for low, high in pairwise(numbers):
        if high < low or (strictly and high == low):
            raise InputError(f"{place} goes from {low:g} to {high:g}, but must rise: {remedy}.")


def _check_keys(block: Mapping[str, Any] | None, values: Sequence[int], place: str, remedy: str) -> None:
    """Refuse numbers of structures that the model does not have, which would be passed over without a word."""
    for key in block or {}:
        if key not in {str(value) for value in values}:
            raise InputError(
                f"{place} has an entry for the label '{key[:40]}', which the model does not have: {remedy}."
            )
