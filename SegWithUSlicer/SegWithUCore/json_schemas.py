"""JSON of others against a schema: the first fault as one sentence of bounded length, with place and value."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import InputError

MAXIMUM_VALUES = 500_000
"""Of one file: the largest of ours, a bundle with the figures of 44 test cases, has 9000; a schema takes 10 us each."""
LONGEST_REASON = 240
_FAULTS_COMPARED = 30
_SHOWN = 60


@cache
def schema(path: Path) -> dict[str, Any]:
    """A schema file of this program."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def check_schema(
    data: Any, wanted: Mapping[str, Any], source: str, remedy: str, kind: str = "the format", within: str = ""
) -> None:
    """Hold data against a schema; whole numbers are those without a point, and every number is finite.

    Args:
        data: parsed JSON, or what is about to become JSON.
        source: names the data in the message.
        remedy: what to do, the end of the sentence.
        kind: what the data should be ("the bundle format").
        within: place of the data in the file, with a slash at its end.

    Raises:
        InputError: names the place of the first fault, the value found and what is wanted.
    """
    import jsonschema  # not in Slicer's Python, whose window reads other parts of the foundation

    _check_numbers(data, f"{source} does not fit {kind} at {within}", source, remedy)
    validator = _validator()(wanted)
    error = jsonschema.exceptions.best_match(islice(validator.iter_errors(data), _FAULTS_COMPARED))
    if error is not None:
        place = within + _name(list(error.absolute_path)) if error.absolute_path or not within else within[:-1]
        raise InputError(f"{source} does not fit {kind} at {place}: {_reason(error)}; {remedy}.")


def shown(value: Any, longest: int = _SHOWN) -> str:
    """A value as JSON has it, on one line and cut to a length that a sentence bears."""
    if isinstance(value, str):
        value = value[: longest + 1]
    elif isinstance(value, list | tuple | dict) and len(value) > longest:
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value)} entries"
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= longest else f"{text[:longest]}..."


@cache
def _validator() -> Any:
    """Draft 2020-12, but 8.0 is no whole number (what counts things is used as an index later), and tuples are
    arrays, as `json` writes them."""
    import jsonschema

    usual = jsonschema.Draft202012Validator
    types = usual.TYPE_CHECKER.redefine("integer", lambda _, value: _is_whole(value))
    types = types.redefine("array", lambda _, value: isinstance(value, list | tuple))
    return jsonschema.validators.extend(usual, {"pattern": _pattern}, type_checker=types)  # type: ignore[no-untyped-call]


def _pattern(_validator: Any, pattern: str, value: Any, wanted: Mapping[str, Any]) -> Iterator[Any]:
    """As JSON Schema has it, `$` is the very end; Python's would let a line end follow."""
    import jsonschema

    if isinstance(value, str) and not re.search(pattern.removesuffix("$") + r"\Z", value):
        why = f" ({wanted['description']})" if "description" in wanted else ""
        yield jsonschema.ValidationError(f"{shown(value)} does not match {pattern}{why}")


def _reason(error: Any) -> str:
    """What jsonschema says, with long values cut."""
    for value in (error.instance, error.validator_value):
        text = repr(value)
        if len(text) > _SHOWN:
            error.message = error.message.replace(text, shown(value))
    text = " ".join(str(error.message).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _name(place: list[Any]) -> str:
    return "/".join(shown(step, 40).strip('"') for step in place) or "the top level"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_numbers(data: Any, begin: str, source: str, remedy: str) -> None:
    """Refuse numbers that are not finite (a schema lets NaN pass any limit), and data without end."""
    waiting: list[tuple[list[Any], Any]] = [([], data)]
    seen = 0
    while waiting:
        place, value = waiting.pop()
        seen += 1
        if seen > MAXIMUM_VALUES:
            raise InputError(f"{source} holds more than {MAXIMUM_VALUES} values: {remedy}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{begin}{_name(place)}: it is {value}, no number; {remedy}.")
        if isinstance(value, Mapping):
            waiting += [([*place, key], inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [([*place, index], inner) for index, inner in enumerate(value)]
