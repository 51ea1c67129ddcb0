"""Logs that come back with lines that no review has: not merged, or merged with a word about them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exchanged_cases import CASES, copied, judged
from segwithu_command import Command

from SegWithUCore.review.log_format import Verdict

Lines = list[dict[str, Any]]


@pytest.fixture
def ours(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / CASES[0], tmp_path / "ours")


@pytest.fixture
def back(segmented_cases: Path, tmp_path: Path) -> Path:
    """The case with a review that came back."""
    case = copied(segmented_cases / CASES[0], tmp_path / "back")
    judged(case, "eve", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED, 3: Verdict.ACCEPTED})
    return case


def rewritten(case: Path, change: Callable[[Lines], Lines | None]) -> Path:
    """Change the lines of the log."""
    log = case / "review.eve.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    lines = change(lines) or lines
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return log


def of_bob(lines: Lines) -> None:
    lines[2]["reviewer"] = "bob"


CHANGES: dict[str, tuple[Callable[[Lines], Lines | None], str, str]] = {
    "a line of bob": (of_bob, "damaged-log", "line 3 is a line of 'bob'"),
    "a verdict before the header": (lambda n: [n[1], n[0], *n[2:]], "damaged-log", ""),
    "no header": (lambda n: n[1:], "damaged-log", ""),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_log_that_is_not_one_review_is_refused_by_name_and_not_counted(
    kind: str, ours: Path, back: Path, segwithu: Command
) -> None:
    change, error_code, words = CHANGES[kind]
    log = rewritten(back, change)
    outcome = segwithu("merge-reviews", back, "--into", ours)
    assert (outcome.code, outcome.error_codes) == (1, [error_code]), outcome.err
    assert str(log) in outcome.err and words in outcome.err
    assert not (ours / log.name).exists()
    assert segwithu("report", back).code == 0
    assert f"[{error_code}]" in (back / "report.html").read_text(encoding="utf-8")


def test_times_that_run_backwards_are_noted(ours: Path, back: Path, segwithu: Command) -> None:
    """The clock of a computer may be set back, so the log is merged."""

    def earlier(lines: Lines) -> None:
        lines[2]["when"] = "2020-01-01T00:00:00Z"

    log = rewritten(back, earlier)
    outcome = segwithu("merge-reviews", back, "--into", ours)
    assert outcome.code == 0 and (ours / log.name).read_bytes() == log.read_bytes()
    assert f"Line 3 of {log.name}" in outcome.out + outcome.err
