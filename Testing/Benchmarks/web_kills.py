"""Kill `segwithu web` during reviews, again and again, and look for every verdict in the log.

    python Testing/Benchmarks/web_kills.py CASE [--kills 50] [--seed 20261127] [--output FILE]

CASE is copied first. The server is a process of its own each time, killed by SIGKILL at a random moment of 0.3 s while
verdicts are given one after the other; then the review is opened again and the verdict that got no answer is settled.
At the end each verdict must be in the log exactly once. Exits 1 where that is not so.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

from web_process import killed_reviews  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Run the trial and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("case", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--output", type=Path, default=RESULTS / "web_kills.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as private:
        case = shutil.copytree(options.case, Path(private) / options.case.name)
        found = asdict(killed_reviews(Path(case), options.kills, options.seed))
    where = {"python": platform.python_version(), "platform": sys.platform, "load": round(os.getloadavg()[0], 1)}
    result = {"seed": options.seed, **found, **where}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if found["kills"] == options.kills and not found["lost"] and not found["doubled"] else 1


if __name__ == "__main__":
    sys.exit(main())
