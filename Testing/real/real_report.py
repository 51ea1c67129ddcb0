"""The report of the workflows: `report.html` for people, `results.json` (as JUnit counts) for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from real_user import Seen

PASSED, FAILED, TIMED_OUT, SKIPPED, STARTED = "passed", "failed", "timed out", "skipped", "did not end"
_COLOURS = {PASSED: "#1a7f37", SKIPPED: "#6e7781"}
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}h2{margin-top:2em}"
    "img{height:280px;margin:4px;border:1px solid #ccc}pre{background:#f6f8fa;padding:8px;overflow:auto}"
    "table{border-collapse:collapse}td,th{padding:2px 12px 2px 0;text-align:left}"
)


@dataclass
class Result:
    """How one workflow ended."""

    name: str
    words: str
    status: str = STARTED
    seconds: float = 0.0
    message: str = ""
    details: str = ""
    seen: Seen = field(default_factory=Seen)


@dataclass
class Report:
    """All results so far, and what they were made with."""

    facts: dict[str, str]
    results: list[Result] = field(default_factory=list)
    problem: str = ""
    """Why workflows were skipped, with what to do."""

    def count(self, *statuses: str) -> int:
        """Count the workflows that ended so."""
        return sum(result.status in statuses for result in self.results)

    @property
    def exit_code(self) -> int:
        """Give 0 if all passed, 1 if one did not, 2 if none failed and some were skipped: nothing is known of them."""
        if self.count(FAILED, TIMED_OUT, STARTED) or not self.results:
            return 1
        return 2 if self.count(SKIPPED) else 0

    @property
    def message(self) -> str:
        """Say in one line how it went."""
        wrong, skipped = self.count(FAILED, TIMED_OUT, STARTED), self.count(SKIPPED)
        return f"{self.count(PASSED)} of {len(self.results)} workflows passed, {wrong} failed, {skipped} were skipped."

    def write(self, folder: Path) -> None:
        """Write both files, anew after each workflow: a crash of Slicer leaves what was known before."""
        (folder / "results.json").write_text(json.dumps(self._as_json(), indent=1) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(self._as_html(), encoding="utf-8")

    def _as_json(self) -> dict[str, Any]:
        return {
            "name": "SegWithUSlicer workflows",
            "tests": len(self.results),
            "failures": self.count(FAILED, TIMED_OUT, STARTED),
            "skipped": self.count(SKIPPED),
            "time": round(sum(result.seconds for result in self.results), 1),
            "exit_code": self.exit_code,
            "problem": self.problem,
            "properties": self.facts,
            "testcases": [_case(result) for result in self.results],
        }

    def _as_html(self) -> str:
        facts = "".join(f"<tr><th>{escape(name)}<td>{escape(text)}" for name, text in self.facts.items())
        rows = "".join(
            f'<tr><td><a href="#{result.name}">{result.name}</a><td style="color:{_colour(result)}">{result.status}'
            f"<td>{result.seconds:.1f} s<td>{escape(result.message)}"
            for result in self.results
        )
        return (
            '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>SegWithUSlicer in 3D Slicer</title>'
            f"<style>{_STYLE}</style><h1>SegWithUSlicer in 3D Slicer</h1><p><b>{escape(self.message)}</b> "
            f"{escape(self.problem)}</p><table>{facts}</table><h2>Workflows</h2><table>{rows}</table>"
            + "".join(map(_section, self.results))
            + "</html>\n"
        )


def _colour(result: Result) -> str:
    return _COLOURS.get(result.status, "#cf222e")


def _case(result: Result) -> dict[str, Any]:
    case = {key: value for key, value in asdict(result).items() if key not in ("seen", "seconds", "words")}
    return {**case, "description": result.words, "time": round(result.seconds, 1), **asdict(result.seen)}


def _section(result: Result) -> str:
    checks = "".join(
        f"<li>{'✓' if check.passed else '✗ <b>not so:</b>'} {escape(check.name)}"
        + (f" <small>({escape(check.found)})</small>" if check.found and not check.passed else "")
        for check in result.seen.checks
    )
    pictures = "".join(
        f'<a href="{name}"><img src="{name}" alt="{name}" title="{name}"></a>' for name in result.seen.pictures
    )
    own = [f"Of Slicer's own code, not counted:\n{text}" for text in result.seen.of_slicer]
    texts = "".join(f"<pre>{escape(text)}</pre>" for text in [result.details, *result.seen.surprises, *own] if text)
    return (
        f'<h2 id="{result.name}">{result.name}: {result.status}</h2><p>{escape(result.words)}</p>'
        f"<ul>{checks}</ul>{texts}<p>{pictures}</p>"
    )
