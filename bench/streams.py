"""Event streams for benchmarks and demonstrations, the same bytes for the same arguments.

    python bench/streams.py login 1000000 > login.jsonl

``login``  user, ts, status (FAILED or SUCCESS), ip   logins; now and then a burst of failures that ends in a success
``txn``    account, ts, amount                        card payments; now and then a tiny one before a large one
``tick``   symbol, ts, price, volume                  a random walk of prices for each symbol

``ts`` is event time in milliseconds. An event arrives at most `JITTER_MS` after one that happened later, so a
watermark delay of `JITTER_MS` loses none. Standard library only.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

START_MS = 1_700_000_000_000
JITTER_MS = 2_000
EVENTS_PER_KEY = 200
"""How many events a user or an account has by default: the number of keys grows with the stream."""
SYMBOLS = 100
"""How many symbols are traded by default, whatever the length of the stream."""
LINES_PER_WRITE = 10_000


def _arrivals(random_: random.Random, events: int, keys: int, mean_gap_ms: int) -> Iterator[tuple[int, int]]:
    """`events` pairs of key and event time, in order of arrival; a key comes every `mean_gap_ms` on average."""
    mean_step_ms = mean_gap_ms / keys
    now_ms = float(START_MS)
    exponential, below = random_.expovariate, random_.randrange
    for _ in range(events):
        now_ms += exponential(1.0) * mean_step_ms
        key = below(keys)
        yield key, int(now_ms) - below(JITTER_MS)


def login(events: int, keys: int | None = None, seed: int = 1) -> Iterator[str]:
    """Logins of many users: one in a hundred starts a burst of two to six more failures, then a success."""
    random_ = random.Random(seed)
    keys = keys or max(1, events // EVENTS_PER_KEY)
    left_of_burst = [0] * keys
    for user, ts in _arrivals(random_, events, keys, mean_gap_ms=45_000):
        if left_of_burst[user]:
            left_of_burst[user] -= 1
            failed = left_of_burst[user] > 0
        else:
            chance = random_.random()
            if chance < 0.01:
                left_of_burst[user] = random_.randrange(3, 8)
            failed = chance < 0.08
        status = "FAILED" if failed else "SUCCESS"
        ip = f"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}"
        yield f'{{"user":"u{user}","ts":{ts},"status":"{status}","ip":"{ip}"}}'


def txn(events: int, keys: int | None = None, seed: int = 2) -> Iterator[str]:
    """Card payments: two in a hundred under 1, three in a hundred over 500."""
    random_ = random.Random(seed)
    keys = keys or max(1, events // EVENTS_PER_KEY)
    for account, ts in _arrivals(random_, events, keys, mean_gap_ms=30_000):
        chance = random_.random()
        if chance < 0.02:
            amount = random_.uniform(0.01, 1)
        elif chance < 0.05:
            amount = random_.uniform(500, 5000)
        else:
            amount = random_.uniform(1, 500)
        yield f'{{"account":"a{account}","ts":{ts},"amount":{amount:.2f}}}'


def tick(events: int, keys: int | None = None, seed: int = 3) -> Iterator[str]:
    """Trades: the price of a symbol moves by 0.2 % (standard deviation) from one to the next."""
    random_ = random.Random(seed)
    keys = keys or SYMBOLS
    price = [random_.uniform(50, 150) for _ in range(keys)]
    for symbol, ts in _arrivals(random_, events, keys, mean_gap_ms=1_000):
        price[symbol] = max(1.0, price[symbol] * (1 + random_.gauss(0, 0.002)))
        volume = random_.randrange(1, 1000)
        yield f'{{"symbol":"S{symbol}","ts":{ts},"price":{price[symbol]:.4f},"volume":{volume}}}'


STREAMS: dict[str, Callable[[int, int | None], Iterator[str]]] = {"login": login, "txn": txn, "tick": tick}


def write(lines: Iterator[str], out: TextIO) -> None:
    """Write the lines, many at a time."""
    while block := list(islice(lines, LINES_PER_WRITE)):
        out.write("\n".join(block) + "\n")


def write_file(name: str, events: int, path: Path, keys: int | None = None) -> None:
    """Write a stream to a file that is there complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("w", encoding="ascii", newline="\n") as out:
        write(STREAMS[name](events, keys), out)
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a generated stream of events as JSON lines.")
    parser.add_argument("name", choices=sorted(STREAMS))
    parser.add_argument("events", type=int)
    parser.add_argument("keys", type=int, nargs="?", help="number of users, accounts or symbols")
    chosen = parser.parse_args()
    write(STREAMS[chosen.name](chosen.events, chosen.keys), sys.stdout)


if __name__ == "__main__":
    main()
