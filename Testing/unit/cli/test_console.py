"""What the command line says while it works and when something is missing."""

import importlib.util
import io
import json
from typing import Any

import pytest

from SegWithUCore.cli.console import Console, table
from SegWithUCore.failures import failure_sentence


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_every_stage_is_a_line_and_steps_within_it_are_not() -> None:
    err = io.StringIO()
    with Console(err=err).progress("case") as progress:
        progress("reading", 0.0)
        progress("segmenting", 0.1, "window 1 of 3")
        progress("segmenting", 0.2, "window 2 of 3")
        progress("done", 1.0)
    assert err.getvalue().splitlines() == [
        "case:   0% reading",
        "case:  10% segmenting, window 1 of 3",
        "case: 100% done",
    ]


def test_a_terminal_without_tqdm_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without_tqdm(name: str, *more: Any) -> Any:
        return None if name == "tqdm" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without_tqdm)
    err = Terminal()
    with Console(err=err).progress("case") as progress:
        progress("reading", 0.0)
    assert err.getvalue() == "case:   0% reading\n"


def test_json_is_one_object_a_line_also_for_errors() -> None:
    out = io.StringIO()
    console = Console(as_json=True, out=out, err=out)
    with console.progress("case") as progress:
        progress("segmenting", 0.5, "window 1 of 2")
    console.error("something is wrong.")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["progress", "error"]
    assert events[0]["fraction"] == 0.5
    assert events[0]["seconds_left"] >= 0


def test_a_missing_package_is_named() -> None:
    sentence = failure_sentence(ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"))
    assert "matplotlib is missing" in sentence
    assert "segwithu-slicer[desktop]" in sentence


def test_words_stand_left_and_figures_right() -> None:
    assert table(["name", "mm3"], [["a", "5"], ["long", "1234"]]).splitlines() == [
        "name   mm3",
        "----  ----",
        "a        5",
        "long  1234",
    ]


def test_nothing_that_steers_a_terminal_reaches_it(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]0;title\x07\x9b31m\rb\u202egnp"
    shown = r"a\x1b]0;title\x07\x9b31m\rb\u202egnp"
    console = Console()
    console.result(f"{hostile}\n{table(['name'], [[hostile + chr(10)]])}", {})
    console.note(f"{hostile}\n")
    console.error(f"{hostile}\nsegwithu: all is well")
    console.trace(ValueError(hostile))
    with console.progress(hostile) as report:
        report(hostile, 0.5, hostile)
    caught = capsys.readouterr()
    for text in (caught.out, caught.err):
        assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert caught.out.splitlines()[0] == shown
    assert caught.out.splitlines()[-1] == rf"{shown}\n"
    assert caught.err.splitlines()[:2] == [rf"{shown}\n", rf"segwithu: {shown}\nsegwithu: all is well"]
    assert caught.err.count(shown) >= 6


def test_json_stays_exact(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[31m\u202e\r\n"
    Console(as_json=True).note(hostile)
    assert json.loads(capsys.readouterr().out)["text"] == hostile
