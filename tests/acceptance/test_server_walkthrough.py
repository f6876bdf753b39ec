"""The walk through the server, as the README has it: every command is run as it is written."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADING = "## A server that runs for weeks"


def commands(port: int) -> list[str]:
    """The lines of the section that are commands, with another port; a command that ends with a backslash goes on."""
    text = (ROOT / "README.md").read_text()
    section = text.split(HEADING, 1)[1].split("\n## ", 1)[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return joined.replace("localhost:8642", f"localhost:{port}").splitlines()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.timeout(240)
def test_the_walk_through_the_server(tmp_path: Path) -> None:
    """In a folder with the examples beside it. What each command prints goes to a file of its own."""
    for name in ("examples", "bench"):
        (tmp_path / name).symlink_to(ROOT / name)
    port = free_port()
    script = ["set -e"]
    written = commands(port)
    for number, line in enumerate(written):
        bare = line.partition("   #")[0].rstrip()
        if bare.endswith("&"):
            script += [f"{bare[:-1].rstrip()} > {number}.out 2>&1 &", "echo $! >> servers"]
        elif bare.startswith("python "):
            script.append(bare)
        else:
            script.append(f"{{ {bare} ; }} >> {number}.out")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OSTINATO_RUNTIME_DIR": str(tmp_path / "run"),
        "OSTINATO__SERVER__PORT": str(port),
    }
    try:
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=200,
            check=False,
        )
        said = {line.partition("   #")[0].strip(): tmp_path / f"{n}.out" for n, line in enumerate(written)}
        assert done.returncode == 0, (
            done.stderr.decode(),
            [path.read_text()[-500:] for path in said.values() if path.exists()],
        )
        before = next(path for line, path in said.items() if line.startswith("sleep 3; ostinato matches"))
        after = next(path for line, path in said.items() if line.startswith("ostinato matches;"))
        assert len(lines_of(before)) == 50
        assert lines_of(after) == lines_of(before)
        backtest = said["ostinato backtest changed.cep"].read_text()
        assert "suspicious_login" in backtest
        assert "same structure" in said["ostinato apply changed.cep --dry-run"].read_text()
        assert "+  within 1 min" in said["ostinato diff suspicious_login"].read_text()
        assert "fail: status = 'FAILED' is" in said["ostinato why suspicious_login u1"].read_text()
        versions = said["ostinato versions suspicious_login"].read_text()
        assert "live" in versions
        assert "a minute is enough" in versions
    finally:
        servers = tmp_path / "servers"
        for pid in lines_of(servers) if servers.exists() else []:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
