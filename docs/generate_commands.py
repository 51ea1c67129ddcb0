"""Write docs/user/commands.md from the parsers of the command line, so that the page cannot drift from `--help`.

    python docs/generate_commands.py [FILE]

`docs/conf.py` calls it before every build.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
TARGET = DOCS / "user" / "commands.md"
sys.path.insert(0, str(DOCS.parent / "SegWithUSlicer"))

INTRODUCTION = """# Commands

*This page is generated from the program's own help. Do not edit it.*

Errors are one sentence on stderr. Nothing half-written stays behind.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the work failed, or a check found something |
| 2 | the call is wrong |

Every command also takes these options:

{common}

Models are looked for in the folder of the shipped models and in your own folder: `SEGWITHU_MODELS`, or
`SegWithUSlicer/Models` among the application data.
"""


def commands_page() -> str:
    """The page as MyST Markdown: one section for each command."""
    os.environ["COLUMNS"] = "100"  # argparse wraps usage lines to the terminal
    from SegWithUCore.cli.__main__ import parser

    found = list(_leaves(parser(), ""))
    shared = set.intersection(*[{_key(action) for action in leaf._actions} for leaf, _ in found])
    common = [action for action in found[0][0]._actions if _key(action) in shared]
    parts = [INTRODUCTION.format(common=_table(common, found[0][0]))]
    for leaf, summary in found:
        parts.append(_section(leaf, summary, shared))
    return "\n".join(parts)


def write_commands(target: Path = TARGET) -> None:
    """Write the page, only if it changed: an untouched file is not built again."""
    page = commands_page()
    if not target.is_file() or target.read_text(encoding="utf-8") != page:
        target.write_text(page, encoding="utf-8")


def _leaves(parser: argparse.ArgumentParser, summary: str) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Every parser without sub-commands, with the line that its parent's help shows."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser, summary
    for action in below:
        lines = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from _leaves(child, lines.get(name, ""))


def _key(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else f"<{action.dest}>"


def _section(parser: argparse.ArgumentParser, summary: str, shared: set[str]) -> str:
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    own = [action for action in parser._actions if _key(action) not in shared]
    about = parser.description or summary
    words = _plain(about[:1].upper() + about[1:])
    return f"## `{parser.prog}`\n\n{words}\n\n```text\n{usage}\n```\n\n{_table(own, parser)}\n"


def _table(actions: list[argparse.Action], parser: argparse.ArgumentParser) -> str:
    formatter = parser._get_formatter()
    rows = ["| argument | meaning |", "|---|---|"]
    for action in actions:
        if action.help == argparse.SUPPRESS:
            continue
        name = formatter._format_action_invocation(action).replace("|", "\\|")
        words = _plain(formatter._expand_help(action)) if action.help else ""
        needed = " *(required)*" if action.required and action.option_strings else ""
        rows.append(f"| `{name}` | {words}{needed} |".replace("\n", " "))
    return "\n".join(rows) if len(rows) > 2 else ""


def _plain(words: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in ("\\", "|", "<", "*", "_", "[", "$"):
        words = words.replace(sign, "\\" + sign)
    return " ".join(words.split())


if __name__ == "__main__":
    write_commands(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
