"""The house rules, read from the source: arrows between rooms, what Slicer loads, sizes, nothing unpickled."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SegWithUSlicer"
CORE, LIB = MODULE / "SegWithUCore", MODULE / "SegWithUSlicerLib"
FOUNDATION = {
    "available_memory",
    "csv_files",
    "errors",
    "freed_memory",
    "input_files",
    "json_schemas",
    "private_streams",
    "own_paths",
    "process_identity",
    "process_lock",
    "progress",
    "strict_json",
    "whole_files",
    "user_folder",
    "version",
}
"""Top-level modules of the core that every room may import."""
ROOMS: dict[str, set[str]] = {
    "network": set(),
    "metrics": set(),
    "imaging": set(),
}
"""What each room of the core may import: network, metrics, imaging <- models, calibration, review <- inference
<- training <- evaluation <- cli, worker. Siblings do not import each other."""
ROOMS |= {room: set(ROOMS) for room in ["models", "calibration", "review"]}
for later in ["inference", "training", "evaluation", "cli"]:
    ROOMS[later] = set(ROOMS)
ROOMS["worker"] = ROOMS["cli"]
SLICER_ONLY = {"slicer", "vtk", "qt", "ctk", "SegWithUSlicerLib", "SegWithUSlicer", "vtkmodules", "mrml"}
SLICER_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "numpy", "SegWithUCore", "SegWithUSlicerLib"}
"""All that files loaded by Slicer may import at file scope besides the standard library: torch and its kin may be
missing there, or half installed."""
BROUGHT_BY_SLICER = {"numpy", "SimpleITK"}
"""What functions of these files may load: every Slicer has it, but SimpleITK takes time at a start."""
MAXIMUM_FILE_LINES, MAXIMUM_FUNCTION_LINES = 350, 70

SOURCES = sorted(path for path in MODULE.rglob("*.py") if not any(part.startswith(".") for part in path.parts))
CORE_SOURCES = [path for path in SOURCES if path.is_relative_to(CORE)]
SLICER_SOURCES = [path for path in SOURCES if path.is_relative_to(LIB) or path == MODULE / "SegWithUSlicer.py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path: Path) -> str:
    """The dotted module name of a source file."""
    parts = path.relative_to(MODULE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Dotted names that the given nodes import, relative ones made absolute, with their lines."""
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # "from . import x" imports the module x where there is one
                full = f"{start}.{alias.name}"
                place = MODULE / full.replace(".", "/")
                yield (full if place.is_dir() or place.with_suffix(".py").is_file() else start), node.lineno


def at_file_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the file is imported: no functions, and not what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from at_file_scope(other)
            continue
        yield child
        yield from at_file_scope(child)


def room_of(module: str) -> str | None:
    """The room of a core module; None for the foundation and outside the core."""
    parts = module.split(".")
    if parts[0] != "SegWithUCore" or len(parts) < 2 or parts[1] in FOUNDATION or parts[1] == "__version__":
        return None
    return "worker" if parts[1].startswith("worker") else parts[1]


def test_there_is_something_to_read() -> None:
    assert len(CORE_SOURCES) > 30
    assert {path.parent.name for path in CORE_SOURCES} >= {
        "network",
        "metrics",
        "models",
        "inference",
        "training",
        "cli",
    }
    found = list(imports_of(CORE / "inference" / "segment.py", ast.walk(tree_of(CORE / "inference" / "segment.py"))))
    assert "SegWithUCore.models.bundle" in [name for name, _ in found]


@pytest.mark.parametrize("path", CORE_SOURCES, ids=name_of)
def test_core_imports_follow_the_arrows(path: Path) -> None:
    own = room_of(dotted(path))
    assert own is None or own in ROOMS, f"{name_of(path)} lies in no known room: add it to ROOMS"
    allowed = ROOMS[own] | {own} if own else set()
    for name, line in imports_of(path, ast.walk(tree_of(path))):
        room = room_of(name)
        assert room is None or room in allowed, f"{name_of(path)}:{line} ({own}) imports {name}: wrong way"


@pytest.mark.parametrize("path", CORE_SOURCES, ids=name_of)
def test_core_never_imports_slicer(path: Path) -> None:
    for name, line in imports_of(path, ast.walk(tree_of(path))):
        assert name.split(".")[0] not in SLICER_ONLY, f"{name_of(path)}:{line} imports {name}"


@pytest.mark.parametrize("path", SLICER_SOURCES, ids=name_of)
def test_files_that_slicer_loads_need_nothing_that_may_be_missing(path: Path) -> None:
    for name, line in imports_of(path, at_file_scope(tree_of(path))):
        top = name.split(".")[0]
        known = top in sys.stdlib_module_names or top in SLICER_FILE_SCOPE
        assert known, f"{name_of(path)}:{line} imports {name} at file scope: import it where it is used"


