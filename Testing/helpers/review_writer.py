"""A reviewer as a process of its own: `python review_writer.py FOLDER REVIEWER [COUNT]` says each line once stored."""

import sys
from itertools import count
from pathlib import Path

from review_cases import HEADER

from SegWithUCore.review.log import AuditLog
from SegWithUCore.review.log_format import Commented
from SegWithUCore.util.errors import SegWithUError


def main(folder: str, reviewer: str, limit: str = "0") -> int:
    try:
        log = AuditLog.open(Path(folder), reviewer, HEADER)
    except SegWithUError as error:
        print(error, file=sys.stderr)
        return 1
    start = len(log.events)
    for number in count(start):
        if int(limit) and number - start == int(limit):
            break
        log.append(Commented(1 + number % 4, f"wörd {number} " + "x" * (number * 37 % 500)))
        print(number, flush=True)
    log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
