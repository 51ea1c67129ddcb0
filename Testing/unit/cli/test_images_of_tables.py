"""`segment TABLE.csv:ROLE`: the images of a split table, as people save it."""

from pathlib import Path

import pytest

from SegWithUCore.cli.segment import _cases_of
from SegWithUCore.util.errors import InputError, UsageError

ROWS = [("case", "role"), ("müller", "test"), ("b", "test"), ("c", "train")]


def table(folder: Path, delimiter: str, encoding: str) -> Path:
    (folder / "images").mkdir()
    for name in ("müller_0000", "müller_0001", "b", "c"):
        (folder / "images" / f"{name}.nii.gz").touch()
    path = folder / "split.csv"
    path.write_bytes("".join(delimiter.join(row) + "\r\n" for row in ROWS).encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_images_of_a_role_are_found_without_references(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = table(tmp_path, delimiter, encoding)
    both, single = _cases_of(Path(f"{path}:test"))
    assert (both.name, sorted(both.numbered)) == ("müller", [0, 1])
    assert (single.source, single.numbered) == (tmp_path / "images" / "b.nii.gz", {})


def test_an_unknown_role_and_a_missing_image_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, ";", "latin-1")
    with pytest.raises(UsageError, match="has no case with role 'tset': choose one of test, train"):
        _cases_of(Path(f"{path}:tset"))
    (tmp_path / "images" / "c.nii.gz").unlink()
    with pytest.raises(InputError, match="has no image of case c"):
        _cases_of(Path(f"{path}:train"))
