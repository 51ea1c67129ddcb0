"""The extension as the Slicer Extensions Index checks it: name, entry, CMake texts, pictures and homepage agree."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import zlib
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from repository import PACKAGES, ROOT

NAME = "SegWithU"
RAW = "https://raw.githubusercontent.com"
MODULE = PACKAGES / "SegWithUSlicer.py"


@pytest.fixture(scope="module")
def cmake() -> dict[str, str]:
    """The texts of the extension, read as the index reads them: by regular expressions, each a quoted string."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    found = dict(re.findall(r'set\s*\(EXTENSION_(\w+)\s*"([^"]+)"\s*\)', text))
    return {**found, "PROJECT": re.findall(r"project\s*\(\s*([^\s)]+)", text)[0]}


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    """The entry that is put into the index."""
    return dict(json.loads((ROOT / f"{NAME}.json").read_text(encoding="utf-8")))


def test_entry_project_and_repository_have_the_name_of_the_extension(
    cmake: dict[str, str], entry: dict[str, Any]
) -> None:
    assert [path.name for path in ROOT.glob("*.json")] == [f"{NAME}.json"]
    assert cmake["PROJECT"] == NAME
    assert "slicer" not in NAME.lower(), "the catalogue lists nothing else"
    repository = entry["scm_url"].rsplit("/", 1)[1]
    assert repository == f"Slicer{NAME}.git"


def test_the_entry_says_what_cmake_says(cmake: dict[str, str], entry: dict[str, Any]) -> None:
    schema = ("$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier")
    assert set(entry) <= set(schema) and {"$schema", "category", "scm_url"} <= set(entry)
    assert (entry["build_dependencies"], cmake["DEPENDS"]) == ([], "NA"), "else the index checks no packaging"
    assert entry["scm_url"].removesuffix(".git") == cmake["HOMEPAGE"]
    assert f'translate("qSlicerAbstractCoreModule", "{entry["category"]}")' in MODULE.read_text(encoding="utf-8")
    assert entry["tier"] == 1, "3 wants users to agree to the licence of the weights first"


def test_the_description_file_says_what_cmake_and_the_entry_say(cmake: dict[str, str], entry: dict[str, Any]) -> None:
    lines = (ROOT / "SegWithUSlicer.s4ext").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(" ")[::2] for line in lines if line and not line.startswith("#")]
    told = dict(pairs)
    assert len(told) == len(pairs)
    assert told == {
        "scm": "git",
        "scmurl": entry["scm_url"],
        "scmrevision": entry["scm_revision"],
        "depends": cmake["DEPENDS"],
        "build_subdirectory": entry["build_subdirectory"],
        "homepage": cmake["HOMEPAGE"],
        "contributors": cmake["CONTRIBUTORS"],
        "category": entry["category"],
        "iconurl": cmake["ICONURL"],
        "status": "Development",
        "description": cmake["DESCRIPTION"],
        "screenshoturls": cmake["SCREENSHOTURLS"],
        "enabled": "1",
    }


def test_what_the_card_of_the_project_names_is_there() -> None:
    """The card says what the project is and where to begin; its readers find these at the top level."""
    folders, files = ("SegWithUSlicer", "Resources", "Testing"), ("CMakeLists.txt", "SegWithUSlicer.s4ext", "README.md")
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_a_clone_of_a_squashed_history_is_small() -> None:
    """The index asks for less than 100 MB: each file lies in the work tree, and compressed in the history."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.split(b"\0")
    if len(listed) < 2:
        pytest.skip("not a checkout of git")
    files = [ROOT / os.fsdecode(name) for name in listed if name]
    sizes = [(path.stat().st_size, len(zlib.compress(path.read_bytes()))) for path in files if path.is_file()]
    assert sum(whole + packed for whole, packed in sizes) < 90e6
    assert max(whole for whole, _ in sizes) < 50e6, "GitHub warns of larger files"


def test_widgets_of_the_panel_have_names_and_cells_of_their_own() -> None:
    root = ElementTree.parse(ROOT / "Resources" / "UI" / "SegWithUSlicer.ui").getroot()
    names = [widget.get("name") for widget in root.iter("widget")]
    assert len(names) == len(set(names))
    for layout in root.iter("layout"):
        cells = [
            (item.get("row"), column)
            for item in layout.findall("item[@row]")
            for column in range(int(item.get("column", 0)), int(item.get("column", 0)) + int(item.get("colspan", 1)))
        ]
        assert len(cells) == len(set(cells)), layout.get("name")


def test_pictures_of_the_catalogue_are_files_of_the_branch_and_show_the_module(
    cmake: dict[str, str], entry: dict[str, Any]
) -> None:
    repository = cmake["HOMEPAGE"].removeprefix("https://github.com/")
    base = f"{RAW}/{repository}/{entry['scm_revision']}/"
    shots = cmake["SCREENSHOTURLS"].split()
    assert all(url.startswith(base) for url in (cmake["ICONURL"], *shots))
    with Image.open(ROOT / cmake["ICONURL"].removeprefix(base)) as icon:
        assert icon.format == "PNG" and icon.size[0] == icon.size[1] >= 128
    made = (ROOT / "Testing" / "real" / "real_pictures.py").read_text(encoding="utf-8")
    for url in shots:
        with Image.open(ROOT / url.removeprefix(base)) as shot:
            assert shot.format == "PNG" and min(shot.size) > 300
        assert f'"{url.rsplit("/", 1)[1].removesuffix(".png")}"' in made, "taken in the real application"


def test_contributors_are_the_same_everywhere_and_nobody_is_made_up(cmake: dict[str, str]) -> None:
    constants = {
        target.id: node.value.value
        for node in ast.parse(MODULE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert cmake["CONTRIBUTORS"] == constants["_CONTRIBUTORS"]
    assert cmake["HOMEPAGE"].rsplit("/", 1)[0] == "https://" + re.findall(r"\((.+)\)", cmake["CONTRIBUTORS"])[0]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"authors:\n  - name: {cmake['CONTRIBUTORS'].split(' (')[0]}\n" in citation


def test_the_homepage_says_what_the_index_asks_for() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    title = re.findall(r'parent\.title = _\("(.+)"\)', MODULE.read_text(encoding="utf-8"))[0]
    assert page.startswith(f"# {NAME} ")
    assert f"*{title}*" in page, "each module is named"
    assert "arxiv.org/abs/2604.15271" in page
    assert "Apache-2.0" in page and (ROOT / "LICENSE.txt").is_file()
    assert "Resources/Screenshots/" in page


def test_the_entry_follows_the_newest_schema(entry: dict[str, Any]) -> None:
    """Required and allowed keys of slicer-extension-catalog-entry-schema-v1.0.2.json (Slicer, August 2026)."""
    assert entry["$schema"].endswith("/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#")
