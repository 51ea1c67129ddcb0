"""JSON as the standard has it (RFC 8259), from files of others: no NaN or Infinity, bounded in size and depth."""

import json
import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import InputError
from .input_files import read_bounded

# A benchmark of 44 cases has 0.7 MB.
MAXIMUM_BYTES = 64 << 20
# Files have below 12 levels; Python's parser gives up near 1000 with another error.
MAXIMUM_DEPTH = 100

# An integer of more than 64 bits becomes infinite, or an error, as a float.
_TOO_LARGE = 10**20


def read_json(path: Path, wanted: str = "restore it from its source", maximum_bytes: int = MAXIMUM_BYTES) -> Any:
    """Read a JSON file.

    Args:
        wanted: what to do, the end of every sentence.

    Raises:
        InputError: missing, no regular file, too large, no UTF-8, and what `parse_json` refuses.
    """
    return parse_json(read_bounded(path, maximum_bytes, wanted), str(path), wanted)


def read_json_object(
    path: Path, wanted: str = "restore it from its source", maximum_bytes: int = MAXIMUM_BYTES
) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `read_json`.

    Raises:
        InputError: as `read_json`, or it holds something else.
    """
    content = read_json(path, wanted, maximum_bytes)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {shown(content)} instead of a JSON object: {wanted}.")
    return content


def parse_json(text: str | bytes, source: str, wanted: str = "restore it from its source") -> Any:
    """Parse JSON text.

    Args:
        source: names the text in messages.

    Raises:
        InputError: no UTF-8, no JSON, NaN or Infinity (also a number too large to be one), more than
            `MAXIMUM_DEPTH` levels.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        content = json.loads(text)
    except RecursionError:
        raise InputError(f"{source} is nested more than {MAXIMUM_DEPTH} levels deep: {wanted}.") from None
    except ValueError as error:  # no UTF-8, no JSON
        raise InputError(f"{source} is not valid JSON ({error}): {wanted}.") from None
    _check_values(content, source, wanted)
    return content


