"""The pattern of suspicious_login.cep, written with decorators: ``ostinato run examples/login/suspicious_login.py``."""

from __future__ import annotations

from typing import Any

from ostinato import cep


class Login(cep.Event, key="user", time="ts", delay="2 s", source="logins.jsonl"):
    user: str
    ts: int
    status: str
    ip: str


@cep.pattern(
    "fail{3,} ok",
    on=Login,
    within="5 min",
    skip="past last",
    fail=lambda e: e.status == "FAILED",
    ok=lambda e: e.status == "SUCCESS",
)
def suspicious_login(match: cep.Match) -> dict[str, Any]:
    return {
        "user": match.key,
        "failures": len(match["fail"]),
        "ip": match["ok"].ip,
    }
