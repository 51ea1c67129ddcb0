"""The store as its users call it: models come from a server or a folder, whole or not at all."""

import errno
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_registry import add_to_registry
from model_servers import FolderHandler, ModelServer, running
from segwithu_command import (
    MODEL,
    MODEL_VERSION,
    PATIENCE_S,
    Command,
    changed_description,
    child,
    entries,
    finished,
    one_sentence,
    real_image,
    refused,
)

from SegWithUCore.models.bundle import read_bundle

WEIGHTS = "weights.safetensors"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the user's models, and no registries but those that a test names."""
    folder = tmp_path / "models"
    monkeypatch.setenv("SEGWITHU_MODELS", str(folder))
    for name in ("SEGWITHU_REGISTRY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return folder


def version_of(tiny: Path, folder: Path, version: str, **about: str) -> Path:
    """A copy of the tiny bundle with another version."""
    bundle = Path(shutil.copytree(tiny, folder / f"tiny {version}"))
    for field, value in {"version": version, **about}.items():
        changed_description(bundle, f"about/{field}", value)
    return bundle


@pytest.fixture
def published(tiny: Path, tmp_path: Path) -> Path:
    """A registry in a folder with tiny 1.0.0."""
    registry = tmp_path / "registry"
    add_to_registry(version_of(tiny, tmp_path, "1.0.0"), registry)
    return registry


@pytest.fixture
def server(published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The same on a server, which is configured."""
    with running(ModelServer(FolderHandler)) as server:
        server.folder = published
        monkeypatch.setenv("SEGWITHU_REGISTRY", server.url)
        yield server


class Terminal(io.StringIO):
    """What a user types."""

    def isatty(self) -> bool:
        return True


def states(segwithu: Command) -> dict[str, str]:
    outcome = segwithu("models", "list", "--available", "--json")
    listed = outcome.events[-1]["models"]
    return {f"{m['name']}@{m['version']}": m["state"] for m in listed if m["name"] != "brain"}  # type: ignore[attr-defined]


def test_from_a_server_to_a_segmentation_and_on_to_the_next_version(
    segwithu: Command, server: ModelServer, models: Path, tiny: Path, tmp_path: Path, data_folder: Path
) -> None:
    assert states(segwithu) == {f"hippocampus@{MODEL_VERSION}": "installed", "tiny@1.0.0": "available"}
    outcome = segwithu("models", "download", "tiny")
    assert outcome.code == 0
    assert any("weights CC-BY-SA-4.0, training data CC-BY-SA-4.0" in line for line in outcome.messages)
    assert entries(models / "tiny-1.0.0") == ["bundle.json", "origin.json", WEIGHTS]
    verified = segwithu("models", "verify").out.splitlines()
    assert verified == ["brain: whole", "hippocampus: whole", "tiny: whole"]
    again = segwithu("models", "download", "tiny@1.0.0", "--json").events[-1]
    assert again["new"] is False

    add_to_registry(version_of(tiny, tmp_path, "1.10.0", task="Newer."), server.folder)
    assert states(segwithu)["tiny@1.10.0"] == "update"
    assert segwithu("models", "download", "tiny").code == 0
    for name, version in (("tiny", "1.10.0"), ("tiny@1.0.0", "1.0.0")):
        assert segwithu.segment(real_image(data_folder), model=Path(name), output=tmp_path / version).code == 0
        case = json.loads((tmp_path / version / "hippocampus_319" / "case.json").read_text(encoding="utf-8"))
        assert case["model"]["version"] == version
    one_sentence(segwithu("models", "show", "tiny@3"), 'no version "3" of tiny', "1.10.0", code=2)
    one_sentence(segwithu("models", "delete", "tiny", "--yes"), "tiny@1.0.0", "tiny@1.10.0", code=2)
    assert segwithu("models", "delete", "tiny@1.0.0", "--yes").code == 0
    assert sorted(path.name for path in models.iterdir() if path.name[0] != ".") == ["tiny-1.10.0"]


def test_versions_of_one_name_are_told_apart_and_what_came_with_the_program_is_not_fetched_again(
    segwithu: Command, published: Path, models: Path
) -> None:
    add_to_registry(MODEL, published)
    said = segwithu("models", "download", "hippocampus", "--from", published).out
    version = read_bundle(MODEL).about["version"]
    assert f"hippocampus@{version} is installed in" in said and not models.exists()
    assert segwithu("models", "import", MODEL).code == 0  # a copy of one's own is no mistake
    lines = segwithu("models", "verify").out.splitlines()
    assert [line.endswith(": whole") for line in lines] == [True] * 3 and len(set(lines)) == 3


def test_no_registry_is_configured(segwithu: Command) -> None:
    one_sentence(segwithu("models", "download", "liver"), "--from", code=2)


@pytest.mark.parametrize("place", ["http://[", "https://[::1/models.json", "https://h:99999/", "file://[/models"])
def test_a_registry_at_what_is_no_address_is_named(
    place: str, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(segwithu("models", "download", "liver", "--from", place), "invalid-address", place)
    monkeypatch.setenv("SEGWITHU_REGISTRY", place)
    refused(segwithu("models", "download", "liver"), "invalid-address", place)
    assert place in segwithu("models", "list").err


def test_licences_without_commercial_use_are_confirmed(
    segwithu: Command, tiny: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry"
    add_to_registry(version_of(tiny, tmp_path, "1.0.0", licence_data="CC-BY-NC-SA-4.0"), registry)
    call = ("models", "download", "tiny", "--from", registry)
    refused = segwithu(*call)
    assert refused.code == 2
    assert "CC-BY-NC-SA-4.0 (no commercial use)" in refused.err
    assert "--yes" in refused.messages[-1]
    assert not (models / "tiny-1.0.0").exists()
    for answer, code in (("n\n", 2), ("", 2), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert segwithu(*call).code == code
        assert (models / "tiny-1.0.0").exists() == (code == 0)


def test_withdrawn_models_say_so_wherever_they_are_met(
    segwithu: Command, published: Path, models: Path, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGWITHU_REGISTRY", str(published))
    assert segwithu("models", "download", "tiny").code == 0
    why = "Left and right are swapped."
    add_to_registry(published / "tiny-1.0.0", published, withdrawn=why)
    for call in (("models", "list"), ("models", "show", "tiny")):
        outcome = segwithu(*call)
        assert outcome.code == 0
        assert len(outcome.messages) == 1 and why in outcome.messages[0]
    assert states(segwithu)["tiny@1.0.0"] == "withdrawn"
    segmented = segwithu.segment(real_image(data_folder), model=Path("tiny"), output=tmp_path / "out")
    assert segmented.code == 0
    assert why in segmented.err
    assert why in (tmp_path / "out" / "hippocampus_319" / "case.json").read_text(encoding="utf-8")
    assert segwithu("models", "delete", "tiny", "--yes").code == 0
    refused = segwithu("models", "download", "tiny")
    assert refused.code == 2
    assert why in refused.err
    assert segwithu("models", "download", "tiny", "--yes").code == 2  # agrees to licences, not to what nobody has read
    assert segwithu("models", "download", "tiny", "--withdrawn").code == 0


def test_only_download_and_a_list_of_what_is_available_connect(
    segwithu: Command, server: ModelServer, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segwithu("models", "download", "tiny").code == 0
    server.asked.clear()

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    calls: list[tuple[str | Path, ...]] = [
        ("models", "list"),
        ("models", "show", "tiny"),
        ("models", "verify", "--load"),
        ("segment", real_image(data_folder), "--model", "tiny", "--output", tmp_path / "out"),
        ("models", "delete", "tiny", "--yes"),
        ("models", "import", server.folder / "tiny-1.0.0"),
        ("models", "delete", "tiny", "--yes"),
        ("models", "download", "tiny", "--from", server.folder),
        ("check", tmp_path / "out"),
    ]
    for call in calls:
        outcome = segwithu(*call)
        assert outcome.code == 0, (call, outcome.err)
    assert server.asked == []
    monkeypatch.undo()


@pytest.fixture
def slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The shipped model (6.4 MB) under another name, at about 2 MB a second."""
    bundle = Path(shutil.copytree(MODEL, tmp_path / "large"))
    changed_description(bundle, "about/name", "large")
    add_to_registry(bundle, tmp_path / "registry")
    with running(ModelServer(FolderHandler)) as server:
        server.folder, server.slowly_s = tmp_path / "registry", 0.03
        monkeypatch.setenv("SEGWITHU_REGISTRY", server.url)
        yield server


def _downloading(models: Path) -> "subprocess.Popen[str]":
    """Begin a download of the large model and wait until a part of it is there."""
    process = child("models", "download", "large")
    until = time.monotonic() + PATIENCE_S
    while not any(path.stat().st_size for path in models.glob(f".segwithu-*/files/{WEIGHTS}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    return process


@pytest.mark.serial
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_killed_or_cancelled_leaves_no_model_and_nothing_else_for_long(
    how: signal.Signals, segwithu: Command, slow_server: ModelServer, models: Path
) -> None:
    process = _downloading(models)
    process.send_signal(how)
    assert finished(process, PATIENCE_S).code != 0
    assert [path.name for path in models.iterdir() if path.name[0] != "."] == []
    assert how == signal.SIGKILL or entries(models) == []
    slow_server.slowly_s = 0
    assert segwithu("models", "download", "large").code == 0
    assert segwithu("models", "verify", "large").code == 0
    assert [path.name for path in models.iterdir()] == [f"large-{MODEL_VERSION}"]


@pytest.mark.serial
def test_two_processes_want_the_same_model(segwithu: Command, slow_server: ModelServer, models: Path) -> None:
    first = _downloading(models)
    refused(segwithu("models", "download", "large"), "folder-in-use", f"large-{MODEL_VERSION}")
    assert finished(first, PATIENCE_S).code == 0
    assert [path.name for path in models.iterdir()] == [f"large-{MODEL_VERSION}"]


def test_a_wrong_file_is_told_and_nothing_is_installed(
    segwithu: Command, server: ModelServer, models: Path, tiny: Path
) -> None:
    weights = server.folder / "tiny-1.0.0" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    outcome = segwithu("models", "download", "tiny")
    assert outcome.code == 1
    assert "[wrong-download]" in outcome.messages[-1]
    assert [path.name for path in models.iterdir() if path.name[0] != "."] == []
    # a registry that describes another model than it has: every hash is right
    registry = json.loads((server.folder / "models.json").read_text(encoding="utf-8"))
    registry["models"][0].update(name="spleen", folder="tiny-1.0.0")
    (server.folder / "models.json").write_text(json.dumps(registry), encoding="utf-8")
    weights.write_bytes(whole)
    outcome = segwithu("models", "download", "spleen", "--from", server.folder)
    assert outcome.code == 1
    assert "[wrong-download]" in outcome.messages[-1]
    assert [path.name for path in models.iterdir() if path.name[0] != "."] == []


def test_a_model_for_a_later_program_is_refused(segwithu: Command, server: ModelServer) -> None:
    registry = json.loads((server.folder / "models.json").read_text(encoding="utf-8"))
    registry["models"][0]["needs"] = {"segwithu": ">=99"}
    (server.folder / "models.json").write_text(json.dumps(registry), encoding="utf-8")
    outcome = segwithu("models", "download", "tiny")
    assert outcome.code == 1
    assert "needs segwithu >=99" in outcome.messages[-1]
    registry["models"][0]["needs"] = {"segwithu": ">>x"}
    (server.folder / "models.json").write_text(json.dumps(registry), encoding="utf-8")
    refused(segwithu("models", "download", "tiny", "--from", server.folder), "damaged-bundle", ">>x")


def test_a_server_that_is_gone_costs_nothing_that_is_there(
    segwithu: Command, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(ModelServer(FolderHandler)) as gone:
        pass
    monkeypatch.setenv("SEGWITHU_REGISTRY", gone.url)
    refused(segwithu("models", "download", "tiny"), "server-unreachable", gone.url)
    outcome = segwithu("models", "list", "--available")
    assert outcome.code == 1
    assert "hippocampus" in outcome.out
    assert "[server-unreachable]" in outcome.err
    monkeypatch.setenv("SEGWITHU_REGISTRY", f"{gone.url};{server.url}")
    outcome = segwithu("models", "download", "tiny")
    assert outcome.code == 0
    assert "[server-unreachable]" in outcome.err


def test_changed_files_are_found(segwithu: Command, published: Path, models: Path) -> None:
    assert segwithu("models", "download", "tiny", "--from", published).code == 0
    description = models / "tiny-1.0.0" / "bundle.json"
    description.write_text(description.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    one_sentence(segwithu("models", "verify", "tiny"), str(description), "was changed since it was installed")
    (models / "tiny-1.0.0" / "origin.json").write_text("{}")
    one_sentence(segwithu("models", "verify", "tiny"), "origin.json is damaged")


def test_what_came_with_the_program_is_not_deleted(segwithu: Command, published: Path, models: Path) -> None:
    assert segwithu("models", "download", "tiny", "--from", published).code == 0
    one_sentence(segwithu("models", "delete", "hippocampus", "--yes"), "is installed in", code=2)
    one_sentence(segwithu("models", "delete", "liver", "--yes"), "No model 'liver'", code=2)
    one_sentence(segwithu("models", "delete", "../models", "--yes"), "no name of a model", code=2)
    one_sentence(segwithu("models", "delete", "tiny"), "pass --yes", code=2)
    assert segwithu("models", "delete", "tiny", "--yes").code == 0
    assert entries(models) == []


def test_files_of_all_kinds_travel(segwithu: Command, tiny: Path, tmp_path: Path, models: Path) -> None:
    """A compiled network, say; but nothing hidden, and no links."""
    bundle = version_of(tiny, tmp_path, "1.0.0")
    (bundle / "graphs").mkdir()
    (bundle / "graphs" / "window.xml").write_text("<net/>")
    (bundle / ".DS_Store").write_text("x")
    registry = tmp_path / "registry"
    add_to_registry(bundle, registry)
    assert segwithu("models", "download", "tiny", "--from", registry).code == 0
    assert (models / "tiny-1.0.0" / "graphs" / "window.xml").read_text() == "<net/>"
    assert not (models / "tiny-1.0.0" / ".DS_Store").exists()
    (models / "tiny-1.0.0" / "graphs" / "window.xml").write_text("<nat/>")
    one_sentence(segwithu("models", "verify", "tiny"), "window.xml")
    (bundle / "secret.txt").symlink_to("/etc/passwd")
    one_sentence(segwithu("models", "import", bundle), "secret.txt", "no plain file")


# Imports


def test_import_of_a_folder(segwithu: Command, tiny: Path, tmp_path: Path, models: Path) -> None:
    bundle = version_of(tiny, tmp_path, "2.0.0")
    shutil.copytree(bundle, tmp_path / "outer" / "inner")
    for source in (bundle, tmp_path / "outer"):
        outcome = segwithu("models", "import", source)
        assert outcome.code == 0, outcome.err
        assert "CC-BY-SA-4.0" in outcome.out
        assert segwithu("models", "verify", "tiny@2.0.0").code == 0
        assert entries(models / "tiny-2.0.0") == ["bundle.json", "origin.json", WEIGHTS]
        refused(segwithu("models", "import", source), "exists-already", "tiny@2.0.0")
        assert segwithu("models", "delete", "tiny", "--yes").code == 0
    assert entries(models) == []


def test_damaged_and_other_sources_are_refused(segwithu: Command, tiny: Path, tmp_path: Path, models: Path) -> None:
    (tmp_path / "nnunet").mkdir()
    (tmp_path / "nnunet" / "plans.json").write_text("{}")
    (tmp_path / "model.zip").write_bytes(b"PK")
    os.mkfifo(tmp_path / "pipe")
    torn = Path(shutil.copytree(tiny, tmp_path / "torn"))
    (torn / WEIGHTS).write_bytes(b"x")
    kinds = {"nnunet": "not-a-model", "model.zip": "damaged-file", "pipe": "not-a-model", "absent": "missing-file"}
    for name, code in {**kinds, "torn": "damaged-bundle"}.items():
        outcome = segwithu("models", "import", tmp_path / name)
        refused(outcome, code, name)
        assert ".segwithu-" not in outcome.err
    assert entries(models) == []


def test_places_that_cannot_be_written_to(
    segwithu: Command, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "file" / "models"))
    for call in (("download", "tiny", "--from", published), ("import", published / "tiny-1.0.0")):
        outcome = segwithu("models", *call)
        assert outcome.code == 1
        assert "SEGWITHU_MODELS" in outcome.messages[-1]
        assert "unexpected" not in outcome.err


def test_a_source_that_cannot_be_read_is_not_taken_for_a_place_that_cannot_be_written_to(
    segwithu: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = version_of(tiny, tmp_path, "1.0.0")
    whole = Path.open

    def fails(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == source / WEIGHTS:
            raise OSError(errno.EIO, "Input/output error")
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fails)
    refused(segwithu("models", "import", source), "unusable-input", WEIGHTS)


def test_a_small_disk(segwithu: Command, published: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGWITHU_MODELS", str(small_disk))
    for call in (("download", "tiny", "--from", published), ("import", published / "tiny-1.0.0")):
        outcome = segwithu("models", *call)
        assert outcome.code == 1
        assert "[cannot-write]" in outcome.messages[-1]
    assert [path for path in small_disk.iterdir() if path.name[0] != "."] == []
