"""Error codes: part of the message, so that they survive processes, tables and other messages."""

import pickle

import pytest

from SegWithUCore.util.errors import InputError, code_of, naming


def test_the_code_survives_pickling_and_being_quoted():
    error = InputError("a.nii.gz is cut.", code="truncated-file")
    assert pickle.loads(pickle.dumps(error)).code == "truncated-file"
    assert InputError(f"Case a failed: {error}").code == "truncated-file"
    with pytest.raises(InputError) as caught, naming("b.json"):
        raise error
    assert caught.value.code == "truncated-file"


@pytest.mark.parametrize("text", ["", "no code.", "shape [2, 3]", "[1-2]", "[word]", "[Two-Words]"])
def test_other_brackets_are_no_codes(text: str):
    assert code_of(text) == ""
