"""Run cases in the format of FORMAT.md: ``python tests/conformance/run.py FILE...``

Prints the cases that differ from the recorded answers, then how many are undetermined (Flink's answer depends on the
layout of a heap) and how many have semantics of our own (bounds between events), then ``N passed, N failed``. Exits
with 1 where any failed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.conformance.cases import read_cases, score


def main(paths: list[str]) -> int:
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    for path in paths:
        for case in read_cases(Path(path)):
            result = score(case)
            counts[result.verdict] += 1
            if result.verdict == "failed":
                print(f"{case['name']}: {result.detail}")
    print(f"{counts['undetermined']} undetermined, {counts['own']} own semantics")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
