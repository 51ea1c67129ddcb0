"""The architecture, read from the source: arrows between packages, no circles, what Slicer loads, no pickles.

Each test looks at all files and lists every offender at once.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from repository import left_out_of_slicer

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SegWithUSlicer"
CORE, LAB, LIB = MODULE / "SegWithUCore", MODULE / "SegWithULab", MODULE / "SegWithUSlicerLib"
PUBLIC = MODULE / "segwithu"

CORE_LAYERS: list[set[str]] = [
    {"cli"},
    {"web"},
    {"worker", "export"},
    {"cohort"},
    {"inference", "report"},
    {"review"},
    {"case"},
    {"models"},
    {"network", "calibration", "io"},
    {"metrics", "regions"},
    {"util"},
    {"top"},
]
LAB_LAYERS: list[set[str]] = [{"evaluation"}, {"calibration"}, {"training"}]
LIB_LAYERS: list[set[str]] = [{"panels"}, {"cases"}, {"review", "run"}, {"scene"}, {"top"}]
"""A package may import those of later layers only, never its neighbours; "top" are the files that lie in no package."""
TOP_ENTRIES = {"SegWithUCore", "SegWithUCore.api", "SegWithULab.pipeline"}
"""Modules at the top that are not below all packages: the public functions, which load what they need when called."""

SLICER_ONLY = {"slicer", "vtk", "qt", "ctk", "SegWithUSlicerLib", "SegWithUSlicer", "vtkmodules", "mrml"}
SLICER_FILE_SCOPE = {"slicer", "vtk", "qt", "ctk", "numpy", "SegWithUCore", "SegWithUSlicerLib"}
"""All that files loaded by Slicer may import at file scope besides the standard library: torch and its kin may be
missing there, or half installed."""
BROUGHT_BY_SLICER = {"numpy", "SimpleITK"}
"""What functions of these files may load: every Slicer has it, but SimpleITK takes time at a start."""
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
READERS = {"read_file", "read_labels", "read_volume", "read_image", "read_stored", "read_voxels", "voxel_pieces"}
READERS |= {"ReadImage", "ImageFileReader"}
"""What reads the voxels of a file, without a look at the case that it may belong to."""
READ_BY = {
    "SegWithUCore/case/case_files.py": "files of cases, which it compares with their hashes",
    "SegWithUCore/case/case_image.py": "images of cases, known by the hash of their voxels",
    "SegWithUCore/case/segmentation_file.py": "reviewers' versions, which say on which image they were made",
    "SegWithUCore/review/merge.py": "reviewers' versions that are returned",
    "SegWithUCore/inference/given_mask.py": "masks that are judged",
    "SegWithUCore/inference/placement.py": "templates of models, which have a hash",
    "SegWithULab/training/case_reading.py": "images and references of data sets",
    "SegWithULab/training/survey.py": "references of data sets",
    "SegWithUSlicerLib/review/contour.py": "the segmentation in the scene",
    "SegWithUSlicerLib/scene/read_case.py": "files of cases in Slicer's window, which a child process compares",
}
"""All files outside of `io` that read voxels, and whose."""

SOURCES = sorted(path for path in MODULE.rglob("*.py") if not any(part.startswith(".") for part in path.parts))
CORE_SOURCES = [path for path in SOURCES if path.is_relative_to(CORE)]
LAB_SOURCES = [path for path in SOURCES if path.is_relative_to(LAB)]
SLICER_SOURCES = [path for path in SOURCES if path.is_relative_to(LIB) or path == MODULE / "SegWithUSlicer.py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path: Path) -> str:
    """The dotted module name of a source file."""
    parts = path.relative_to(MODULE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
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


def all_but_types(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from all_but_types(child)


def package_of(module: str) -> str:
    """The package of one of our modules, "top" for those that lie in none."""
    top, _, rest = module.partition(".")
    first = rest.split(".")[0]
    return first if (MODULE / top / first).is_dir() and first else "top"


def wrong_arrows(package: Path, layers: list[set[str]]) -> list[str]:
    """Imports between packages of one tree that do not lead to a later layer, lazy ones included."""
    layer_of = {name: number for number, names in enumerate(layers) for name in names}
    wrong = []
    for path in sorted(package.rglob("*.py")):
        own = package_of(dotted(path))
        if dotted(path) in TOP_ENTRIES:
            continue
        for name, line in imports_of(path, ast.walk(tree_of(path))):
            other = package_of(name)
            if name.split(".")[0] != package.name or other == own or name == package.name:
                continue
            if own not in layer_of or other not in layer_of or layer_of[other] <= layer_of[own]:
                wrong.append(f"{name_of(path)}:{line} ({own}) imports {name}")
    return wrong


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected groups of more than one node (Tarjan, SIAM J. Comput. 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def file_edges() -> dict[str, set[str]]:
    """Which of our modules each imports, lazily or for type checkers too; `__init__` files are modules as others."""
    modules = {dotted(path): path for path in SOURCES}
    return {
        module: {name for name, _ in imports_of(path, ast.walk(tree_of(path))) if name in modules and name != module}
        for module, path in modules.items()
    }


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


def readers_in(tree: ast.AST) -> set[str]:
    """The names of `READERS` that a file imports, or takes from a module."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found & READERS


