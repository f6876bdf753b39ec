"""The suspicious logins of suspicious_login.py, but only one alert for a user in ten minutes.

``ostinato run examples/login/quiet_alerts.py --input logins.jsonl``
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ostinato import cep


class Login(cep.Event, key="user", time="ts", delay="2 s"):
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
    return {"user": match.key, "failures": len(match["fail"]), "ip": match["ok"].ip}


class Alert(cep.Event, key="user"):
    user: str
    failures: int
    ip: str
    suppressed: int


@cep.process(on=suspicious_login, into="alerts", output=Alert)
class QuietAlerts(cep.KeyedProcessFunction):
    """Lets an alert through where none was in the last ten minutes, and says how many were held back before it."""

    def open(self, runtime_context: cep.RuntimeContext) -> None:
        lately = cep.ValueStateDescriptor("lately", cep.Types.BOOLEAN())
        lately.enable_time_to_live(cep.StateTtlConfig.new_builder(cep.Time.minutes(10)).use_event_time().build())
        self.lately = runtime_context.get_state(lately)
        suppressed = cep.ReducingStateDescriptor("suppressed", lambda a, b: a + b, cep.Types.LONG())
        self.suppressed = runtime_context.get_reducing_state(suppressed)

    def process_element(self, value: Any, ctx: Any) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - as in Flink
        if self.lately.value():
            self.suppressed.add(1)
            return
        self.lately.update(True)
        yield {"user": value.user, "failures": value.failures, "ip": value.ip, "suppressed": self.suppressed.get() or 0}
        self.suppressed.clear()
