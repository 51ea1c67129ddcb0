"""The page's own files: what a server may send, and all of them joined into one for a page that is sent by mail."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "static"
VOXEL_TYPE = "application/octet-stream"
PAGE, STYLE, ENTRY = "index.html", "style.css", "main.js"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*\.(html|css|js|svg)")
_IMPORT = re.compile(r'^import \{\s*(?:[\w$]+\s*,\s*)*[\w$]*\s*\} from "\./([a-z0-9_]+\.js)";[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const|let) )", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)
_DECLARED = re.compile(r"^(?:async function\*?|function\*?|class|const|let|var) ([\w$]+)", re.MULTILINE)


@dataclass(frozen=True)
class StaticFile:
    """What is sent as it is, a file of the page or the voxels of a case: its content, and its media type."""

    content: bytes | memoryview
    kind: str


def static_files(folder: Path = FOLDER) -> dict[str, StaticFile]:
    """Read all files of the page, by name; nothing else is ever sent."""
    found = sorted(path for path in folder.glob("*") if _NAME.fullmatch(path.name))
    return {path.name: StaticFile(path.read_bytes(), TYPES[path.suffix]) for path in found}


def joined_script(folder: Path = FOLDER) -> str:
    """Join the page's modules into one classic script: browsers load no modules from `file://`.

    Raises:
        ValueError: a module is written in a way that this does not understand; the page's tests find it.
    """
    parts: list[str] = []
    names: dict[str, str] = {}
    for name in _in_order(folder, ENTRY, (), []):
        text = _EXPORT.sub("", _IMPORT.sub("", _text(folder, name)))
        if left := _LEFT.search(text):
            raise ValueError(f"{name}: '{left[0][:80]}' cannot be joined")
        for declared in _DECLARED.findall(text):
            if declared in names:
                raise ValueError(f"{names[declared]} and {name} both declare '{declared}'")
            names[declared] = name
        parts.append(f"// {name}\n{text.strip()}\n")
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def _in_order(folder: Path, name: str, on_the_way: tuple[str, ...], done: list[str]) -> list[str]:
    """List a module after those that it imports."""
    if name in on_the_way:
        raise ValueError(f"{' > '.join((*on_the_way, name))} is a circle")
    if name not in done:
        for other in _IMPORT.findall(_text(folder, name)):
            _in_order(folder, other, (*on_the_way, name), done)
        done.append(name)
    return done


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")
