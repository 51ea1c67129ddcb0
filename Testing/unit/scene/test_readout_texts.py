"""Figures of a structure as the user reads them; needs no Slicer."""

from pathlib import Path

import pytest

from SegWithUCore.case.case_file import Structure, parse_description
from SegWithUCore.case.case_files import changed_error
from SegWithUCore.case.structures_table import short_name
from SegWithUCore.models.graphs import COMPILE
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import SegWithUError, UsageError, code_of
from SegWithULab.training.run_record import check_unseen
from SegWithUSlicerLib.scene.readout import dice_text, expected_text, for_panel

PLAIN = {"value": 1, "name": "anterior", "color": (1, 2, 3)}


def test_an_expected_volume_carries_its_interval_where_there_is_one() -> None:
    assert expected_text(2180.4, None) == "2180 mm³"
    assert expected_text(2180.4, (2010.0, 2350.0)) == "2180 mm³ (2010 to 2350 mm³)"
    assert dice_text(Structure(**PLAIN, predicted_dice=0.886)) == "0.89"
    assert expected_text(61e3, (9e3, 72.5e3)) == "61.0 mL (9.0 to 72.5 mL)"


def test_numbers_of_a_case_file_are_read() -> None:
    entry = {"value": 1, "name": "anterior", "color": [1, 2, 3], "predicted_dice_informative": False}
    entry |= {"expected_volume_mm3": 2180.4, "expected_interval_mm3": [2010, 2350], "calibration_cases": 27}
    raw = {"format": "segwithu-case", "format_version": 1, "name": "case", "structures": [entry]}
    (structure,) = parse_description(raw).structures
    assert (structure.expected_interval_mm3, structure.calibration_cases) == ((2010.0, 2350.0), 27)
    assert dice_text(structure) == "not informative"


def test_short_names_stay_apart() -> None:
    names = [label.name for label in resolve_model("brain").labels]
    short = {name: short_name(name) for name in names}
    assert len(set(short.values())) == len(names)
    assert short["left hippocampus"] == "L hippocampus"
    assert short["right cerebral white matter"] == "R cerebral WM"
    assert short["brainstem"] == "brainstem"


def seen_before() -> SegWithUError:
    with pytest.raises(UsageError) as caught:
        check_unseen("calibration", {"ab": "Case A"}, {"train": {"ab": ""}}, allowed=False)
    return caught.value


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (str(seen_before()), "the image of Case A"),
        (str(changed_error(Path("a"), "segmentation.nrrd")), "restore it"),
        (str(changed_error(Path("a"), "regions.csv")), "regions.csv"),
        ("Out is in use: wait, resume with --resume, or choose another folder. [folder-in-use]", "another folder"),
        (
            "A exists already: choose another output folder or pass --overwrite. [exists-already]",
            "another output folder",
        ),
        ("It is installed: delete it first (segwithu models delete a). [exists-already]", "delete it first"),
        ("The page is missing: see segwithu web. [unusable-input]", "The page is missing."),
        (f"Openvino cannot be used: {COMPILE}, or choose torch. [wrong-usage]", "choose torch"),
    ],
)
def test_a_message_in_the_panel_names_no_option_and_no_command(message: str, kept: str) -> None:
    shown = for_panel(message)
    assert kept in shown and "--" not in shown and "segwithu " not in shown
    assert code_of(shown) == code_of(message) and ":." not in shown


def test_a_message_without_options_is_shown_as_it_is() -> None:
    text = "/data/sub--a/segwithu x/b.nii.gz cannot be read (it ends, early): copy it again. [truncated-file]"
    assert for_panel(text) == text
