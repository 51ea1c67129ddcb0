"""The audit trail: killed, cut, copied, written by two, on a full disk; nothing that was stored is lost."""

import errno
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from counting import allocated_mib, calls_of, counted
from review_cases import HEADER, a_region
from review_logs import log_of, told
from small_disks import leave

from SegWithUCore.review import log as audit_log
from SegWithUCore.review.log import AuditLog, LogInUseError, safe_reviewer_name
from SegWithUCore.review.log_format import (
    ACTIONS,
    Action,
    Asked,
    Closed,
    Commented,
    Edited,
    Event,
    Opened,
    PlaceAdded,
    RegionViewed,
    RestAccepted,
    Signed,
    SignedVolume,
    StructureJudged,
    Undone,
    Verdict,
    VerdictGiven,
    read_log,
    to_line,
)
from SegWithUCore.review.state import ReviewState
from SegWithUCore.util.errors import InputError, OutputError, UsageError

OTHER_REGIONS = replace(HEADER, regions_sha256="s" * 64)
FACTS_OF_A_REVIEW: list[Action] = [
    VerdictGiven(1, Verdict.ACCEPTED, 'süß\n"quoted"\u2028\x85 end', 3.5),
    RegionViewed(2, 2.0),
    Commented(2, ""),
    Edited(2, "anterior", 10, 2, 12.0),
    Edited(None, "anterior", 0, 2, 2.0),
    VerdictGiven(2, Verdict.SECOND_READER),
    Undone(7, "verdict", 2),
    StructureJudged("anterior", Verdict.CORRECTED, "ok"),
    StructureJudged("posterior", None),
    RestAccepted((3, 5), 3.25),
    Asked(("anterior", "posterior")),
    PlaceAdded(9, "anterior", (1.5, -2.0, 3.25)),
    Signed(
        (
            SignedVolume("anterior", 1500.0, 1520.5, (1400.0, 1640.0), "measured"),
            SignedVolume("posterior", 1300.0, None, None, "finished"),
        ),
        "5" * 64,
    ),
    Closed(),
]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_fact_comes_back_as_it_was_and_each_is_one_line(tmp_path: Path) -> None:
    assert {type(fact) for fact in FACTS_OF_A_REVIEW} | {Opened} == set(ACTIONS.values())
    log = log_of(tmp_path, *FACTS_OF_A_REVIEW)
    content = log.path.read_bytes()
    assert content.count(b"\n") == len(FACTS_OF_A_REVIEW) + 1
    assert "süß".encode() in content
    assert content.decode() == log.text
    lines = read_log(log.path)
    assert lines.events == log.events
    assert [event.action for event in lines.events[1:]] == FACTS_OF_A_REVIEW
    first = json.loads(content.split(b"\n")[0])
    assert (first["when"], first["reviewer"], first["event"]) == ("2026-01-01T00:00:01Z", "Anna", "opened")
    assert names(tmp_path) == ["review.Anna.jsonl"], "no lock stays"


def test_half_a_character_is_stored_too(tmp_path: Path) -> None:
    log = log_of(tmp_path, Commented(1, "a\ud83d"))
    assert told(log_of(tmp_path)) == [Commented(1, "a\ud83d")]
    assert log.path.read_text(encoding="utf-8")


