"""Error codes: part of the message, so that they survive processes, tables and other messages."""

import ast
import csv
import functools
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
TABLE = MODULE.parent / "docs" / "reference" / "error_codes.csv"


def _constants(trees: list[ast.Module]) -> dict[str, str]:
    """Names of the modules that stand for a string."""
    found = {}
    for node in (node for tree in trees for node in tree.body if isinstance(node, ast.Assign)):
        for target in node.targets:
            names, values = ([*part.elts] if isinstance(part, ast.Tuple) else [part] for part in (target, node.value))
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[name.id] = value.value
    return found


def _error_classes(nodes: list[ast.AST]) -> dict[str, ast.ClassDef]:
    """The classes that derive from SegWithUError, by name."""
    found: dict[str, ast.ClassDef] = {}
    for _ in range(4):  # as deep as classes derive from each other
        for node in (node for node in nodes if isinstance(node, ast.ClassDef)):
            if node.name == "SegWithUError" or any(ast.unparse(base).split(".")[-1] in found for base in node.bases):
                found[node.name] = node
    return found


def _takers(nodes: list[ast.AST]) -> dict[str, int]:
    """The place of the argument `code` in the calls of functions that make an error."""
    found = {}
    for node in (node for node in nodes if isinstance(node, ast.FunctionDef) and node.returns):
        names = [argument.arg for argument in node.args.args]
        if "code" in names and ast.unparse(node.returns).endswith(("Error", "Iterator[None]")):
            found[node.name] = names.index("code") - (names[0] == "self")
    return found


@functools.cache
def codes_of_the_product() -> list[tuple[str, str, str]]:
    """Every code that an error of the product is raised with: the code, the class of the error, the file."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(MODULE.rglob("*.py"))}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    constants, classes, takers = _constants([*trees.values()]), _error_classes(nodes), _takers(nodes)
    places = dict.fromkeys(classes, 1) | takers
    del places["EngineMissingError"]  # takes no code
    found = []
    for path, tree in trees.items():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            spoken = [node.value for node in ast.walk(function) if isinstance(node, ast.Constant)]
            of_function = [text for text in spoken if isinstance(text, str) and CODE.fullmatch(text)]
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                kind = ast.unparse(call.func).split(".")[-1]
                if kind not in places:
                    continue
                given = call.args[places[kind] : places[kind] + 1]
                given += [keyword.value for keyword in call.keywords if keyword.arg == "code"]
                for part in (part for code in given for part in ast.walk(code)):
                    if isinstance(part, ast.Constant) and part.value:
                        if kind not in classes and not CODE.fullmatch(str(part.value)):
                            continue  # of another function of this name
                        found.append((part.value, kind, path.name))
                    elif isinstance(part, ast.Name):  # a name of a module, or a local name for some of its codes
                        codes = [constants[part.id]] if part.id in constants else of_function
                        found += [(code, kind, path.name) for code in codes]
            defaults = dict(zip(reversed(function.args.args), reversed(function.args.defaults), strict=False))
            usual = [value for name, value in defaults.items() if name.arg == "code"]
            found += [(value.value, function.name, path.name) for value in usual if ast.unparse(value) != "''"]
    for name, node in classes.items():
        for line in (line for line in node.body if isinstance(line, ast.Assign)):
            if ast.unparse(line.targets[0]) == "usual_code":
                value = ast.unparse(line.value)
                found.append((constants.get(value, value.strip("'")), name, "usual_code"))
    return found


def test_codes_are_words_with_hyphens_and_each_has_one_exit_status():
    found = codes_of_the_product()
    assert len({code for code, _, _ in found}) > 50, "the test sees no codes"
    assert [entry for entry in found if not CODE.fullmatch(entry[0])] == []
    kinds = {"InputError", "OutputError", "UsageError"}
    for code in {code for code, _, _ in found}:
        raised = {kind for each, kind, _ in found if each == code} & kinds
        assert len(raised) <= 1, f"{code} is raised as {sorted(raised)}"


def test_the_table_has_the_codes_of_the_product():
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(len(row) == 3 and all(row.values()) for row in rows)
    listed = [row["code"] for row in rows]
    assert listed == sorted(set(listed))
    assert set(listed) == {code for code, _, _ in codes_of_the_product()}
