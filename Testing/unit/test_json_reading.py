"""JSON is read in one way: Python's own reader takes NaN, Infinity, any depth and any size."""

import ast
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from product_sources import SOURCES, name_of, tree_of

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json, typed
from SegWithUCore.worker.protocol import Channel

ALLOWED = {
    "SegWithUCore/util/strict_json.py": "is that one way",
    "SegWithUCore/models/bundle.py": "text made a moment ago, to turn tuples into lists",
    "SegWithUCore/io/dicom_decoder.py": "a request of the process that started it",
}


READERS = {"json.load", "json.loads", "json.JSONDecoder"}


def test_no_other_file_reads_json_by_itself() -> None:
    found = {
        name_of(path).removeprefix("SegWithUSlicer/")
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS
    }
    assert found - set(ALLOWED) == set(), "read JSON by strict_json"
    assert set(ALLOWED) - found == set(), "no longer needed"


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "1" * 25])
def test_what_is_no_number_or_too_large_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="here"):
        parse_json(text, "here")


def test_events_of_the_worker_hold_no_nan() -> None:
    written = io.BytesIO()
    Channel(io.BytesIO(), written).send({"event": "cost", "seconds": float("nan"), "span": [1.0, float("inf")]})
    assert parse_json(written.getvalue(), "event") == {"event": "cost", "seconds": None, "span": [1.0, None]}


@dataclass(frozen=True)
class Part:
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Whole:
    size: tuple[int, int]
    parts: Part | tuple[Part, ...]
    counts: Mapping[int, Sequence[float]]
    note: str | None = None
    is_new: bool = False


GOOD = {"size": [1, 2], "parts": [{"name": "a"}, {"name": "b", "share": 1}], "counts": {"3": [1, 2.5]}, "other": 1}


def test_objects_become_dataclasses_by_the_types_of_their_fields() -> None:
    found = typed(Whole, GOOD)
    assert found == Whole((1, 2), (Part("a"), Part("b", 1.0)), {3: (1.0, 2.5)})
    assert isinstance(found.parts[1].share, float)
    assert typed(Whole, {**GOOD, "parts": {"name": "a"}}).parts == Part("a")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"size": [1, 2, 3]}, "/size"),
        ({"size": [1, 2.0]}, "/size/1"),
        ({"size": [True, 2]}, "/size/0"),
        ({"size": None}, "/size"),
        ({"parts": [{"share": 1}]}, "/parts/0"),
        ({"parts": [{"name": 1}]}, "/parts/0/name"),
        ({"parts": ["a"]}, "/parts/0"),
        ({"parts": [{"name": "a", "share": True}]}, "/parts/0/share"),
        ({"counts": {"3": ["1"]}}, "/counts/3/0"),
        ({"counts": {"x": [1]}}, "x"),
        ({"counts": [1]}, "/counts"),
        ({"note": 1}, "/note"),
        ({"is_new": 1}, "/is_new"),
    ],
)
def test_a_value_of_another_type_is_named(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        typed(Whole, {**GOOD, **changes})
    with pytest.raises(ValueError, match="size"):
        typed(Whole, {name: value for name, value in GOOD.items() if name != "size"})