def test_a_number_that_is_none_is_never_stored(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    with pytest.raises(ValueError, match="JSON"):
        log.append(RegionViewed(1, float("nan")))
    assert told(log) == []
    log.close()


def test_resuming_goes_on_where_it_stopped(tmp_path: Path) -> None:
    regions = [a_region(n) for n in (1, 2, 3, 4)]
    log_of(tmp_path, *FACTS_OF_A_REVIEW[:6])
    log = log_of(tmp_path, Undone(7, "verdict", 2))
    state = ReviewState.replayed(log.events, regions, ["anterior"])
    assert (state.verdict_of(1), state.verdict_of(2), state.last_region) == (Verdict.ACCEPTED, None, 2)
    assert log.notes == []
    assert read_log(log.path).events == log.events


def test_line_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    synced: list[bytes] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        synced.append(log.path.read_bytes())
        fsync(handle)

    monkeypatch.setattr(audit_log.os, "fsync", watched)
    log.append(Commented(1, "now"))
    assert synced[-1].endswith(log.text.encode()[-40:])
    log.close()


def test_a_full_log_stays_one_that_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("SegWithUCore.review.log.MAXIMUM_BYTES", 2000)
    log = log_of(tmp_path, Commented(1, "first"))
    log.append(Commented(2, "y" * 2000))
    assert "is full" in str(log.trouble)
    assert told(log)[-1] == Commented(2, "y" * 2000), "it goes on in memory"
    assert log.path.stat().st_size < 2000
    assert [event.action for event in read_log(log.path).events][-1] == Commented(1, "first")


def test_file_cut_at_every_byte_of_its_last_line(tmp_path: Path) -> None:
    whole = log_of(tmp_path / _made(tmp_path, "whole"), *FACTS_OF_A_REVIEW[:3], Commented(2, "süß"))
    content = whole.path.read_bytes()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start, len(content) + 1):
        folder = tmp_path / _made(tmp_path, f"cut{end}")
        (folder / "review.Anna.jsonl").write_bytes(content[:end])
        before = read_log(folder / "review.Anna.jsonl")
        assert (folder / "review.Anna.jsonl").read_bytes() == content[:end], "reading changes nothing"
        complete = end >= len(content) - 1
        assert len(before.events) == (5 if complete else 4)
        log = log_of(folder, Commented(4, "on"))
        assert told(log) == [*FACTS_OF_A_REVIEW[:3], *([Commented(2, "süß")] if complete else []), Commented(4, "on")]
        assert read_log(log.path).events == log.events
        damaged = folder / "review.Anna.jsonl.damaged"
        assert damaged.exists() == (start < end < len(content) - 1)
        if damaged.exists():
            assert damaged.read_bytes() == content[start:end] + b"\n"
            assert f"its {end - start} bytes are kept in review.Anna.jsonl.damaged" in log.notes[0]
        else:
            assert log.notes == []


def _made(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return name


def test_what_two_crashes_left_is_kept_both_times(tmp_path: Path) -> None:
    path = log_of(tmp_path).path
    for rest in (b'{"when', b"\x00" * 40):
        with path.open("ab") as file:
            file.write(rest)
        log_of(tmp_path)
    assert (tmp_path / "review.Anna.jsonl.damaged").read_bytes() == b'{"when\n' + b"\x00" * 40 + b"\n"
    assert len(read_log(path).events) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "line 3"),
        (b"[1]", "not an object"),
        (b'{"event": "closed"}', "when and reviewer"),
        (b'{"when": "", "reviewer": "Anna", "event": "shrug"}', "unknown event 'shrug'"),
        (b'{"when": "", "reviewer": "Anna", "event": "looked", "region": 1}', "no seconds"),
        (b'{"when": "", "reviewer": "Anna", "event": "looked", "region": "1", "seconds": 1}', 'region is "1"'),
        (b'{"when": "", "reviewer": "Anna", "event": "looked", "region": true, "seconds": 1}', "region is true"),
        (b'{"when": "", "reviewer": "Anna", "event": "looked", "region": 1, "seconds": NaN}', "finite"),
        (
            b'{"when": "", "reviewer": "Anna", "event": "rest", "regions": [1, true], "expected_wrong_mm3": 1}',
            "regions",
        ),
        (b'{"when": "", "reviewer": "Anna", "event": "rest", "regions": 3, "expected_wrong_mm3": 1}', "regions is 3"),
    ],
)
def test_damaged_line_in_the_middle_is_named_and_nothing_is_written(line: bytes, words: str, tmp_path: Path) -> None:
    path = log_of(tmp_path, *FACTS_OF_A_REVIEW[:3]).path
    lines = path.read_bytes().split(b"\n")
    content = b"\n".join([*lines[:2], line, *lines[2:]])
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"line 3 of 5 is damaged") as caught:
        AuditLog.open(tmp_path, "Anna", HEADER)
    assert words in str(caught.value)
    assert path.read_bytes() == content
    assert names(tmp_path) == ["review.Anna.jsonl"]


