"""Fetch the full real data from where it is published: `python Testing/fetch_data.py FOLDER [--only hippocampus ...]`.

`make test` does without. `make test-all` and the benchmarks look for it in the folder that `SEGWITHU_DATA` names, or in
`../shared/data`. Every file must have the SHA-256 that `Testing/data/full_data.csv` gives; one that has it already is
not fetched again. Not fetched: the images of ACDC, for which its authors ask for a registration, and `reference_head`,
which was computed for this project and is published nowhere. Testing/README.md says which tests need these.
"""

import argparse
import csv
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

LISTED = Path(__file__).resolve().parent / "data" / "full_data.csv"
TABLES = LISTED.parent / "tables"
"""Who is trained and tested on what, as `FOLDER/SET/split.csv`: tables of this project."""
SERVER = "https://raw.githubusercontent.com"
SETS = {
    "hippocampus": (
        "udacity/nd320-c3-3d-imaging-starter/895fee683624aafe2033521f4d9b6d99accd66d5",
        "Medical Segmentation Decathlon, Task04 (http://medicaldecathlon.com), CC-BY-SA 4.0, Antonelli et al. 2022",
    ),
    "brains": (
        "muschellij2/malf.templates/ab259cebdbb44a9fd2c9cc1597cee8ea329c8cc1",
        "MICCAI 2012 multi-atlas challenge: OASIS scans, labels of Neuromorphometrics, CC BY-NC",
    ),
    "head_maps": (
        "BBillot/SynthSeg/66342c1f05e520f3729a6d7ca1042eb7f01b6266",
        "label maps that SynthSeg was trained on, Apache-2.0, Billot et al. 2023",
    ),
    "brats2015": (
        "deepmedic/deepmedic/e10ba7c3570d06194f5dadca91d99d5e7bba7de5",
        "two cases of BRATS 2015, CC BY-NC-SA 3.0",
    ),
    "ct_abdomen": (
        "wasserth/TotalSegmentator/0e65a448d557382b1e925276212b3bec7f5aff83",
        "test files of TotalSegmentator, Apache-2.0",
    ),
    "meshnet": ("neuroneural/brainchop/4c87885f3a2a8835e260d521dcec922b58d91d41", "models of brainchop, MIT"),
}
"""Where the files of each folder lie (repository and commit on GitHub), and whose they are."""


def has_sha256(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def listed(sets: list[str]) -> Iterator[tuple[str, str, str]]:
    """File in the folder, SHA-256, and path in the repository of each file of some sets."""
    with LISTED.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["file"].split("/")[0] in sets:
                yield row["file"], row["sha256"], row["from"]


def fetch(folder: Path, sets: list[str], server: str = SERVER) -> int:
    """Fetch what is missing; returns how many files came. A file with another checksum ends it and is not kept."""
    came = 0
    with requests.Session() as session:
        for name, sha256, path in listed(sets):
            target = folder / name
            if has_sha256(target, sha256):
                continue
            address = f"{server}/{SETS[name.split('/')[0]][0]}/{path}"
            answer = session.get(address, timeout=60)
            answer.raise_for_status()
            if hashlib.sha256(answer.content).hexdigest() != sha256:
                raise SystemExit(f"{address} does not have the SHA-256 {sha256}: nothing of it was kept.")
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            part.write_bytes(answer.content)
            part.replace(target)
            came += 1
    for name in sets:
        if (TABLES / name).is_dir():
            shutil.copytree(TABLES / name, folder / name, dirs_exist_ok=True)
    return came


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Fetch the full real data of tests and benchmarks.",
        epilog="\n".join(f"{name}: {whose}" for name, (_, whose) in SETS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where to put it, such as ../shared/data")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="some of the sets (default: all)")
    parser.add_argument("--server", default=SERVER, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        came = fetch(options.folder, options.only, options.server)
    except (requests.RequestException, OSError) as error:
        print(f"Not all data could be fetched: {error}", file=sys.stderr)
        return 1
    print(f"{came} files fetched into {options.folder}; all {len(list(listed(options.only)))} are there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
