"""Write docs/user/commands.md from the help of all commands, so that the page cannot drift from `--help`.

    python docs/generate_commands.py [FILE]

`docs/conf.py` calls it before every build.
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
TARGET = DOCS / "user" / "commands.md"
sys.path.insert(0, str(DOCS.parent / "SegWithUSlicer"))

INTRODUCTION = """# Commands

*This page is generated from the program's own help. Do not edit it.*

Errors are one sentence on stderr. Partial output is removed.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the work failed, or a check found something |
| 2 | the call is wrong |
| 130 | stopped by Ctrl-C or SIGTERM |
| 141 | the reader of the output has closed it |

Models are searched in the folder of the shipped models and in your own folder: `SEGWITHU_MODELS`, or
`SegWithUSlicer/Models` among the application data.
"""


def commands_page() -> str:
    """The page as MyST Markdown: one section for each command."""
    os.environ["COLUMNS"] = "84"  # argparse wraps lines to the terminal
    from SegWithUCore.cli.__main__ import parser

    sections = [f"## `{leaf.prog}`\n\n```text\n{leaf.format_help()}```\n" for leaf in parser().leaves()]
    return "\n".join([INTRODUCTION, *sections])


def write_commands(target: Path = TARGET) -> None:
    """Write the page, only if it changed: an untouched file is not built again."""
    page = commands_page()
    if not target.is_file() or target.read_text(encoding="utf-8") != page:
        target.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_commands(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