def test_there_is_something_to_read() -> None:
    assert len(CORE_SOURCES) > 100
    assert {name for layer in CORE_LAYERS for name in layer} - {"top"} == {
        path.name for path in CORE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()
    }
    assert {name for layer in LAB_LAYERS for name in layer} == {
        path.name for path in LAB.iterdir() if path.is_dir() and (path / "__init__.py").is_file()
    }
    assert {name for layer in LIB_LAYERS for name in layer} - {"top"} == {
        path.name for path in LIB.iterdir() if path.is_dir() and (path / "__init__.py").is_file()
    }


def test_core_packages_follow_the_arrows() -> None:
    assert wrong_arrows(CORE, CORE_LAYERS) == []


def test_laboratory_packages_follow_the_arrows() -> None:
    assert wrong_arrows(LAB, LAB_LAYERS) == []
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for path in LAB_SOURCES
        for name, line in imports_of(path, ast.walk(tree_of(path)))
        if name.startswith(("SegWithUCore.cli", "SegWithUCore.worker")) or name.split(".")[0] in SLICER_ONLY
    ]
    assert wrong == []


def test_the_runtime_knows_the_laboratory_in_bodies_of_commands_only() -> None:
    wrong = []
    for path in [*CORE_SOURCES, *SLICER_SOURCES]:
        tree = tree_of(path)
        at_start = {line for _, line in imports_of(path, at_file_scope(tree))}
        for name, line in imports_of(path, ast.walk(tree)):
            in_a_body = path.is_relative_to(CORE / "cli") and line not in at_start
            if name.split(".")[0] == "SegWithULab" and not in_a_body:
                wrong.append(f"{name_of(path)}:{line} imports {name}")
    assert wrong == []


def test_slicer_installs_of_the_laboratory_what_calibrating_with_corrected_cases_needs() -> None:
    commands = [CORE / "cli" / name for name in ("calibrate.py", "segment.py")]
    needed = [name for path in commands for name, _ in imports_of(path, all_but_types(tree_of(path)))]
    needed = [name for name in needed if name != "SegWithULab.calibration.cross_validation"]  # of a run of training
    seen = set[Path]()
    while needed:
        parts = needed.pop().split(".")
        files = [MODULE.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts))]
        files.append(MODULE.joinpath(*parts).with_suffix(".py"))
        for path in files:
            if path.is_relative_to(LAB) and path.is_file() and path not in seen:
                seen.add(path)
                needed += [name for name, _ in imports_of(path, all_but_types(tree_of(path)))]
    assert {path for path in LAB_SOURCES if path not in seen} == {
        path for path in LAB_SOURCES if left_out_of_slicer(path)
    }


def test_slicer_packages_follow_the_arrows() -> None:
    assert wrong_arrows(LIB, LIB_LAYERS) == []


def test_no_circles_between_files_or_packages() -> None:
    files = file_edges()
    assert circles(files) == []
    packages: dict[str, set[str]] = {}
    for module, others in files.items():
        if module in TOP_ENTRIES:  # a circle through them would be one of files
            continue
        own = f"{module.split('.')[0]}.{package_of(module)}"
        ends = {f"{other.split('.')[0]}.{package_of(other)}" for other in others}
        packages.setdefault(own, set()).update(ends - {own})
    assert circles(packages) == []


def test_the_public_names_are_above_engine_and_laboratory() -> None:
    imported = {
        path: {name.split(".")[0] for name, _ in imports_of(path, ast.walk(tree_of(path)))}
        for path in (*SOURCES, PUBLIC / "__init__.pyi")
    }
    inside = [path for path in imported if path.is_relative_to(PUBLIC)]
    assert len(inside) > 2
    assert [name_of(path) for path in imported if "segwithu" in imported[path] and path not in inside] == []
    assert [name_of(path) for path in inside if imported[path] & SLICER_ONLY] == []


def test_core_never_imports_slicer() -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for path in CORE_SOURCES
        for name, line in imports_of(path, ast.walk(tree_of(path)))
        if name.split(".")[0] in SLICER_ONLY
    ]
    assert wrong == []


