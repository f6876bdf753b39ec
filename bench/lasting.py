"""Measure what state that survives costs: checkpoints, state on disk, recovery.

    python bench/lasting.py [--quick] [--part checkpoints rocksdb recovery] [--repeats 3] [--json]

Whatever is compared was run in turns, over the same files, pinned to one core; Redis, a service beside the job, is not.
docs/performance.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from costs import Costs, Row
from inputs import note
from jobs import empty_redis, redis
from measure import BenchError, machine, pin_to_one_core
from recovery import Recovery, recovery

MIB = 1 << 20
PARTS = ("checkpoints", "rocksdb", "recovery")
MATCHES = {False: 1_000_000, True: 100_000}
"""Partial matches that are recovered; fewer for rough figures."""


def costs_table(rows: list[Row]) -> str:
    """Ways to run the same workload, each with its ratio to the first."""
    head = (
        "| workload | way | events | events/s | ratio | events per CPU second | CPU ratio | peak, MiB | load |\n"
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.workload} | {row.way} | {row.events:,} | {row.wall_rate:,.0f} | {row.wall_ratio:.2f} "
        f"| {row.cpu_rate:,.0f} | {row.cpu_ratio:.2f} | {row.peak_bytes / MIB:.0f} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines, *_taken(rows)])


def _taken(rows: list[Row]) -> list[str]:
    said = []
    for row in rows:
        if row.checkpoints is not None:
            numbers = row.checkpoints
            each = numbers["bytes_written"] / max(1, numbers["completed"])
            said.append(
                f"\n{row.workload}, {row.way}: {numbers['completed']} checkpoints, {numbers['failed']} failed, the "
                f"longest {numbers['longest_seconds']:.2f} s, {each / 1024:,.0f} KiB each."
            )
    return said


def recovery_table(rows: list[Recovery]) -> str:
    """What a store does to a job with many partial matches."""
    head = (
        "| store | partial matches | whole checkpoint, MiB | s | keys changed | their checkpoint, MiB | s "
        "| of the whole | fresh start, s (CPU) | resumed, s (CPU) | peak running, MiB | peak resumed, MiB | load |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.store} | {row.partial_matches:,} | {row.whole_bytes / MIB:.1f} | {row.whole_seconds:.2f} "
        f"| {row.changed_keys:,} | {row.changed_bytes / MIB:.2f} | {row.changed_seconds:.2f} | {row.changed_ratio:.1%} "
        f"| {row.fresh_seconds:.1f} ({row.fresh_cpu_seconds:.1f}) "
        f"| {row.resumed_seconds:.1f} ({row.resumed_cpu_seconds:.1f}) | {row.running_peak_bytes / MIB:.0f} "
        f"| {row.resumed_peak_bytes / MIB:.0f} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def recoveries(folder: Path, address: str, repeats: int, *, quick: bool) -> list[Recovery]:
    """A directory, then Redis."""
    found = []
    empty_redis(address)
    stores = {
        "a directory": ["--checkpoint-dir", str(folder / "kept")],
        "Redis": ["--checkpoint-redis", address],
    }
    for number, (store, options) in enumerate(stores.items()):
        own = folder / f"recovery-{number}"
        own.mkdir(mode=0o700)  # running jobs are found in it
        found.append(recovery(store, options, own, repeats, users=MATCHES[quick]))
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what state that survives costs.")
    parser.add_argument("--quick", action="store_true", help="less input, every process once: rough figures")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, help="runs of each process, of which the median counts (3; quick: 1)")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    quick: bool = chosen.quick
    repeats = chosen.repeats or (1 if quick else 3)
    report: dict[str, Any] = {"about": f"{machine()}; median of {repeats}; load is the mean of the last minute"}
    if not chosen.json:
        print(f"\n{report['about']}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ostinato-bench-") as name, redis() as address:
        folder = Path(name)
        costs = Costs(folder, repeats)
        cost_parts: dict[str, Callable[[], list[Row]]] = {
            "checkpoints": lambda: costs.checkpoints(address, quick=quick),
            "rocksdb": lambda: costs.on_disk(quick=quick),
        }
        pin_to_one_core()
        for part in chosen.part:
            note(f"{part} ...")
            if part in cost_parts:
                rows = cost_parts[part]()
                report[part] = [asdict(row) for row in rows]
                said = costs_table(rows)
            else:
                found = recoveries(folder, address, repeats, quick=quick)
                report[part] = [asdict(row) | {"changed_ratio": row.changed_ratio} for row in found]
                said = recovery_table(found)
            if not chosen.json:
                print(f"\n{said}", flush=True)
    report["load"] = os.getloadavg()
    if chosen.json:
        print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
