"""Figures of a structure as the user reads them; needs no Slicer."""

from SegWithUSlicerLib.case_file import Structure
from SegWithUSlicerLib.readout import dice_text, expected_text

PLAIN = {"value": 1, "name": "anterior", "color": (1, 2, 3)}


def test_what_the_model_does_not_predict_reads_not_assessed() -> None:
    assert expected_text(Structure(**PLAIN)) == dice_text(Structure(**PLAIN)) == "not assessed"


def test_an_expected_volume_carries_its_interval_where_there_is_one() -> None:
    assert expected_text(Structure(**PLAIN, expected_volume_mm3=2180.4)) == "2180 mm³"
    known = Structure(**PLAIN, expected_volume_mm3=2180.4, expected_interval_mm3=(2010.0, 2350.0), predicted_dice=0.886)
    assert expected_text(known) == "2180 mm³ (2010 mm³ to 2350 mm³)"
    assert dice_text(known) == "0.89"
