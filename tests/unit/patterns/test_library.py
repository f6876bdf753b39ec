"""Every stock pattern finds what it is for, and leaves alone what it is not for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ostinato.patterns import library
from ostinato.patterns.errors import PatternError
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.support import emitted, run_cep

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
Events = list[dict[str, Any]]


def run(name: str, events: Iterable[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    return emitted(run_cep(library.read(name), events, params))


def spaced(step: int, rows: Iterable[dict[str, Any]], start: int = 0) -> Events:
    """The rows, one each `step` ms."""
    return [{"ts": start + index * step, **row} for index, row in enumerate(rows)]


def test_there_are_ten() -> None:
    assert library.names() == [
        "abandoned_basket",
        "brute_force_login",
        "card_testing",
        "flapping_service",
        "head_and_shoulders",
        "impossible_travel",
        "missing_heartbeat",
        "port_scan",
        "temperature_ramp",
        "v_shape",
    ]


@pytest.mark.parametrize("name", library.names())
def test_each_passes_the_checks_and_says_what_it_is(name: str) -> None:
    text = library.read(name)
    program = parse_program(text, f"{name}.cep")
    check_program(program)
    assert [pattern.name for pattern in program.patterns] == [name]
    header = text.partition("\n\n")[0]
    assert "-- reads" in header
    assert f"-- gives {name}" in header
    for stream in program.streams:
        for column in stream.columns:
            assert column.name in header
    for parameter in program.params:
        assert f"{parameter.name}  " in header


def test_an_unknown_name() -> None:
    with pytest.raises(PatternError, match="did you mean `port_scan`"):
        library.read("portscan")


def logins(*statuses: str, user: str = "ann", step: int = SECOND) -> Events:
    return spaced(step, ({"user": user, "status": status, "ip": f"10.0.0.{n}"} for n, status in enumerate(statuses)))


class TestBruteForceLogin:
    def test_five_failures_and_a_success(self) -> None:
        assert run("brute_force_login", logins(*["FAILED"] * 5, "SUCCESS")) == [
            {"user": "ann", "failures": 5, "since": 0, "at": 5_000, "ip": "10.0.0.5"}
        ]

    def test_the_number_of_attempts_can_be_set(self) -> None:
        events = logins("FAILED", "FAILED", "SUCCESS")
        assert run("brute_force_login", events) == []
        assert [row["failures"] for row in run("brute_force_login", events, attempts=2)] == [2]

    def test_a_success_in_between_ends_a_series(self) -> None:
        assert run("brute_force_login", logins("FAILED", "FAILED", "SUCCESS", *["FAILED"] * 3, "SUCCESS")) == []

    def test_not_when_it_takes_longer(self) -> None:
        assert run("brute_force_login", logins(*["FAILED"] * 5, "SUCCESS", step=2 * MINUTE)) == []

    def test_users_are_told_apart(self) -> None:
        one = logins("FAILED", "FAILED", "FAILED", user="ann")
        two = logins("FAILED", "FAILED", "SUCCESS", user="bob")
        assert run("brute_force_login", sorted(one + two, key=lambda event: event["ts"])) == []


def payments(*amounts: float, step: int = MINUTE) -> Events:
    return spaced(step, ({"card": "c1", "amount": amount, "merchant": f"m{amount}"} for amount in amounts))


class TestCardTesting:
    def test_small_then_large(self) -> None:
        assert run("card_testing", payments(1.0, 2.5, 30.0, 900.0)) == [
            {"card": "c1", "probes": 2, "probed": 3.5, "since": 0, "amount": 900.0, "merchant": "m900.0"}
        ]

    def test_one_probe_is_not_enough(self) -> None:
        assert run("card_testing", payments(1.0, 900.0)) == []
        assert len(run("card_testing", payments(1.0, 900.0), probes=1)) == 1

    def test_what_is_small_and_what_is_large_can_be_set(self) -> None:
        assert run("card_testing", payments(8.0, 9.0, 100.0)) == []
        assert len(run("card_testing", payments(8.0, 9.0, 100.0), small=10.0, large=100.0)) == 1

    def test_within_an_hour(self) -> None:
        assert run("card_testing", payments(1.0, 1.0, 900.0, step=31 * MINUTE)) == []


PARIS, TOKYO, LYON = (48.86, 2.35), (35.68, 139.69), (45.76, 4.84)


def places(*places: tuple[float, float], step: int) -> Events:
    return spaced(step, ({"user": "ann", "lat": lat, "lon": lon, "ip": str(lat)} for lat, lon in places))


class TestImpossibleTravel:
    def test_paris_and_tokyo_in_two_hours(self) -> None:
        (row,) = run("impossible_travel", places(PARIS, TOKYO, step=2 * HOUR))
        assert (row["user"], row["from_ip"], row["to_ip"], row["hours"]) == ("ann", "48.86", "35.68", 2.0)
        assert row["km"] == pytest.approx(9_710, rel=0.01)

    def test_not_in_fourteen_hours(self) -> None:
        assert run("impossible_travel", places(PARIS, TOKYO, step=14 * HOUR)) == []

    def test_speed_can_be_set(self) -> None:
        assert run("impossible_travel", places(PARIS, LYON, step=HOUR)) == []
        assert len(run("impossible_travel", places(PARIS, LYON, step=HOUR), max_kmh=300.0)) == 1

    def test_every_jump_there_and_back(self) -> None:
        assert len(run("impossible_travel", places(PARIS, TOKYO, PARIS, PARIS, step=HOUR))) == 2

    def test_at_one_moment(self) -> None:
        assert len(run("impossible_travel", places(PARIS, TOKYO, step=0))) == 1
        assert run("impossible_travel", places(PARIS, PARIS, step=0)) == []


class TestMissingHeartbeat:
    def test_a_silence(self) -> None:
        beats = [{"device": "d1", "site": "x", "ts": ts} for ts in (0, 20 * SECOND, 60 * SECOND)]
        rows = run_cep(library.read("missing_heartbeat"), beats, end=80 * SECOND)
        assert emitted(rows) == [{"device": "d1", "site": "x", "last_seen": 20 * SECOND}]

    def test_no_event_is_needed(self) -> None:
        beats = [{"device": "d1", "site": "x", "ts": 0}]
        assert run_cep(library.read("missing_heartbeat"), beats, end=29 * SECOND) == []
        assert len(run_cep(library.read("missing_heartbeat"), beats, end=30 * SECOND)) == 1

    def test_other_devices_do_not_count(self) -> None:
        beats = [{"device": "d1", "site": "x", "ts": 0}, {"device": "d2", "site": "x", "ts": 10 * SECOND}]
        rows = run_cep(library.read("missing_heartbeat"), beats, end=35 * SECOND)
        assert [row["device"] for row in rows] == ["d1"]


def ticks(*prices: float) -> Events:
    return spaced(SECOND, ({"symbol": "A", "price": float(price)} for price in prices))


class TestVShape:
    def test_down_and_up(self) -> None:
        assert run("v_shape", ticks(10, 8, 6, 7, 9, 9)) == [
            {
                "symbol": "A",
                "since": 0,
                "high": 10.0,
                "bottom_at": 2_000,
                "bottom": 6.0,
                "peak_at": 4_000,
                "peak": 9.0,
            }
        ]

    def test_two_of_them(self) -> None:
        rows = run("v_shape", ticks(10, 8, 6, 7, 9, 5, 4, 6, 8, 8))
        assert [(row["high"], row["bottom"], row["peak"]) for row in rows] == [(10.0, 6.0, 9.0), (9.0, 4.0, 8.0)]

    def test_one_fall_is_not_enough(self) -> None:
        assert run("v_shape", ticks(10, 8, 9, 10, 9)) == []
        assert len(run("v_shape", ticks(10, 8, 9, 10, 9), falls=1)) == 1

    def test_a_level_price_ends_the_fall(self) -> None:
        assert run("v_shape", ticks(10, 8, 8, 9, 10, 9)) == []


class TestHeadAndShoulders:
    SHAPE = (10, 14, 20, 16, 13, 22, 30, 24, 13.5, 17, 20.5, 18, 12)

    def test_the_shape(self) -> None:
        assert run("head_and_shoulders", ticks(*self.SHAPE)) == [
            {
                "symbol": "A",
                "since": 0,
                "left_shoulder": 20.0,
                "head": 30.0,
                "right_shoulder": 20.5,
                "neckline": 13.0,
                "price": 12.0,
            }
        ]

    def test_shoulders_must_be_alike(self) -> None:
        uneven = (*self.SHAPE[:10], 26, 18, 12)
        assert run("head_and_shoulders", ticks(*uneven)) == []
        assert len(run("head_and_shoulders", ticks(*uneven), tolerance=0.5)) == 1

    def test_the_head_must_be_higher(self) -> None:
        assert run("head_and_shoulders", ticks(10, 14, 20, 16, 13, 18, 19, 16, 13.5, 17, 20, 18, 12)) == []

    def test_the_neckline_must_break(self) -> None:
        assert run("head_and_shoulders", ticks(*self.SHAPE[:-1], 15)) == []


def actions(*actions: str, step: int = MINUTE) -> Events:
    rows = ({"customer": "c", "action": action, "item": f"item {n}"} for n, action in enumerate(actions))
    return spaced(step, rows)


class TestAbandonedBasket:
    def test_no_checkout(self) -> None:
        assert run("abandoned_basket", actions("view", "add", "view", "add", "view")) == [
            {"customer": "c", "last_added": 3 * MINUTE, "item": "item 3"}
        ]

    def test_a_checkout_in_time(self) -> None:
        assert run("abandoned_basket", actions("add", "add", "view", "checkout")) == []

    def test_a_checkout_too_late(self) -> None:
        assert len(run("abandoned_basket", actions("add", "checkout", step=30 * MINUTE))) == 1


def states(*states: str, step: int = SECOND) -> Events:
    return spaced(step, ({"service": "s", "status": status} for status in states))


class TestFlappingService:
    def test_three_flaps(self) -> None:
        assert run("flapping_service", states("up", "down", "down", "up", "down", "up", "up", "down", "up")) == [
            {"service": "s", "flaps": 3, "since": 1_000, "until_time": 8_000}
        ]

    def test_two_are_not_enough(self) -> None:
        assert run("flapping_service", states("down", "up", "down", "up")) == []
        assert len(run("flapping_service", states("down", "up", "down", "up"), flaps=2)) == 1

    def test_not_when_it_takes_longer(self) -> None:
        assert run("flapping_service", states(*["down", "up"] * 3, step=3 * MINUTE)) == []


def readings(*temperatures: float) -> Events:
    return spaced(MINUTE, ({"sensor": "t", "temperature": float(value)} for value in temperatures))


class TestTemperatureRamp:
    def test_a_ramp(self) -> None:
        assert run("temperature_ramp", readings(20, 21, 24, 29, 31, 30)) == [
            {
                "sensor": "t",
                "since": 0,
                "from_temperature": 20.0,
                "at": 4 * MINUTE,
                "to_temperature": 31.0,
                "rises": 4,
            }
        ]

    def test_a_step_is_no_ramp(self) -> None:
        assert run("temperature_ramp", readings(20, 35)) == []
        assert len(run("temperature_ramp", readings(20, 35), steps=1)) == 1

    def test_a_fall_ends_it(self) -> None:
        assert run("temperature_ramp", readings(20, 24, 28, 27, 29, 31)) == []

    def test_how_much_can_be_set(self) -> None:
        assert run("temperature_ramp", readings(20, 21, 22, 23)) == []
        assert len(run("temperature_ramp", readings(20, 21, 22, 23), degrees=3.0)) == 1


def connections(*ports: int, state: str = "refused", step: int = 100) -> Events:
    return spaced(step, ({"source": "a", "destination": "b", "port": port, "state": state} for port in ports))


class TestPortScan:
    def test_many_ports(self) -> None:
        assert run("port_scan", connections(*range(20, 30))) == [
            {"source": "a", "destination": "b", "probes": 10, "lowest": 20, "highest": 29, "since": 0}
        ]

    def test_one_port_again_and_again_is_no_scan(self) -> None:
        assert run("port_scan", connections(*[80] * 40)) == []

    def test_accepted_connections_are_no_scan(self) -> None:
        assert run("port_scan", connections(*range(20, 40), state="open")) == []

    def test_how_many_can_be_set(self) -> None:
        assert len(run("port_scan", connections(1, 2, 3), probes=3)) == 1

    def test_not_when_it_is_slow(self) -> None:
        assert run("port_scan", connections(*range(20, 30), step=2 * SECOND)) == []

    def test_a_long_scan_is_told_once_for_every_ten_probes(self) -> None:
        rows = run("port_scan", connections(*range(100, 135)))
        assert [(row["lowest"], row["highest"]) for row in rows] == [(100, 109), (110, 119), (120, 129)]
