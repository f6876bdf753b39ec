"""Exit codes of the `ostinato` command."""

from __future__ import annotations

OK = 0
PROBLEMS = 1
USAGE = 2
INPUT = 3
OUTPUT = 4
STRICT = 5
FAILED = 6
STATE = 7
JOB = 8
CANCELED = 9
UNFIT = 10
CONFIG = 11
TAKEN = 12
REFUSED = 13
UNAUTHORIZED = 14
UNREACHABLE = 15
CONFLICT = 16
INTERRUPTED = 130
TERMINATED = 143
CLOSED_PIPE = 141

MEANINGS = {
    OK: "all went well",
    PROBLEMS: "a program is wrong (or, with `fmt --check`, not formatted)",
    USAGE: "the command line is wrong",
    INPUT: "input, or a program's file, cannot be read",
    OUTPUT: "output cannot be written (a full disk, a missing folder)",
    STRICT: "--strict, and a bad event came",
    FAILED: "the run cannot go on: a cap says fail, a Python function raised, a worker died",
    STATE: "checkpoints or a savepoint cannot be used: damaged, another job's, not there, or out of reach",
    JOB: "there is no such running job, or it did not do what it was asked",
    CANCELED: "cancelled by `ostinato cancel`; what came since the last checkpoint is not published",
    UNFIT: "`doctor` found an error: a service is out of reach, or not set up for what the job promises",
    CONFIG: "the configuration of the server is wrong, or opens it to everyone",
    TAKEN: "another server has the data directory, or another process the address",
    REFUSED: "the server refused it: something in it is wrong, or there is no such thing",
    UNAUTHORIZED: "the server does not know the token, or its role may not do this",
    UNREACHABLE: "no server was found, it cannot be reached, or it is not ready",
    CONFLICT: "the server cannot do it as things stand, or it was changed in the meantime",
    INTERRUPTED: "interrupted (Ctrl-C)",
    CLOSED_PIPE: "whoever read the output has closed it; nothing is said",
    TERMINATED: "stopped by SIGTERM (with checkpoints: after a last one)",
}
"""What each code says; `docs/cli.md` and the help show this table."""


def table() -> str:
    """The codes with their meanings, a line each."""
    return "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())
