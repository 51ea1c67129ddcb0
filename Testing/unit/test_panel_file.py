"""The panel's .ui file and who names its widgets: the code, the tests in Slicer, the workflows for a real Slicer."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree

from repository import PACKAGES, ROOT, TESTING

from SegWithUCore.review.verdicts import GIVEN, Verdict
from SegWithUSlicerLib.scene.readout import for_panel

UI = ElementTree.parse(ROOT / "Resources" / "UI" / "SegWithUSlicer.ui").getroot()
FOLDING = {"advancedButton", "exportButton", "inputsButton", "logButton", "reviewMoreButton", "SegWithUSlicer"}
REAL = TESTING / "real"


def test_every_control_is_used_by_the_code() -> None:
    code = "".join(path.read_text("utf-8") for path in (PACKAGES / "SegWithUSlicerLib" / "panels").glob("*.py"))
    controls = {w.get("name", "") for w in UI.iter("widget") if w.get("class") not in ("QLabel", "QWidget", "QFrame")}
    assert [name for name in sorted(controls - FOLDING) if name not in code] == []


def test_every_widget_that_a_test_names_is_in_the_panel() -> None:
    panel = {widget.get("name") for widget in UI.iter("widget")}
    real = "".join(path.read_text("utf-8") for path in REAL.glob("real_*.py"))
    tests = "".join(path.read_text("utf-8") for path in (TESTING / "in_slicer").glob("*.py"))
    asked = set(re.findall(r'\.(?:find|click)\("(\w+)"\)', real))
    asked |= set(re.findall(r"\bui\.(\w+(?:Button|Box|Label|Edit|Slider|Table|Bar|Selector|Frame|Text))\b", tests))
    panel |= {f"{name}{end}" for name in map(_verdict_name, GIVEN) for end in ("Button", "StructureButton")}
    assert len(asked) > 60
    assert sorted(asked - panel) == []


def _verdict_name(verdict: Verdict) -> str:
    """The name that `add_verdict_buttons` gives to what it makes."""
    first, *others = verdict.text.removesuffix("ed").split()
    return first + "".join(word.capitalize() for word in others)


def test_no_text_of_the_panel_names_an_option_or_a_command() -> None:
    texts = [string.text or "" for string in UI.iter("string")]
    assert len(texts) > 100
    assert [text for text in texts if for_panel(text) != text] == []


def test_workflows_import_slicer_and_the_standard_library_only() -> None:
    own = {*(path.stem for path in REAL.glob("*.py")), "SegWithUCore", "SegWithUSlicer", "SegWithUSlicerLib"}
    for path in REAL.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            tops = {name.split(".")[0] for name in names}
            assert tops <= own | {"slicer", "vtk", "qt", "numpy"} | set(sys.stdlib_module_names), path