def to_json(content: Any, indent: int | None = 1) -> str:
    """Write JSON text that every reader takes.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, as names that are not UTF-8 hold: escapes can write it
        return json.dumps(content, indent=indent, allow_nan=False)
    return text


def typed(kind: Any, value: Any, place: str = "") -> Any:
    """Make a value of a type of what JSON holds: dataclasses of objects, tuples of arrays, floats of integers, too.

        typed(Grid, {"size": [64, 64, 40], "spacing_mm": [1, 1, 2.5]})

    Fields without a default must be there; other names in objects are ignored.

    Args:
        kind: a dataclass, or the type of one of its fields.
        place: names the value in messages.

    Raises:
        ValueError: a field is missing, or a value is of another type.
    """
    origin, of = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None and types.NoneType in of else typed(_alternative(of, value), value, place)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
        return _typed_fields(kind, value, place)
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        kinds = [of[0]] * len(value) if origin is Sequence or of[-1] is Ellipsis else list(of)
        if len(kinds) != len(value):
            raise ValueError(f"{place} has {len(value)} entries instead of {len(kinds)}")
        is_plain = {*kinds} == {int} == {*map(type, value)}  # a histogram, where a window would wait for each number
        each = (typed(kinds[index], inner, f"{place}/{index}") for index, inner in enumerate(value))
        return tuple(value if is_plain else each)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {of[0](key): typed(of[1], inner, f"{place}/{key}") for key, inner in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{place or 'it'} is {shown(value)}, of another type than {getattr(kind, '__name__', kind)}")


def _alternative(kinds: Sequence[Any], value: Any) -> Any:
    """Return which kind of a union a value is read as: an array or something else."""
    wanted = [each for each in kinds if each is not types.NoneType]
    arrays = [each for each in wanted if get_origin(each) in (tuple, Sequence)]
    return next(each for each in wanted if not arrays or (each in arrays) == isinstance(value, list | tuple))


def _typed_fields(kind: Any, value: Mapping[str, Any], place: str) -> Any:
    known = _field_types(kind)
    missing = [name for name, (_, needed) in known.items() if needed and name not in value]
    if missing:
        raise ValueError(f"{place or 'it'} has no {missing[0]}")
    found = {name: value[name] for name in known if name in value}
    return kind(**{name: typed(known[name][0], each, f"{place}/{name}") for name, each in found.items()})


@cache
def _field_types(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field of a dataclass, and whether it must be given."""
    hints = get_type_hints(kind)
    return {
        each.name: (hints[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(kind)
    }


def _check_values(content: Any, source: str, remedy: str, within: str = "") -> None:
    """Refuse numbers that are not finite or too large, and data without end in depth or number.

    Raises:
        InputError: names the place.
    """
    waiting: list[tuple[str, Any]] = [(within, content)]
    seen = 0
    while waiting:
        place, value = waiting.pop()
        is_plain = type(value) in _ARRAYS and {*map(type, value)} == {int} and max(map(abs, value)) < _TOO_LARGE
        seen += 1 + (len(value) if is_plain else 0)
        if seen > MAXIMUM_VALUES or place.count("/") > MAXIMUM_DEPTH:
            what = f"{MAXIMUM_VALUES} values" if seen > MAXIMUM_VALUES else f"{MAXIMUM_DEPTH} levels"
            raise InputError(f"{source} holds more than {what}: {remedy}.")
        too_large = isinstance(value, int) and abs(value) >= _TOO_LARGE
        if too_large or (isinstance(value, float) and not math.isfinite(value)):
            found = f"{str(value)[:_SHOWN]} at {place.rstrip('/') or 'the top level'}, which is not finite or too large"
            raise InputError(f"{source} holds {found}: {remedy}.")
        opened = isinstance(value, _ARRAYS) and not is_plain
        inner = value.items() if isinstance(value, Mapping) else enumerate(value if opened else ())
        waiting += [(f"{place}{str(key)[:40].replace('/', ' ')}/", each) for key, each in inner]


# A bundle with the metrics of 44 test cases has 9000.
MAXIMUM_VALUES = 500_000
_ARRAYS = (list, tuple)
LONGEST_REASON = 240
_FAULTS_COMPARED = 30
_SHOWN = 60


@cache
def schema(path: Path) -> dict[str, Any]:
    """Read a schema file of this program."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def check_schema(
    data: Any, wanted: Mapping[str, Any], source: str, remedy: str, kind: str = "", within: str = "", code: str = ""
) -> None:
    """Hold data against a schema; integers are written without a point, and every number is finite.

    Args:
        data: parsed JSON, or what is about to become JSON.
        source: names the data in the message.
        remedy: what to do, the end of the sentence.
        kind: what the data should be ("the bundle format").
        within: place of the data in the file, with a slash at its end.
        code: of the error.

    Raises:
        InputError: names the place of the first fault, the value found and what is wanted.
    """
    import jsonschema  # not in Slicer's Python, whose window reads other parts of the foundation

    _check_values(data, source, remedy, within)
    validator = _validator()(wanted, registry=_registry())
    error = jsonschema.exceptions.best_match(islice(validator.iter_errors(data), _FAULTS_COMPARED))
    if error is not None:
        place = within + _name(list(error.absolute_path)) if error.absolute_path or not within else within[:-1]
        raise InputError(f"{source} does not fit {kind or 'the format'} at {place}: {_reason(error)}; {remedy}.", code)


def shown(value: Any, longest: int = _SHOWN) -> str:
    """Format a value as JSON has it, on one line and cut to a length that a sentence bears."""
    if isinstance(value, str):
        value = value[: longest + 1]
    elif isinstance(value, list | tuple | dict) and len(value) > longest:
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value)} entries"
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= longest else f"{text[:longest]}..."


@cache
def _validator() -> Any:
    """Make the validator: draft 2020-12 with `rises`, and with two changes.

    8.0 is not an integer, since what counts things is used as an index later, and tuples are arrays, as `json` writes
    them.
    """
    import jsonschema

    usual = jsonschema.Draft202012Validator
    types = usual.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    types = types.redefine("array", lambda _, value: isinstance(value, list | tuple))
    return jsonschema.validators.extend(usual, {"pattern": _pattern, "rises": _rises}, type_checker=types)  # type: ignore[no-untyped-call]


@cache
def _registry() -> Any:
    """Resolve references from one of our schema files to another, such as "../models/bundle.schema.json"."""
    import referencing
    from referencing.jsonschema import DRAFT202012

    def retrieve(uri: str) -> Any:
        path = Path(__file__).parents[1] / uri.removeprefix("../")
        return referencing.Resource.from_contents(schema(path), default_specification=DRAFT202012)

    return referencing.Registry(retrieve=retrieve)  # type: ignore[call-arg]  # mypy does not see the alias of attrs


def _pattern(_validator: Any, pattern: str, value: Any, wanted: Mapping[str, Any]) -> Iterator[Any]:
    """As JSON Schema has it, `$` is the very end; Python's would let a line end follow."""
    import jsonschema

    if isinstance(value, str) and not re.search(pattern.removesuffix("$") + r"\Z", value):
        why = f" ({wanted['description']})" if "description" in wanted else ""
        yield jsonschema.ValidationError(f"{shown(value)} does not match {pattern}{why}")


def _rises(_validator: Any, how: Any, value: Any, _wanted: Mapping[str, Any]) -> Iterator[Any]:
    """Check the keyword `rises`, which is ours: numbers of an array, or from `low` to `high` of an object.

    Args:
        how: true, or "strictly" where no two may be equal.
    """
    import jsonschema

    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, list | tuple):
        pairs = pairwise(value)
    elif isinstance(value, Mapping) and {"low", "high"} <= value.keys():
        low, high = value["low"], value["high"]
        pairs = zip(low, high, strict=False) if isinstance(low, list | tuple) else iter([(low, high)])
    for low, high in pairs:
        numbers = isinstance(low, int | float) and isinstance(high, int | float)
        if numbers and (high < low or (how == "strictly" and high == low)):
            yield jsonschema.ValidationError(f"it goes from {low:g} to {high:g}, but must rise")


def _reason(error: Any) -> str:
    """Return the message of jsonschema; of a long one, which quotes a value, the beginning and the end."""
    text = " ".join(str(error.message).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:_SHOWN]} ... {text[-(LONGEST_REASON - _SHOWN) :]}"


def _name(place: list[Any]) -> str:
    return "/".join(shown(step, 40).strip('"') for step in place) or "the top level"
