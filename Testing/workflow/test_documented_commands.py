"""Every command of README and docs is one that the program knows; those of the first pages run, in an empty folder."""

import shlex
import signal
import sys
from pathlib import Path

import pytest
from documented_commands import commands
from repository import ROOT
from segwithu_command import Command, child

from SegWithUCore.cli.__main__ import parser

PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIRST_PAGES = ("README.md", "docs/user/commandline.md", "docs/user/browser.md", "docs/user/export.md")
RUN_ELSEWHERE = ("export-dicom", "--behind-proxy")
"""Commands of the first pages that want a DICOM series or a proxy; they have tests of their own."""


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=lambda page: page.name)
def test_the_program_knows_every_command_of_the_documentation(page: Path) -> None:
    for words in commands(page):
        if "..." in words:  # an outline, not a command
            continue
        try:
            parser().parse_args(words)
        except SystemExit as ended:
            pytest.fail(f"{page.name}: segwithu {shlex.join(words)} is refused ({ended.code})")


@pytest.mark.slow
def test_the_commands_of_the_first_pages_run_as_written_in_an_empty_folder(
    segwithu: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = []
    for page in FIRST_PAGES:
        for words in commands(ROOT / page):
            if any(word in words for word in RUN_ELSEWHERE):
                continue
            if words[0] == "web":
                serve_and_stop(words)
            elif words[0] == "merge-reviews":
                Path("back").mkdir()
                assert segwithu(*words).code == 1, "nothing came back yet"
            else:
                outcome = segwithu(*words, *(["--overwrite"] if words[0] == "segment" and ["segment"] in ran else []))
                assert outcome.code == 0, f"{page}: segwithu {shlex.join(words)}: {outcome.err}"
            ran.append(words[:1])
    assert {"demo", "segment", "web", "export"} <= {word for (word,) in ran}
    assert Path("demo/brain/preview.png").is_file()
    assert Path("results/brain/case.json").is_file()


def serve_and_stop(words: list[str]) -> None:
    """Start the page without opening a browser, wait for its address, and press Ctrl-C."""
    process = child(*(word for word in words if word != "--open"), cwd=Path.cwd())
    assert process.stderr is not None
    try:
        line = next((line for line in process.stderr if "http" in line or "Error" in line), "")
        assert "http://" in line, line
    finally:
        process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        process.communicate(timeout=60)
