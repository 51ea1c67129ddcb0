"""Folders in split tables that no file system can have."""

from pathlib import Path

import pytest

from SegWithUCore.util.errors import InputError
from SegWithULab.training.dataset import find_cases, find_images


@pytest.mark.parametrize(
    "folder", ["n" * 300, "/tmp/" + "n" * 5000, "a/" * 3000], ids=["name", "long name", "long path"]
)
@pytest.mark.parametrize("column", ["images", "labels"])
def test_a_folder_that_no_file_system_can_have_is_refused(column: str, folder: str, tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_text(f"case,role,{column}\na,test,{folder}\n", encoding="utf-8")
    for read in (find_cases, find_images)[: 2 if column == "images" else 1]:
        with pytest.raises(InputError) as error:
            read(f"{table}:test")
        assert error.value.code == "unusable-name"
        assert str(table) in str(error.value)
