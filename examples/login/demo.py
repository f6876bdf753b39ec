"""``make demo``: finds suspicious logins in a generated log, in a temporary folder."""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
STREAMS = HERE.parents[1] / "bench" / "streams.py"


def main() -> int:
    parser = argparse.ArgumentParser(description="Find suspicious logins in a generated log.")
    parser.add_argument("--events", type=int, default=200_000, help="how many logins to generate")
    parser.add_argument("--rows", type=int, default=12, help="how many matches to show")
    chosen = parser.parse_args()
    beside = Path(sys.executable).with_name("ostinato")
    ostinato = str(beside) if beside.exists() else shutil.which("ostinato") or "ostinato"
    with tempfile.TemporaryDirectory(prefix="ostinato-demo-") as folder:
        log = Path(folder) / "logins.jsonl"
        print(f"Generating {chosen.events:,} logins of {max(1, chosen.events // 200):,} users ...", flush=True)
        runpy.run_path(str(STREAMS))["write_file"]("login", chosen.events, log)
        pattern = HERE / "suspicious_login.cep"
        print(f"ostinato run {pattern.relative_to(HERE.parents[1])} --input {log}\n", flush=True)
        command = [ostinato, "run", str(pattern), "--input", str(log), "--format", "table", "--show", str(chosen.rows)]
        # where there is no terminal whose width counts, nothing need be cut
        environment = os.environ if sys.stdout.isatty() else {"COLUMNS": "120"} | os.environ
        return subprocess.run(command, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
