"""What several test files of the core need."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_cases import make_dicom_cases
from exchanged_cases import CASES
from segwithu_command import MODEL
from small_disks import DISK_KB

from SegWithUCore.cli.__main__ import main


@pytest.fixture(scope="module")
def threads_and_signals_as_before() -> Iterator[None]:
    """For commands that run in the tests' own process: they choose torch's threads and take SIGTERM."""
    import torch

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of `DISK_KB`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(call, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def segmented_cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hippocampi segmented by the shipped model, with their images; tests copy what they change."""
    output = tmp_path_factory.mktemp("segmented")
    images = [str(data_folder / "hippocampus" / "images" / f"{name}.nii.gz") for name in CASES]
    options = ["--model", str(MODEL), "--output", str(output), "--include-image"]
    assert main(["segment", *images, *options]) == 0
    return output


@pytest.fixture(scope="session")
def dicom_cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `series` and `cases`: one hippocampus in three geometries; tests copy what they change."""
    return make_dicom_cases(data_folder, tmp_path_factory.mktemp("dicom"))
