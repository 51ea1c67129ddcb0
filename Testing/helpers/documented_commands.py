"""The commands that a page of the documentation shows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `segwithu` command in the code blocks of a page, as a shell reads them."""
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.strip().startswith("segwithu ") else []
            if words:
                yield words[1:]
