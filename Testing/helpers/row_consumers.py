"""Who must know of a verdict, and of a column: each consumer is driven, and says what it lacks.

Run in a process of its own on a copy of the program whose tables have one row more (`test_new_rows.py`).
"""

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

VALUE, TEXT, SIGN, SINGLE_KEY = "made up by a test", "made up", "§", "Q"
VERDICT_ROW = f"""
    MADE_UP = VerdictKind(
        "{VALUE}",
        "{SIGN}",
        "No reviewer has this button.",
        tone="ask",
        single_key="{SINGLE_KEY}",
        text="{TEXT}",
        flag="made up {{}}",
        counted="made up here",
        structure="Make up",
    )
"""
NAME, TITLE, TIP = "made_up_count", "Made up", "How many reviewers there are."
COLUMN_ROW = f"""
    Column("{NAME}", "{TITLE}", "{TIP}", lambda entry: len(entry.reviews), digits=0),
"""
"""What a stranger adds to `review/verdicts.py` and `review/columns.py`."""


class Reviewed:
    """A copy of a case in which Ana gives one region the new verdict and accepts the others.

    Attributes:
        edited: she has saved a version of her own, as for a calibration.
    """

    def __init__(self, segmented: Path, place: Path, edited: bool = False) -> None:
        import exchanged_cases

        from SegWithUCore.case.case_file import naming_case, read_case
        from SegWithUCore.review.reviews import read_reviews
        from SegWithUCore.review.verdicts import Verdict

        self.folder = exchanged_cases.copied(segmented, place)
        ranks = range(1, len(exchanged_cases.read_regions(self.folder)) + 1)
        given = dict.fromkeys(ranks, Verdict.ACCEPTED) | {2: Verdict(VALUE)}
        exchanged_cases.judged(self.folder, "Ana", given)
        if edited:
            exchanged_cases.edited(self.folder, "Ana")
        self.case = read_case(self.folder)
        with naming_case(self.folder):
            self.found = read_reviews(self.folder, self.case)
        (self.review,) = self.found.reviews
        self.regions = self.found.regions


# -- verdicts --


def log_and_state(reviewed: Reviewed) -> None:
    state, regions = reviewed.review.state, reviewed.regions
    (asked,) = [region for region in regions if region.rank == 2]
    progress = state.progress()
    assert state.verdict_of(asked.id) == VALUE
    assert (progress.decided, progress.unseen, len(reviewed.review.verdicts(regions))) == (
        len(regions),
        0,
        len(regions),
    )
    structure = state.structure(asked.structure)
    assert (structure.verdict, structure.flagged) == (None, 1)


def flags_and_status(reviewed: Reviewed) -> None:
    from SegWithUCore.review.status import Level, status_of
    from SegWithUCore.review.worklist import read_for_worklist

    flags = read_for_worklist(reviewed.folder).flags
    assert [flag.message for flag in flags if "Ana made up 1 region" in flag.message]
    assert status_of(reviewed.case, flags).level is Level.LOOK


def worklist(reviewed: Reviewed) -> None:
    from SegWithUCore.review.worklist import read_for_worklist

    entry = read_for_worklist(reviewed.folder)
    assert (entry.open_regions, entry.unseen_regions) == (1, 0), entry


def calibration(reviewed: Reviewed) -> None:
    from SegWithUCore.review.reviews import lesson_of

    assert lesson_of(reviewed.folder, reviewed.case) is None, "it counts as finished"


def export_nnunet(reviewed: Reviewed) -> None:
    from SegWithUCore.export.nnunet import finished_labels

    assert finished_labels(reviewed.folder, reviewed.case, None, []) is None, "it counts as finished"


def report(reviewed: Reviewed) -> None:
    from SegWithUCore.report.case_report import write_report

    page = write_report(reviewed.folder).read_text("utf-8")
    assert f">{VALUE}</th>" in page and f"<b>{VALUE}</b>" in page
    assert page.index("<h3>2. ") < page.index("<h3>1. "), "what wants attention is not first"


def table_of_verdicts(reviewed: Reviewed) -> None:
    from SegWithUCore.review.reviews import agreement_csv

    assert f",Ana,{VALUE}," in agreement_csv([("case", reviewed.regions, [reviewed.review])])


