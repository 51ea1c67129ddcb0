"""Figures of a structure as the user reads them; needs no Slicer."""

from SegWithUCore.case.case_file import Structure, parse_description
from SegWithUCore.case.structures_table import short_name
from SegWithUCore.models.installed import resolve_model
from SegWithUSlicerLib.scene.readout import dice_text, expected_text

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
