"""Measure what lies between two Kafka topics: how many events a worker takes, how soon a match can be read, how long
it takes until another worker goes on.

    python bench/topics.py [--quick] [--part throughput latency takeover] [--repeats 3] [--json]

Brings a broker and a Redis of its own. docs/performance.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster import Cluster, kafka
from figures import Row
from inputs import note
from jobs import redis
from latency import Latency, latency
from measure import BenchError, load, machine
from takeover import Takeover, takeover
from throughput import BASIS, throughput
from workers import cores, on

MIB = 1 << 20
PARTS = ("throughput", "latency", "takeover")


def throughput_table(rows: list[Row]) -> str:
    """Ways to read one topic, each with its ratio to the bare loop."""
    head = (
        f"| way | events | events/s | of {BASIS} | events per CPU second | of {BASIS} | events/s with start-up "
        "| matches |\n"
        "| --- | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.way} | {row.events:,} | {row.rate.said()} | {row.ratio.said('.3f')} | {row.cpu_rate.said()} "
        f"| {row.cpu_ratio.said('.3f')} | {row.whole_rate.said()} "
        f"| {'' if row.matches is None else f'{row.matches:,}'} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def latency_table(rows: list[Latency]) -> str:
    """From append to where a match can be read, ms."""
    head = (
        "| snapshots | events/s | seconds | matches | p50, ms | p90, ms | p99, ms | max, ms | commits/s "
        "| worker's CPU | load |\n| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.store} | {row.events_per_s:,.0f} | {row.seconds:.0f} | {row.delays.count:,} | {row.delays.p50:.0f} "
        f"| {row.delays.p90:.0f} | {row.delays.p99:.0f} | {row.delays.most:.0f} | {row.commits_per_s:.1f} "
        f"| {row.cpu_part:.0%} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def takeover_table(rows: list[Takeover]) -> str:
    """From one worker's end to where the other goes on, s."""
    head = (
        "| snapshots | partial matches | ended by | end to assigned, s | assigned to first commit, s "
        "| assigned to first match readable, s | peak, MiB | load |\n"
        "| --- | --: | --- | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.store} | {row.partial_matches:,} | {row.how} | {row.assigned_s.said('.2f')} "
        f"| {row.commit_s.said('.2f')} | {row.match_s.said('.2f')} "
        f"| {row.peak_bytes / MIB:.0f} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what lies between two Kafka topics.")
    parser.add_argument("--quick", action="store_true", help="less input, every process once: rough figures")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, help="runs of each process, of which the median counts (3; quick: 1)")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    quick: bool = chosen.quick
    repeats = chosen.repeats or (1 if quick else 3)
    measured, others = cores()
    where = f"workers on core {sorted(measured)}, broker, Redis, feeder and reader on {sorted(others)}"
    report: dict[str, Any] = {"about": f"{machine()}; {where}; median of {repeats} (least..most)"}
    if not chosen.json:
        print(f"\n{report['about']}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="ostinato-bench-") as name,
        on(others),
        redis() as address,
        kafka() as servers,
    ):
        folder = Path(name)
        with Cluster(servers) as cluster:

            def of(part: Callable[..., list[Any]], *more: object) -> list[Any]:
                return part(cluster, address, folder, *more, quick=quick)

            for part in chosen.part:
                note(f"{part} ...")
                before = load()
                if part == "throughput":
                    rows = of(throughput, repeats)
                    said = throughput_table(rows)
                elif part == "latency":
                    rows = of(latency)
                    said = latency_table(rows)
                else:
                    rows = of(takeover, repeats)
                    said = takeover_table(rows)
                report[part] = [asdict(row) for row in rows]
                report[f"{part}_load"] = before, load()
                if not chosen.json:
                    print(f"\n{said}\n\nLoad before: {before:.1f}, at the end: {load():.1f}.", flush=True)
    if chosen.json:
        print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