@pytest.mark.parametrize("version", [1, 3])
def test_log_of_another_version_is_not_touched(tmp_path: Path, version: int) -> None:
    path = log_of(tmp_path).path
    content = path.read_bytes().replace(b'"format": 2', b'"format": %d' % version)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"format is {version}, this version reads 2") as caught:
        AuditLog.open(tmp_path, "Anna", HEADER)
    assert caught.value.code == "other-format-version"
    assert path.read_bytes() == content
    assert names(tmp_path) == ["review.Anna.jsonl"]


def test_log_about_other_regions_is_kept_and_a_new_one_begun(tmp_path: Path) -> None:
    old = log_of(tmp_path, Commented(1, "old")).text
    log = log_of(tmp_path, Commented(1, "new"), header=OTHER_REGIONS)
    assert told(log) == [Commented(1, "new")]
    (kept,) = tmp_path.glob("review.Anna.jsonl.of-regions-*")
    assert kept.name in log.notes[0]
    assert kept.read_text(encoding="utf-8") == old
    log_of(tmp_path)
    log_of(tmp_path, header=OTHER_REGIONS)
    assert kept.read_text(encoding="utf-8") == old
    assert len(list(tmp_path.glob("review.Anna.jsonl.of-regions-*"))) >= 2


class _Twice:
    """The same review up to a line, then different in two places."""

    def __init__(self, folder: Path) -> None:
        self.file, self.scene = (folder / _made(folder, name) for name in ("file", "scene"))
        for place in (self.file, self.scene):
            log_of(place, Commented(1, "both"))

    def copy(self) -> str:
        return (self.scene / "review.Anna.jsonl").read_text(encoding="utf-8")


def test_copy_in_the_scene_adds_what_the_file_lacks(tmp_path: Path) -> None:
    twice = _Twice(tmp_path)
    log_of(twice.scene, Commented(2, "more"))
    log = log_of(twice.file, copy=twice.copy())
    assert told(log) == [Commented(1, "both"), Commented(2, "more")]
    assert log.notes == []
    assert read_log(log.path).events == log.events
    empty = tmp_path / _made(tmp_path, "empty")
    assert told(log_of(empty, copy=twice.copy())) == told(log)


def test_older_copy_in_the_scene_changes_nothing(tmp_path: Path) -> None:
    twice = _Twice(tmp_path)
    log_of(twice.file, Commented(2, "more"))
    log = log_of(twice.file, copy=twice.copy())
    assert told(log) == [Commented(1, "both"), Commented(2, "more")]
    assert names(twice.file) == ["review.Anna.jsonl"]


def test_copies_that_went_different_ways_are_both_kept(tmp_path: Path) -> None:
    twice = _Twice(tmp_path)
    log_of(twice.file, Commented(2, "file"))
    log_of(twice.scene, Commented(2, "scene"))
    for _ in range(2):  # the second time it is there already
        log = log_of(twice.file, copy=twice.copy())
        assert told(log) == [Commented(1, "both"), Commented(2, "file")]
        kept = [name for name in names(twice.file) if "from-scene" in name]
        assert len(kept) == 1
        assert kept[0] in log.notes[0]
        assert (twice.file / kept[0]).read_text(encoding="utf-8") == twice.copy()


