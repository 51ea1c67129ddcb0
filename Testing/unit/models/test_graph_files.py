"""Graph files of a bundle: what is damaged or hostile is refused in one sentence, before OpenVINO sees it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT

from SegWithUCore.models.bundle import Bundle, read_bundle, with_head
from SegWithUCore.models.graph_files import graphs_lacking, joined_constants, read_graphs
from SegWithUCore.models.graphs import (
    ALIGNMENT,
    CONSTANTS_FILE,
    GRAPH_FILES,
    MAPS_FILE,
    OPERATIONS,
    WINDOW_FILE,
    check_graph,
    layers_of,
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
    kinds = {layer.get("type") for layer in layers_of(content.window, "window")}
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
    with pytest.raises(InputError, match=f"{name} is damaged or was changed: its SHA-256 is .* models compile"):
        read_graphs(bundle)
    (copied / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist"):
        read_graphs(bundle)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "entity": (
        lambda xml: xml.replace(b"<net", b'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]><net', 1),
        "document type, entity or instruction",
    ),
    "stylesheet": (lambda xml: xml.replace(b"<net", b'<?xml-stylesheet href="x"?><net', 1), "or instruction"),
    "cut": (lambda xml: xml[: len(xml) // 2], "is not XML"),
    "no graph": (lambda xml: b"<model/>", "not a graph of layers and edges alone"),
    "outside": (lambda xml: xml.replace(b"<layers>", b'<include href="/etc/passwd"/><layers>', 1), "edges alone"),
    "extension": (
        lambda xml: xml.replace(b'version="opset1"', b'version="extension"', 1),
        "which no graph of ours has",
    ),
    "loop": (lambda xml: xml.replace(b'type="Add"', b'type="Loop"', 1), "type 'Loop'"),
    "beyond": (lambda xml: xml.replace(b'offset="', b'offset="9', 1), "but its constants end at"),
    "before": (lambda xml: xml.replace(b'offset="', b'offset="-', 1), "but its constants end at"),
    "size": (lambda xml: xml.replace(b'size="', b'size="1', 1), "bytes for the shape"),
    "no number": (lambda xml: xml.replace(b'offset="', b'offset="x', 1), "without a readable place"),
    "no text": (lambda xml: b"\xff\xfe\x00" + xml, "is not XML"),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
@pytest.mark.parametrize("name", [WINDOW_FILE, MAPS_FILE])
def test_hostile_xml_is_refused_even_with_a_matching_hash(copied: Path, kind: str, name: str) -> None:
    change, words = HOSTILE[kind]
    with pytest.raises(InputError, match=f"{name} .*{words}"):
        read_graphs(changed(copied, name, change, noted=True))


def test_constants_that_are_cut_are_refused(copied: Path) -> None:
    bundle = changed(copied, CONSTANTS_FILE, lambda content: content[:64], noted=True)
    with pytest.raises(InputError, match=r"has a constant from byte .* but its constants end at"):
        read_graphs(bundle)


def test_too_large_a_file_is_refused_unread(copied: Path) -> None:
    with (copied / WINDOW_FILE).open("ab") as file:
        file.truncate(20 << 20)
    with pytest.raises(InputError, match="more than the"):
        read_graphs(read_bundle(copied))


def test_a_graph_of_too_many_layers_is_refused() -> None:
    layer = b'<layer id="0" name="a" type="Add" version="opset1"/>'
    with pytest.raises(InputError, match="layers, more than"):
        check_graph(b"<net><layers>" + layer * 20001 + b"</layers><edges/></net>", 0, "graph")


def test_both_files_of_constants_lie_where_the_xml_counts_them() -> None:
    found = joined_constants(b"w" * 70, b"others")
    assert bytes(found[:70]) == b"w" * 70 and bytes(found[128:]) == b"others"
