"""Settings of the documentation: `make docs` builds it, warnings are errors, nothing is fetched from the network."""

import html
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT / "SegWithUSlicer")]

from generate_commands import write_commands  # noqa: E402

from SegWithUCore import __version__  # noqa: E402
from SegWithUCore.models.bundle import read_bundle  # noqa: E402
from SegWithUCore.models.quality import away_markdown  # noqa: E402

write_commands()

project = "SegWithU for 3D Slicer"
author = "The SegWithUSlicer authors"
copyright = "The SegWithUSlicer authors, Apache-2.0"
release = version = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"SegWithU for 3D Slicer {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
html_show_sourcelink = False
smartquotes = False  # "--roi" stays as it is typed
html_math_renderer = "mathml"  # MathJax would be fetched when a page is opened; browsers show MathML by themselves

REPOSITORY = "https://github.com/SegWithUSlicer/SlicerSegWithU/blob/main"
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!https?:|mailto:|#)(?P<path>[^)\s#]+)(?P<id>#[^)\s]*)?\)")
_PATH = re.compile(r"`((?:Testing|Resources|docs|examples)/[\w./-]+)`")
_BOX = re.compile(r'(\w+)\["([^"]+)"\]')
_log = logging.getLogger(__name__)


class Pipeline(Directive):
    """A mermaid flow chart whose boxes follow one another, drawn without JavaScript: boxes in a row with arrows."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """One box for each `name["title<br>more"]`, in the order in which they appear."""
        boxes = dict(_BOX.findall("\n".join(self.content)))
        cells = []
        for words in boxes.values():
            title, *more = words.split("<br>")
            small = "".join(f"<span>{html.escape(line)}</span>" for line in more)
            cells.append(f"<li><b>{html.escape(title)}</b>{small}</li>")
        return [nodes.raw("", f'<ol class="pipeline">{"".join(cells)}</ol>', format="html")]


def links_out_of_docs(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Point links to files of the repository outside docs/ to the repository's page.

    A link to a file that does not exist is a warning, and so is a path in back quotes.
    """
    here = (DOCS / docname).parent

    def replaced(match: re.Match[str]) -> str:
        target = (here / match["path"]).resolve()
        if not target.exists():
            _log.warning("%s links to %s, which does not exist", docname, match["path"])
        if match["image"] or target.is_relative_to(DOCS) or not target.is_relative_to(ROOT):
            return match[0]
        return f"[{match['text']}]({REPOSITORY}/{target.relative_to(ROOT).as_posix()}{match['id'] or ''})"

    if docname == "developer/architecture":  # the page begins with ARCHITECTURE.md, whose links count from the root
        page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
        source[0] = source[0].replace("<!-- ARCHITECTURE.md -->", page.replace("](", "](../../"))
        source[0] = source[0].replace("](../../http", "](http").replace("](../../#", "](#")
    if docname == "models/hippocampus":
        bundle = read_bundle(ROOT / "Resources" / "Models" / "hippocampus")
        source[0] = source[0].replace("<!-- away -->", away_markdown(bundle.away))
    source[0] = _LINK.sub(replaced, source[0])
    for path in _PATH.findall(source[0]):
        if not (ROOT / path).exists():
            _log.warning("%s names %s, which does not exist", docname, path)


def inline_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line as MathML."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def formula(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own as MathML."""
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the directive, the hook and the way in which formulas are written."""
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
    app.add_directive("mermaid", Pipeline)
    app.connect("source-read", links_out_of_docs)
