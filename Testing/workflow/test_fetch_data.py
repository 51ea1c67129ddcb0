"""`Testing/fetch_data.py`: what has another checksum than the listed one is refused, what is there is not fetched."""

import csv
import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fetch_data
import pytest
from fetch_data import LISTED, SETS, listed, main

NAMES = ["hippocampus/images/hippocampus_075.nii.gz", "hippocampus/labels/hippocampus_075.nii.gz"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of what is asked for."""


@pytest.fixture
def published(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as the server, with one case, which the list is shortened to."""
    rows = [row for row in listed(["hippocampus"]) if row[0] in NAMES]
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "sha256", "from"), *rows])
    monkeypatch.setattr(fetch_data, "LISTED", tmp_path / "list.csv")
    for name, _, path in rows:
        target = tmp_path / "server" / SETS["hippocampus"][0] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data_folder / name, target)
    return tmp_path / "server"


@pytest.fixture
def server(published: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(published))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def call(folder: Path, server: str) -> int:
    return main([str(folder), "--only", "hippocampus", "--server", server])


def test_files_and_tables_come_and_are_not_fetched_again(
    data_folder: Path, published: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    assert call(folder, server) == 0
    assert capsys.readouterr().out.startswith("2 files fetched")
    for name in NAMES:
        assert (folder / name).read_bytes() == (data_folder / name).read_bytes()
    assert (folder / "hippocampus" / "split_by_scan.csv").is_file()
    (folder / NAMES[1]).write_bytes(b"damaged since")
    shutil.rmtree(published / SETS["hippocampus"][0] / "data" / "TrainingSet" / "images")
    assert call(folder, server) == 0
    assert capsys.readouterr().out.startswith("1 files fetched")


def test_another_checksum_is_refused_and_nothing_kept(published: Path, server: str, tmp_path: Path) -> None:
    changed = published / SETS["hippocampus"][0] / "data" / "TrainingSet" / "images" / "hippocampus_075.nii.gz"
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(SystemExit, match="hippocampus_075"):
        call(tmp_path / "data", server)
    assert not list((tmp_path / "data").rglob("*.*"))


def test_a_missing_file_and_no_server_are_one_sentence(
    published: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(published)
    for address in (server, "http://127.0.0.1:9"):
        assert call(tmp_path / "data", address) == 1
        assert "could be fetched" in capsys.readouterr().err


def test_the_six_cases_have_the_listed_checksums(data_folder: Path) -> None:
    checksums = {name: sha256 for name, sha256, _ in listed(["hippocampus"])}
    ours = sorted((data_folder / "hippocampus").rglob("*.nii.gz"))
    assert len(ours) == 12
    for path in ours:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == checksums[path.relative_to(data_folder).as_posix()]


def test_the_list_is_that_of_the_full_data(full_data_folder: Path) -> None:
    rows = list(listed(list(SETS)))
    assert len(rows) == sum(1 for _ in LISTED.open(encoding="utf-8")) - 1
    assert all(fetch_data.has_sha256(full_data_folder / name, sha256) for name, sha256, _ in rows)
