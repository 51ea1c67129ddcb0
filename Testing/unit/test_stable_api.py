"""The stable API is frozen: who changes a name or a signature changes `Testing/data/stable_api.txt` on purpose.

PYTHONPATH=Testing/helpers python Testing/unit/test_stable_api.py > stable_api.txt, then move it to Testing/data
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from repository import ROOT

import segwithu
from SegWithUCore.case.case_file import FORMAT_VERSION
from SegWithUCore.review import log_format
from SegWithUCore.util.strict_json import schema

FROZEN = ROOT / "Testing" / "data" / "stable_api.txt"
PAGE = ROOT / "docs" / "reference" / "stable_api.md"
CORE = ROOT / "SegWithUSlicer" / "SegWithUCore"


def signature(node: ast.FunctionDef) -> str:
    """Arguments and result as they are written, whatever the Python version."""
    given = [ast.unparse(each) for each in node.decorator_list if "property" in ast.unparse(each)]
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{node.name}{result}" if given else f"{node.name}({ast.unparse(node.args)}){result}"


def described(name: str) -> Iterator[str]:
    """Yield the lines about a public name: of a class also public attributes and methods, and those of its bases."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(getattr(segwithu, name)))).body
    if isinstance(node, ast.FunctionDef):
        yield signature(node)
        return
    assert isinstance(node, ast.ClassDef)
    yield f"{name}({', '.join(map(ast.unparse, node.bases))})"
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and (part.name == "__init__" or not part.name.startswith("_")):
            yield f"    {signature(part)}"
            yield from (f"    {line}" for line in own_attributes(part) if part.name == "__init__")
        elif isinstance(part, ast.AnnAssign) and not ast.unparse(part.target).startswith("_"):
            yield f"    {ast.unparse(part)}"


def own_attributes(constructor: ast.FunctionDef) -> Iterator[str]:
    """Yield the public attributes that a constructor sets."""
    for node in ast.walk(constructor):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not node.attr.startswith("_"):
            yield ast.unparse(node)


def stable_api() -> str:
    names = [name for name in segwithu.__all__ if name != "__version__"]
    return "".join(f"{line}\n" for name in names for line in described(name))


def test_names_and_signatures_are_frozen() -> None:
    pytest.importorskip("torch")  # the head is a torch module
    assert stable_api() == FROZEN.read_text(encoding="utf-8"), f"run {Path(__file__).name}: see its first lines"


def test_the_page_uses_every_name_and_shows_the_plugin_as_it_is() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    used = set(re.findall(r"segwithu\.(\w+)", "\n".join(blocks)))
    assert used >= set(segwithu.__all__) - {"__version__"}
    for part in ("head", "export"):
        code = ROOT / "Testing" / "data" / "plugin" / "segwithu_example" / f"{part}.py"
        assert code.read_text(encoding="utf-8") in blocks


def test_the_schema_of_log_lines_has_the_fields_of_every_action() -> None:
    lines = schema(CORE / "review" / "log_line.schema.json")
    assert lines["properties"]["event"]["enum"] == list(log_format.ACTIONS)
    for name, action in log_format.ACTIONS.items():
        fields = inspect.signature(action).parameters
        wanted = lines["$defs"].get(name, {"properties": {}, "required": []})
        assert set(wanted["properties"]) == set(fields), name
        needed = [field for field, each in fields.items() if each.default is inspect.Parameter.empty]
        assert wanted["required"] == needed, name
    assert lines["$defs"]["opened"]["properties"]["format"]["const"] == log_format.FORMAT
    assert set(get_args(log_format.Action)) == set(log_format.ACTIONS.values())
    assert schema(CORE / "case" / "case.schema.json")["properties"]["format_version"]["const"] == FORMAT_VERSION


if __name__ == "__main__":
    print(stable_api(), end="")