def export_dicom(reviewed: Reviewed) -> None:
    from SegWithUCore.export.dicom_report import judged_regions

    assert 2 in [region.rank for region in judged_regions(reviewed.regions, reviewed.review)]


def export_anonymous(reviewed: Reviewed) -> None:
    from SegWithUCore.export.anonymous import anonymous_copy
    from SegWithUCore.review.worklist import read_for_worklist

    copy = anonymous_copy(reviewed.folder, reviewed.folder.parent / "anonymous", "case-001")
    assert not list(copy.glob("review*")) and not read_for_worklist(copy).trouble


def merge(reviewed: Reviewed) -> None:
    from SegWithUCore.review.log_format import to_line
    from SegWithUCore.review.merge import merge_reviews

    lines = [json.loads(to_line(event)) for event in reviewed.review.events]
    content = {"format": "segwithu-page-review", "format_version": 1, "reviewer": "Ana", "lines": lines}
    case, opened = reviewed.case, reviewed.review.events[0].action
    identity = {"voxels_sha256": [one["voxels_sha256"] for one in case["input"]["channels"]]}
    identity |= {key: getattr(opened, key) for key in ("weights_sha256", "regions_sha256")}
    file = reviewed.folder.parent / "back.segwithu.json"
    file.write_text(json.dumps({**content, "identity": identity}), encoding="utf-8")
    done, troubles = merge_reviews([file], reviewed.folder)
    assert ([one.change for one in done], troubles) == (["nothing new"], [])


def server(reviewed: Reviewed) -> None:
    from web_client import WebClient, lines_of, served

    from SegWithUCore.review.verdicts import Verdict

    with served(reviewed.folder.parent) as running, closing(WebClient(running.gate.link)) as client:
        (row,) = [row for row in client.worklist()["verdicts"] if row["value"] == VALUE]
        shown = {
            "sign": SIGN,
            "key": Verdict(VALUE).key,
            "single_key": SINGLE_KEY,
            "tone": "ask",
            "wants_attention": True,
        }
        assert {name: row[name] for name in shown} == shown
        review = client.open(client.case_id(reviewed.case["name"]), "Bob")
        review.judge(review.ids[0], VALUE)
    assert lines_of(reviewed.folder, "Bob")[1]["verdict"] == VALUE


def single_file(reviewed: Reviewed) -> None:
    from SegWithUCore.export.case_export import ExportSettings
    from SegWithUCore.web.single_file import case_page

    assert f'"value": "{VALUE}"' in case_page(reviewed.folder, ExportSettings())