def loaded_with(module: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Third-party packages that importing a core module loads, with the module that asks for them."""
    if module in seen:
        return
    seen.add(module)
    place = MODULE / module.replace(".", "/")
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    parent = module.rpartition(".")[0]
    if parent:
        yield from loaded_with(parent, seen)
    for name, _ in imports_of(path, at_file_scope(tree_of(path))):
        if name.split(".")[0] == "SegWithUCore":
            yield from loaded_with(name, seen)
        elif name.split(".")[0] not in sys.stdlib_module_names:
            yield name.split(".")[0], module


@pytest.mark.parametrize("path", SLICER_SOURCES, ids=name_of)
def test_core_modules_that_the_window_of_slicer_loads_bring_no_torch(path: Path) -> None:
    tree = tree_of(path)
    at_start = set(imports_of(path, at_file_scope(tree)))
    for name, line in imports_of(path, ast.walk(tree)):
        if name.split(".")[0] == "SegWithUCore":
            light = {"numpy"} if (name, line) in at_start else BROUGHT_BY_SLICER
            heavy = [f"{package} (by {by})" for package, by in loaded_with(name, set()) if package not in light]
            assert not heavy, f"{name_of(path)}:{line} imports {name}, which loads {', '.join(heavy)}"


@pytest.mark.parametrize("path", [p for p in SLICER_SOURCES if p != MODULE / "SegWithUSlicer.py"], ids=name_of)
def test_the_library_does_not_import_the_module(path: Path) -> None:
    names = [name.split(".")[0] for name, _ in imports_of(path, ast.walk(tree_of(path)))]
    assert "SegWithUSlicer" not in names


@pytest.mark.parametrize("name", ["scene.py", "overlays.py"])
def test_scene_and_overlays_need_no_qt(name: str) -> None:
    """They are shared with the browser page: not even through other files of the library."""
    waiting, seen = [LIB / name], set()
    while waiting:
        path = waiting.pop()
        for module, line in imports_of(path, ast.walk(tree_of(path))):
            assert module.split(".")[0] not in {"qt", "ctk"}, f"{name_of(path)}:{line} imports {module}"
            other = (MODULE / module.replace(".", "/")).with_suffix(".py")
            if module.startswith("SegWithUSlicerLib.") and other.is_file() and other not in seen:
                seen.add(other)
                waiting.append(other)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    tree = tree_of(path)
    for name, line in imports_of(path, ast.walk(tree)):
        unsafe = name.split(".")[0] in {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
        assert not unsafe, f"{name_of(path)}:{line} imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in {"torch.load", "torch.jit.load"}:
            assert options.get("weights_only") == "True", (
                f"{name_of(path)}:{node.lineno}: {called} without weights_only"
            )
        assert options.get("allow_pickle") != "True", f"{name_of(path)}:{node.lineno} allows pickles"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MAXIMUM_FILE_LINES, f"{name_of(path)} has {lines} lines: split it"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length < MAXIMUM_FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines: split it"


@pytest.mark.skipif(
    not (MODULE / "CMakeLists.txt").is_file(), reason="SegWithUSlicer/CMakeLists.txt is not written yet"
)
def test_cmake_installs_every_script_and_names_none_that_is_gone() -> None:
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    words = "\n".join(line.split("#")[0] for line in text.splitlines()).replace('"', " ").split()
    listed = {word.replace("${MODULE_NAME}", "SegWithUSlicer") for word in words if word.endswith(".py") or "/" in word}
    if "GLOB_RECURSE" in text:
        pytest.fail("list the scripts by name: a glob is not seen by an incremental build")
    scripts = {path.relative_to(MODULE).as_posix() for path in SOURCES}
    named = {word for word in listed if word.endswith(".py")}
    assert scripts - named == set()
    assert named - scripts == set()


def test_the_reader_of_imports_finds_wrong_arrows_of_every_kind() -> None:
    """The tests above cannot be blind: every way to write an import is resolved."""
    lines = ["from ..cli import segment", "from . import taps", "import slicer.util"]
    lines += ["from SegWithUCore.training.recipe import Recipe", "def late():", "    from ..training import losses"]
    code = "\n".join([*lines, "if TYPE_CHECKING:", "    import torch", "else:", "    import scipy"])
    path = CORE / "network" / "not_there.py"
    found = [name for name, _ in imports_of(path, ast.walk(ast.parse(code)))]
    assert set(found) == {
        "SegWithUCore.cli.segment",
        "SegWithUCore.network.taps",
        "slicer.util",
        "SegWithUCore.training.recipe",
        "SegWithUCore.training.losses",
        "torch",
        "scipy",
    }
    early = [name for name, _ in imports_of(path, at_file_scope(ast.parse(code)))]
    assert "SegWithUCore.training.losses" not in early
    assert "torch" not in early
    assert "scipy" in early
    assert [
        room_of(name) for name in ("SegWithUCore.worker_jobs", "SegWithUCore.errors", "SegWithUCore.cli.train")
    ] == [
        "worker",
        None,
        "cli",
    ]
