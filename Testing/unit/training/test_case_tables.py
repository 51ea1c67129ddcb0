"""Names of cases in split tables are names, and no file that a table names is left out unsaid."""

from pathlib import Path

import pytest
from toy_data_set import write_data_set

from SegWithUCore.util.errors import InputError
from SegWithULab.training.dataset import find_cases, find_images, roles_of


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data", {"test": 2})


@pytest.mark.parametrize(
    "name",
    ["../../sec/h", "/etc/h", "a/b", "a\\b", "..", "", ".", "C:h", "\\\\server\\share", "x" * 250, "x" * 5000, "a\0b"],
    ids=lambda name: repr(name[:20]),
)
def test_a_case_that_is_no_name_is_refused(name: str, table: Path) -> None:
    (table.parent.parent / "sec").mkdir()
    for part in ("images", "labels"):
        (table.parent / part / "a").mkdir()
        for place in (table.parent.parent / "sec" / "h.nii.gz", table.parent / part / "a" / "b.nii.gz"):
            place.write_bytes((table.parent / part / "test0.nii.gz").read_bytes())
    table.write_text(f"case,role\ntest0,test\n{name},test\n", encoding="utf-8")
    for read in (lambda: find_cases(f"{table}:test"), lambda: find_images(f"{table}:test"), lambda: roles_of(table)):
        with pytest.raises(InputError) as error:
            read()
        assert error.value.code == "unusable-name" and str(table) in str(error.value)


@pytest.mark.parametrize("name", ["sub-01_ses-2", "Müller, Hans", "a..b", ".hidden", "x" * 100])
def test_other_names_are_names(name: str, table: Path) -> None:
    for part in ("images", "labels"):
        (table.parent / part / "test0.nii.gz").rename(table.parent / part / f"{name}.nii.gz")
    table.write_text(f'case,role\n"{name}",test\n', encoding="utf-8")
    assert [case.name for case in find_cases(f"{table}:test")] == [name]


def test_links_to_files_elsewhere_are_followed(table: Path, tmp_path: Path) -> None:
    """A data set of git-annex has nothing else."""
    (tmp_path / "annex").mkdir()
    for part in ("images", "labels"):
        path = table.parent / part / "test0.nii.gz"
        path.rename(tmp_path / "annex" / part)
        path.symlink_to(tmp_path / "annex" / part)
    assert len(find_cases(f"{table}:test")) == 2


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("source", ["table", "folder"])
def test_a_link_to_nothing_is_refused_by_name(source: str, part: str, table: Path) -> None:
    path = table.parent / part / "test1.nii.gz"
    path.unlink()
    path.symlink_to("../.git/annex/objects/gone")
    with pytest.raises(InputError) as error:
        find_cases(f"{table}:test" if source == "table" else str(table.parent))
    assert error.value.code == "link-to-nothing" and str(path) in str(error.value)


def test_no_channel_and_no_other_file_takes_the_place_of_a_link_to_nothing(table: Path) -> None:
    images = table.parent / "images"
    for number, name in enumerate(("test0.nii.gz", "test0_0000.nii.gz", "test0_0001.nii.gz")):
        if number:
            (images / name).write_bytes((images / "test1.nii.gz").read_bytes())
    (images / "test0.nii.gz").unlink()
    assert len(find_cases(f"{table}:test")[0].channels) == 2
    (images / "test0_0001.nii.gz").unlink()
    (images / "test0_0001.nii.gz").symlink_to("gone")
    with pytest.raises(InputError) as error:
        find_cases(f"{table}:test")
    assert error.value.code == "link-to-nothing" and "test0_0001.nii.gz" in str(error.value)


def test_one_file_is_not_image_and_reference(table: Path) -> None:
    table.write_text("case,role,images,labels\ntest0,test,labels,labels\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        find_cases(f"{table}:test")
    assert error.value.code == "image-as-reference" and "test0.nii.gz" in str(error.value)


def test_a_folder_is_listed_once_and_the_files_of_another_case_are_its_own(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = table.parent / "images"
    for name in ("test0", "test1"):
        (images / f"{name}.nii.gz").rename(images / f"{name}_0000.nii.gz")
    for suffix in ("nii.gz", "nrrd"):  # of no case that is asked for
        (images / f"test0_left_0000.{suffix}").write_bytes(b"")
    listed: list[Path] = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or iterdir(folder))
    assert [case.channels for case in find_cases(f"{table}:test")] == [
        (images / "test0_0000.nii.gz",),
        (images / "test1_0000.nii.gz",),
    ]
    assert len(find_images(f"{table}:test")) == 2
    assert listed.count(images) == 2, "once a search"
