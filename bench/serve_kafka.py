"""A Kafka broker that lives as long as somebody holds this process's standard input; prints where it is.

A process of its own, so that what tests need to start one does not count as memory of what is measured.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    services = import_module("tests.kafka_services")
    with services.kafka_broker() as broker:
        print(broker.servers, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