@pytest.mark.parametrize("damage", ["spaces instead of line ends", '{"a": 1}\n{"b": 2}\n'])
def test_damaged_copy_in_the_scene_does_not_stand_in_the_way(damage: str, tmp_path: Path) -> None:
    log_of(tmp_path, Commented(1, "file"))
    log = log_of(tmp_path, copy=damage)
    assert told(log) == [Commented(1, "file")]


def test_copy_about_the_regions_at_hand_wins_over_a_file_about_others(tmp_path: Path) -> None:
    twice = _Twice(tmp_path)
    log_of(twice.file, Commented(2, "other"), header=OTHER_REGIONS)
    log = log_of(twice.file, copy=twice.copy())
    assert told(log) == [Commented(1, "both")]
    assert "review.Anna.jsonl.of-regions-" in log.notes[0]
    assert read_log(log.path).events == log.events


def test_lock_of_a_dead_process_is_taken_over_and_that_of_a_living_one_named(tmp_path: Path) -> None:
    for content in (b"process 12 on elsewhere\n", b"", b"nonsense"):
        (tmp_path / "review.Anna.jsonl.lock").write_bytes(content)
        log = AuditLog.open(tmp_path, "Anna", HEADER)
        with pytest.raises(LogInUseError) as caught:
            AuditLog.open(tmp_path, "Anna", HEADER)
        assert caught.value.who == f"process {os.getpid()} on {socket.gethostname()}"
        log.close()
    assert names(tmp_path) == ["review.Anna.jsonl"]


def test_full_disk_is_told_and_all_is_written_once_there_is_room(small_disk: Path) -> None:
    log = AuditLog.open(small_disk, "Anna", HEADER)
    log.append(Commented(1, "before"))
    leave(small_disk, 0)
    texts = ["x" * 5000, "y", "z" * 9000]
    for number, text in enumerate(texts, 1):
        assert log.append(Commented(2, text)).action == Commented(2, text)
        assert re.search(rf"Cannot write .*[Ss]pace.*\(lines not stored yet: {number}\)", str(log.trouble))
        assert log.pending == number
        lines = read_log(log.path)
        assert (lines.cut, len(lines.events)) == (b"", 2), "no part of a line stays"
    with pytest.raises(OutputError, match="Cannot write"):
        log.flush()
    (small_disk / "ballast").unlink()
    log.append(Commented(3, "after"))
    assert (log.pending, log.trouble) == (0, None)
    log.close()
    assert read_log(log.path).events == log.events
    assert told(log) == [Commented(1, "before"), *(Commented(2, text) for text in texts), Commented(3, "after")]


