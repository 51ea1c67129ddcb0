"""JSON is read in one way: Python's own reader takes NaN, Infinity, any depth and any size."""

import ast
import io

import pytest
from product_sources import SOURCES, name_of, tree_of

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import parse_json
from SegWithUCore.worker.protocol import Channel

ALLOWED = {
    "SegWithUCore/util/strict_json.py": "is that one way",
    "SegWithUCore/models/bundle.py": "text made a moment ago, to turn tuples into lists",
    "SegWithULab/benchmark/store.py": "likewise",
    "SegWithUCore/io/reader_child.py": "lines from the process that started it",
    "SegWithUCore/io/reader_process.py": "lines from a child of its own, whose errors are its death",
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
    with pytest.raises(InputError, match="here is not valid JSON"):
        parse_json(text, "here")


def test_events_of_the_worker_hold_no_nan() -> None:
    written = io.BytesIO()
    Channel(io.BytesIO(), written).send({"event": "cost", "seconds": float("nan"), "span": [1.0, float("inf")]})
    assert parse_json(written.getvalue(), "event") == {"event": "cost", "seconds": None, "span": [1.0, None]}
