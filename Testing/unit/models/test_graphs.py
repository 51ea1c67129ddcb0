"""Graph files of a bundle: what is damaged or hostile is refused in one sentence, before OpenVINO sees it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from repository import ROOT

from SegWithUCore.models.bundle import (
    CONSTANTS_FILE,
    GRAPH_FILES,
    MAPS_FILE,
    WINDOW_FILE,
    Bundle,
    read_bundle,
    with_head,
)
from SegWithUCore.models.graphs import (
    ALIGNMENT,
    OPERATIONS,
    check_graph,
    graphs_lacking,
    joined_constants,
    read_graphs,
)
from SegWithUCore.util.errors import InputError

MODEL = ROOT / "Resources" / "Models" / "hippocampus"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def changed(folder: Path, name: str, change: Callable[[bytes], bytes], *, noted: bool) -> Bundle:
    """Change a graph file, and where `noted` its hash in the description, as somebody hostile would."""
    content = change((folder / name).read_bytes())
    (folder / name).write_bytes(content)
    if noted:
        description = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        description["graphs"]["files"][name] = hashlib.sha256(content).hexdigest()
        (folder / "bundle.json").write_text(json.dumps(description), encoding="utf-8")
    return read_bundle(folder)


def test_the_shipped_model_has_graphs_and_stays_small() -> None:
    bundle = read_bundle(MODEL)
    assert graphs_lacking(bundle) is None
    assert bundle.graphs is not None and bundle.graphs.head == "context"
    content = read_graphs(bundle)
    assert content.constants.ctypes.data % ALIGNMENT == 0
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 14_000_000
    kinds = {layer.get("type") for layer in ElementTree.fromstring(content.window).iter("layer")}
    assert {"Convolution", "AvgPool", "Interpolate"} <= kinds <= OPERATIONS


def test_graphs_are_of_one_head_one_weights_file_and_float32(copied: Path) -> None:
    bundle = read_bundle(copied)
    assert "of its head 'context', not of 'paper'" in str(graphs_lacking(with_head(bundle, "paper")))
    data = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))
    (copied / "bundle.json").write_text(json.dumps({**data, "weights_sha256": "0" * 64}), encoding="utf-8")
    assert "of other weights" in str(graphs_lacking(read_bundle(copied)))
    halves = {**data, "input": {**data["input"], "precision": "bfloat16"}}
    (copied / "bundle.json").write_text(json.dumps(halves), encoding="utf-8")
    assert "was measured in bfloat16" in str(graphs_lacking(read_bundle(copied)))
    (copied / "bundle.json").write_text(json.dumps({k: v for k, v in data.items() if k != "graphs"}), encoding="utf-8")
    older = read_bundle(copied)
    assert "has no compiled graphs" in str(graphs_lacking(older))
    assert "graphs" not in older.to_json()


@pytest.mark.parametrize("name", GRAPH_FILES[:3])
def test_a_changed_or_missing_file_is_refused(copied: Path, name: str) -> None:
    bundle = changed(copied, name, lambda content: content[:-1] + b" ", noted=False)
    with pytest.raises(InputError, match=f"{name} is damaged or was changed"):
        read_graphs(bundle)
    (copied / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist"):
        read_graphs(bundle)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "entity": lambda xml: xml.replace(b"<net", b'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]><net', 1),
    "stylesheet": lambda xml: xml.replace(b"<net", b'<?xml-stylesheet href="x"?><net', 1),
    "cut": lambda xml: xml[: len(xml) // 2],
    "no graph": lambda xml: b"<model/>",
    "outside": lambda xml: xml.replace(b"<layers>", b'<include href="/etc/passwd"/><layers>', 1),
    "extension": lambda xml: xml.replace(b'version="opset1"', b'version="extension"', 1),
    "loop": lambda xml: xml.replace(b'type="Add"', b'type="Loop"', 1),
    "beyond": lambda xml: xml.replace(b'offset="', b'offset="9', 1),
    "before": lambda xml: xml.replace(b'offset="', b'offset="-', 1),
    "size": lambda xml: xml.replace(b'size="', b'size="1', 1),
    "no number": lambda xml: xml.replace(b'offset="', b'offset="x', 1),
    "no text": lambda xml: b"\xff\xfe\x00" + xml,
}


@pytest.mark.parametrize("kind", list(HOSTILE))
@pytest.mark.parametrize("name", [WINDOW_FILE, MAPS_FILE])
def test_hostile_xml_is_refused_even_with_a_matching_hash(copied: Path, kind: str, name: str) -> None:
    with pytest.raises(InputError, match=name) as raised:
        read_graphs(changed(copied, name, HOSTILE[kind], noted=True))
    assert raised.value.code == "unusable-graphs"


def test_constants_that_are_cut_are_refused(copied: Path) -> None:
    bundle = changed(copied, CONSTANTS_FILE, lambda content: content[:64], noted=True)
    with pytest.raises(InputError, match=r"\[unusable-graphs\]"):
        read_graphs(bundle)


def test_too_large_a_file_is_refused_unread(copied: Path) -> None:
    with (copied / WINDOW_FILE).open("ab") as file:
        file.truncate(20 << 20)
    with pytest.raises(InputError, match="more than the"):
        read_graphs(read_bundle(copied))


def test_a_graph_of_too_many_layers_is_refused() -> None:
    layer = b'<layer id="0" name="a" type="Add" version="opset1"/>'
    with pytest.raises(InputError, match="20001 layers"):
        check_graph(b"<net><layers>" + layer * 20001 + b"</layers><edges/></net>", 0, "graph")


def test_both_files_of_constants_lie_where_the_xml_counts_them() -> None:
    found = joined_constants(b"w" * 70, b"others")
    assert bytes(found[:70]) == b"w" * 70 and bytes(found[128:]) == b"others"