def test_files_that_slicer_loads_need_nothing_that_may_be_missing() -> None:
    """Nothing third-party at file scope, and of the core only what brings no torch."""
    wrong = []
    for path in SLICER_SOURCES:
        tree = tree_of(path)
        at_start = set(imports_of(path, at_file_scope(tree)))
        for name, line in at_start:
            if name.split(".")[0] not in sys.stdlib_module_names | SLICER_FILE_SCOPE:
                wrong.append(f"{name_of(path)}:{line} imports {name} at file scope: import it where it is used")
        for name, line in imports_of(path, ast.walk(tree)):
            if name.split(".")[0] == "SegWithUCore":
                light = {"numpy"} if (name, line) in at_start else BROUGHT_BY_SLICER
                heavy = [f"{package} (by {by})" for package, by in loaded_with(name, set()) if package not in light]
                wrong += [f"{name_of(path)}:{line} imports {name}, which loads {', '.join(heavy)}"] if heavy else []
    assert wrong == []


def test_slicer_files_know_neither_the_module_nor_qt_where_a_browser_page_shares_them() -> None:
    wrong = []
    for path in SLICER_SOURCES:
        for name, line in imports_of(path, ast.walk(tree_of(path))):
            top = name.split(".")[0]
            if path.is_relative_to(LIB) and top == "SegWithUSlicer":
                wrong.append(f"{name_of(path)}:{line} imports the module")
            if path.is_relative_to(LIB / "scene") and top in {"qt", "ctk"}:
                wrong.append(f"{name_of(path)}:{line} imports {name}")
    assert wrong == []


def test_nothing_is_unpickled() -> None:
    wrong = []
    for path in SOURCES:
        tree = tree_of(path)
        for name, line in imports_of(path, ast.walk(tree)):
            if name.split(".")[0] in UNSAFE:
                wrong.append(f"{name_of(path)}:{line} imports {name}")
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in {"torch.load", "torch.jit.load"} and options.get("weights_only") != "True":
                wrong.append(f"{name_of(path)}:{node.lineno}: {called} without weights_only")
            if options.get("allow_pickle") == "True":
                wrong.append(f"{name_of(path)}:{node.lineno} allows pickles")
    assert wrong == []


def test_files_of_cases_are_read_by_the_one_that_compares_them() -> None:
    """Who reads voxels of a case by himself passes on what another program has saved over it, or moved."""
    reading = {
        path.relative_to(MODULE).as_posix(): sorted(readers_in(tree_of(path)))
        for path in SOURCES
        if not path.is_relative_to(CORE / "io")
    }
    offenders = {name: found for name, found in reading.items() if found and name not in READ_BY}
    assert not offenders, "read files of cases by case.case_files.case_volume"
    assert not {name for name in READ_BY if not reading.get(name)}, "these read no voxels any more"


def test_the_reader_of_imports_is_not_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above cannot be blind: every way to write an import is resolved, every circle found."""
    lines = ["from ..cli import segment", "from . import segwithu", "import slicer.util"]
    lines += ["from SegWithULab.training.recipe import Recipe", "def late():", "    from ..review import flags"]
    code = "\n".join([*lines, "if TYPE_CHECKING:", "    import torch", "else:", "    import scipy"])
    path = CORE / "network" / "not_there.py"
    found = [name for name, _ in imports_of(path, ast.walk(ast.parse(code)))]
    assert set(found) == {
        "SegWithUCore.cli.segment",
        "SegWithUCore.network.segwithu",
        "slicer.util",
        "SegWithULab.training.recipe",
        "SegWithUCore.review.flags",
        "torch",
        "scipy",
    }
    early = [name for name, _ in imports_of(path, at_file_scope(ast.parse(code)))]
    assert "SegWithULab.training.run_folder" not in early
    assert "torch" not in early
    assert "scipy" in early
    bare = ["from ..io.volume import read_labels as labels", "volume.read_file(folder / name)", "read = sitk.ReadImage"]
    assert [readers_in(ast.parse(line)) for line in bare] == [{"read_labels"}, {"read_file"}, {"ReadImage"}]
    modules = ("SegWithUCore.worker.jobs", "SegWithUCore.util.errors", "SegWithUCore.cli.train", "SegWithUCore")
    assert [package_of(name) for name in modules] == ["worker", "util", "cli", "top"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]

    other = tmp_path / "SegWithUCore"
    for package in ("network", "cli"):
        (other / package).mkdir(parents=True)
        (other / package / "__init__.py").write_text("")
    (other / "network" / "wrong.py").write_text("def late():\n    from ..cli import segment\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "MODULE", tmp_path)
    assert len(wrong_arrows(other, CORE_LAYERS)) == 1
