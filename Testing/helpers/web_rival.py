"""Another program that reviews the same case: opens the log, says so, judges the last region when told, and ends.

web_rival.py FOLDER REVIEWER
"""

import json
import sys
from pathlib import Path

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions, regions_hash, regions_text
from SegWithUCore.regions.region import Kind
from SegWithUCore.review.log import AuditLog, LogInUseError
from SegWithUCore.review.log_format import Verdict, VerdictGiven
from SegWithUCore.review.session import ReviewedCase


def main(place: str, reviewer: str) -> None:
    folder = Path(place)
    last = [region for region in read_regions(folder) if region.kind is not Kind.BLIND][-1]
    header = ReviewedCase(read_case(folder), (), regions_hash(regions_text(folder))).header()
    try:
        log = AuditLog.open(folder, reviewer, header)
    except LogInUseError as error:
        print("refused", json.dumps(str(error)), flush=True)
        return
    print("open", flush=True)
    for _line in sys.stdin:
        log.append(VerdictGiven(last.id, Verdict.REJECTED))
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
