"""Error codes: part of the message, so that they survive processes, tables and other messages."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from SegWithUCore.util.errors import InputError, code_of, naming

MODULE = Path(__file__).resolve().parents[2] / "SegWithUSlicer"


def test_the_code_survives_pickling_and_being_quoted():
    error = InputError("a.nii.gz is cut.", code="truncated-file")
    assert pickle.loads(pickle.dumps(error)).code == "truncated-file"
    assert InputError(f"Case a failed: {error}").code == "truncated-file"
    with pytest.raises(InputError) as caught, naming("b.json"):
        raise error
    assert caught.value.code == "truncated-file"


@pytest.mark.parametrize("text", ["", "no code.", "shape [2, 3]", "[1-2]", "[word]", "[Two-Words]"])
def test_other_brackets_are_no_codes(text: str):
    assert code_of(text) == ""


CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
ERRORS = {"SegWithUError", "InputError", "OutputError", "UsageError", "CancelledError"}


def codes_of_the_product() -> list[tuple[str, str, str]]:
    """Every code that an error of the product is raised with: the code, the class of the error, the file."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(MODULE.rglob("*.py"))}
    constants = {
        target.id: node.value.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for path, tree in trees.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            kind = ast.unparse(call.func)
            given = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "code")]
            for part in (part for code in given if kind in ERRORS for part in ast.walk(code)):
                if isinstance(part, ast.Constant) and part.value:
                    found.append((part.value, kind, path.name))
                elif isinstance(part, ast.Name) and part.id in constants:  # written once, wherever it is used
                    found.append((constants[part.id], kind, part.id))
    return found


def test_codes_are_words_with_hyphens_and_each_is_of_one_class():
    found = codes_of_the_product()
    assert len({code for code, _, _ in found}) > 50, "the test sees no codes"
    assert [entry for entry in found if not CODE.fullmatch(entry[0])] == []
    for code in {code for code, _, _ in found}:
        kinds = {kind for each, kind, _ in found if each == code}
        assert len(kinds) == 1, f"{code} is raised as {sorted(kinds)}"