def test_review_in_a_folder_that_cannot_be_written_goes_on_in_memory(small_disk: Path) -> None:
    log_of(small_disk, Commented(1, "earlier"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    log = AuditLog.open(small_disk, "Anna", HEADER)
    assert log.trouble is not None
    assert "Read-only file system" in str(log.trouble)
    log.append(Commented(2, "now"))
    assert told(log) == [Commented(1, "earlier"), Commented(2, "now")]
    with pytest.raises(OutputError):
        log.close()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    log.flush()
    log.close()
    assert read_log(log.path).events == log.events
    assert names(small_disk) == ["review.Anna.jsonl"]


def test_what_has_to_be_kept_first_is_kept_once_however_often_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = log_of(tmp_path, Commented(1, "old")).path.read_bytes()
    (tmp_path / "review.Anna.jsonl").write_bytes(old + b'{"cut')

    def cannot(_path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", cannot)
        log = AuditLog.open(tmp_path, "Anna", OTHER_REGIONS)
        log.append(Commented(2, "new"))
        assert "Device or resource busy" in str(log.trouble)
    log.flush()
    log.close()
    assert (tmp_path / "review.Anna.jsonl.damaged").read_bytes() == b'{"cut\n'
    (kept,) = tmp_path.glob("review.Anna.jsonl.of-regions-*")
    assert kept.read_bytes() == old
    assert read_log(log.path).events == log.events
    assert told(log) == [Commented(2, "new")]


@pytest.mark.parametrize("place", ["write", "fsync"])
def test_disk_that_fails_at_any_moment_leaves_whole_lines_and_loses_none(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    real = getattr(os, place)

    def failing(handle: int, *data: bytes) -> int:
        if place == "write":
            real(handle, data[0][:7])
        raise OSError(errno.EIO, "Input/output error")

    def cannot(_handle: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    for number in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(audit_log.os, place, failing)
            if number == 2:  # not even the half line can be taken back
                patch.setattr(audit_log.os, "ftruncate", cannot)
            log.append(Commented(number, "x"))
            assert "Input/output error" in str(log.trouble)
        assert len(read_log(log.path).events) in (1, 4)
    log.append(Commented(9, "y"))
    log.close()
    assert read_log(log.path).events == log.events
    assert len(told(log)) == 4


def test_changed_file_is_left_alone_and_lost_one_written_anew(tmp_path: Path) -> None:
    log = AuditLog.open(tmp_path, "Anna", HEADER)
    for change in (lambda old: old + b"mine\n", lambda old: old[:-9]):
        changed: Callable[[bytes], bytes] = change
        old = log.path.read_bytes()
        log.path.write_bytes(changed(old))
        log.append(Commented(1, "a"))
        assert "was changed by another program" in str(log.trouble)
        assert log.path.read_bytes() == changed(old)
        log.path.unlink()
        log.append(Commented(2, "b"))
        assert read_log(log.path).events == log.events
    log.close()


def test_thousands_of_lines_are_read_once_and_grow_by_one(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    verdicts = (VerdictGiven(n, Verdict.ACCEPTED, None, 1.5) for n in range(1, 10_001))
    lines = b"".join(to_line(Event("2026-01-01T00:00:00Z", "Anna", verdict)) for verdict in verdicts)
    log.path.write_bytes(log.path.read_bytes() + lines)
    calls, log = counted(lambda: AuditLog.open(tmp_path, "Anna", HEADER))
    assert calls < 400 * 10_000
    state = ReviewState.replayed(log.events, [a_region(n + 1) for n in range(10_000)], ["anterior"])
    assert len(state.seen_ids) == 10_000
    size = log.path.stat().st_size
    assert calls_of(lambda: log.append(RegionViewed(1, 0.0))) < 300
    assert allocated_mib(lambda: log.append(RegionViewed(1, 1.0))) < 0.1
    log.close()
    assert log.path.stat().st_size < size + 1000


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Anna", "Anna"),
        (" Dr.  Anna\tMüller ", "Dr. Anna Müller"),
        ("李雷", "李雷"),
        ("../../etc/passwd", "___.._etc_passwd"),
        ("a/b\\c:d*e?f", "a_b_c_d_e_f"),
        ("..hidden", "__hidden"),
        ("ends. ", "ends_"),
        ("nul\x00\x1b", "nul__"),
        ("e\u0301va", "éva"),
    ],
)
def test_names_become_file_names(name: str, safe: str) -> None:
    assert safe_reviewer_name(name) == safe


@pytest.mark.parametrize("name", ["", "  \t", "ü" * 51])
def test_reviewer_without_a_usable_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="characters"):
        AuditLog.open(tmp_path, name, HEADER)


def test_names_that_clash_are_told(tmp_path: Path) -> None:
    log_of(tmp_path)
    with pytest.raises(UsageError, match=r"review.Anna.jsonl, which differs from review.ANNA.jsonl"):
        AuditLog.open(tmp_path, "ANNA", HEADER)
    log_of(tmp_path, reviewer="A/B")
    with pytest.raises(UsageError, match="reviewer-name"):
        AuditLog.open(tmp_path, "A:B", HEADER)
    assert names(tmp_path) == ["review.A_B.jsonl", "review.Anna.jsonl"]
