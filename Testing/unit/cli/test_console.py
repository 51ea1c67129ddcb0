"""What the command line says while it works and when something is missing."""

import io
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from SegWithUCore.cli.__main__ import main
from SegWithUCore.cli.console import Console, ReaderLeftError, table


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


def screen(text: str) -> list[str]:
    """What a terminal shows of a text."""
    rows = []
    for line in text.split("\n"):
        row = ""
        for part in line.split("\r"):
            row = part + row[len(part) :]
        rows.append(row.rstrip())
    return rows


def test_a_terminal_gets_one_line_that_goes_before_other_text_and_at_the_end() -> None:
    err = Terminal()
    console = Console(err=err)
    with console.progress("case") as progress:
        progress("reading", 0.0)
        console.note("short")
        progress("segmenting", 0.5, "window 1 of 2")
        assert screen(err.getvalue()) == ["short", "case:  50% segmenting, window 1 of 2"]
    assert screen(err.getvalue()) == ["short", ""]


def test_json_is_one_object_a_line_also_for_errors() -> None:
    out = io.StringIO()
    console = Console(as_json=True, out=out, err=out)
    with console.progress("case") as progress:
        progress("segmenting", 0.5, "window 1 of 2")
        progress("segmenting", 0.6, "window 2 of 2")
    console.error("something is wrong.")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["progress", "progress", "error"]
    assert (events[0]["fraction"], events[0]["seconds_left"]) == (0.5, None)
    assert events[1]["seconds_left"] >= 0


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


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A stream into a pipe whose reader has ended, as `head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize("as_json", [False, True])
def test_work_ends_where_nobody_reads_its_output_any_more(unread: TextIO, as_json: bool) -> None:
    console = Console(as_json, out=unread, err=unread)
    with console.progress("case") as report, pytest.raises(ReaderLeftError):
        report("reading", 0.1)
    console.note("what is left goes nowhere")


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--json"]])
def test_a_command_into_head_ends_quietly_with_the_code_of_a_broken_pipe(
    unread: TextIO, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert main(arguments) == 128 + 13
    assert capfd.readouterr().err == ""