def panel(_reviewed: Reviewed) -> None:
    with_qt()
    from SegWithUCore.review.verdicts import GIVEN, Verdict
    from SegWithUSlicerLib.panels.review_widgets import actions_of, add_verdict_buttons
    from SegWithUSlicerLib.review.verdict_texts import numbered_text, verdict_text

    ui, judge, judge_structure = Mock(spec=["verdictFrame", "structureFrame"]), Mock(), Mock()
    add_verdict_buttons(ui, judge, judge_structure)
    names = (ui.madeUpButton.objectName, ui.madeUpStructureButton.objectName)
    assert names == ("madeUpButton", "madeUpStructureButton")
    place, added = GIVEN.index(Verdict(VALUE)), ui.verdictFrame.layout().addWidget.call_args_list
    assert added[place].args == (ui.madeUpButton, place // 2, place % 2)
    pressed = MagicMock()
    actions_of(pressed)[Verdict(VALUE).key]()
    pressed.judge.assert_called_with(Verdict(VALUE))
    assert f"{place + 1} {TEXT}" in numbered_text("1") and verdict_text(Verdict(VALUE)) == f"{SIGN} {TEXT}"


# -- columns --


def terminal(reviewed: Reviewed) -> None:
    from segwithu_command import main

    target = reviewed.folder.parent / "list"
    assert main(["worklist", str(reviewed.folder), "--output", str(target)]) == 0


def files(reviewed: Reviewed) -> None:
    import csv

    from SegWithUCore.review.worklist import make_worklist
    from SegWithUCore.review.worklist_files import read_worklist, write_worklist

    target = reviewed.folder.parent / "files"
    write_worklist(make_worklist([reviewed.folder]), target)
    ((row, _),) = read_worklist(target / "worklist.json")
    with (target / "worklist.csv").open(encoding="utf-8") as file:
        (cells,) = csv.DictReader(file)
    assert (row[NAME], cells[NAME]) == (1, "1")
    assert [*cells][-2:] == [NAME, "folder"], "those of earlier versions are not where they were"


def table_in_terminal(reviewed: Reviewed) -> None:
    from SegWithUCore.cli.review import _worklist_table
    from SegWithUCore.review.worklist import make_worklist

    header = _worklist_table(make_worklist([reviewed.folder])).splitlines()[0]
    assert "made up" in header


def served_worklist(reviewed: Reviewed) -> None:
    from web_client import WebClient, served

    with served(reviewed.folder.parent) as running, closing(WebClient(running.gate.link)) as client:
        found = client.worklist()
    (place,) = [place for place, column in enumerate(found["columns"]) if column["title"] == TITLE]
    assert found["columns"][place]["tip"] == TIP
    assert [case["cells"][place] for case in found["cases"]] == [["1", 1]]


def mailed_index(reviewed: Reviewed) -> None:
    from segwithu_command import main

    target = reviewed.folder.parent / "pages"
    assert main(["export", str(reviewed.folder), "--page", "--without-image", "--output", str(target)]) == 0
    page = (target / "index.html").read_text("utf-8")
    assert f'<th class="n">{TITLE}</th>' in page and '<td class="n">0</td>' in page, "nobody has reviewed the copy"


def panel_list(reviewed: Reviewed) -> None:
    with_qt()
    from SegWithUSlicerLib.cases.case_list import CaseList
    from SegWithUSlicerLib.panels.cases_panel import CasesTable

    table, found = MagicMock(), CaseList(reviewed.folder)
    found.read_some(60.0)
    shown = CasesTable(table, Mock(), Mock())
    titles = table.setHorizontalHeaderLabels.call_args.args[0]
    assert TITLE in titles
    ((text, _),) = [cell for title, cell in zip(titles, shown._cells(found.items[0]), strict=True) if title == TITLE]
    assert text == "1"


def with_qt() -> None:
    """Let files of the panel be imported: what they ask of Qt and Slicer is answered by anything."""
    for name in ("qt", "ctk", "slicer", "slicer.util", "vtk", "vtk.util", "vtk.util.numpy_support"):
        sys.modules.setdefault(name, MagicMock())
    sys.modules["qt"].QPushButton.side_effect = lambda _text: MagicMock()  # type: ignore[attr-defined]
    sys.modules["slicer.i18n"] = None  # type: ignore[assignment]


VERDICT_CONSUMERS: dict[str, Callable[[Reviewed], None]] = {
    one.__name__: one
    for one in (
        *(log_and_state, flags_and_status, worklist, calibration, export_nnunet, report, table_of_verdicts),
        *(export_dicom, export_anonymous, merge, server, single_file, panel),
    )
}
COLUMN_CONSUMERS: dict[str, Callable[[Reviewed], None]] = {
    one.__name__: one for one in (files, table_in_terminal, terminal, served_worklist, mailed_index, panel_list)
}


def main_(segmented: Path, place: Path) -> dict[str, str]:
    """Drive all consumers, each on a case of its own; returns what each lacks, "" for nothing."""
    troubles: dict[str, Any] = {}
    for name, consumer in {**VERDICT_CONSUMERS, **COLUMN_CONSUMERS}.items():
        try:
            consumer(Reviewed(segmented, place / name, edited=consumer is calibration))
            troubles[name] = ""
        except Exception:  # noqa: BLE001 - whatever it is, the test of this consumer shows it
            troubles[name] = traceback.format_exc()
    return troubles


if __name__ == "__main__":
    found = main_(Path(sys.argv[1]), Path(sys.argv[2]))
    Path(sys.argv[2], "troubles.json").write_text(json.dumps(found), encoding="utf-8")
