"""What becomes of a job whose process has ended, where files may be, and its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostinato.patterns.parser import parse_program
from ostinato.server import exits
from ostinato.server.catalog.database import Database
from ostinato.server.catalog.migrations import MIGRATIONS
from ostinato.server.catalog.submitted import StoredJob, SubmittedJobs
from ostinato.server.failures import NotAllowedError, NotThereError, RefusedError
from ostinato.server.submitted.folders import Folders
from ostinato.server.submitted.home import Home, Log
from ostinato.server.submitted.programs import check_program, find_module, with_brokers
from ostinato.server.submitted.verdict import Summary, Verdict, judge, obituary, summary_in


@pytest.mark.parametrize(
    ("code", "ran", "has_run", "verdict"),
    [
        (exits.OK, True, True, "FINISHED"),
        (exits.CANCELED, True, True, "CANCELED"),
        (exits.PROBLEMS, False, True, "FAILED"),
        (exits.USAGE, False, True, "FAILED"),
        (exits.STRICT, True, True, "FAILED"),
        # what it cannot even begin with is said at once, unless it has been seen to work
        (exits.INPUT, False, False, "FAILED"),
        (exits.INPUT, False, True, "again"),
        # the process has tried again by itself
        (exits.INPUT, True, True, "FAILED"),
        (exits.FAILED, True, True, "FAILED"),
        # it was struck down
        (-9, True, True, "again"),
        (-15, False, False, "again"),
        (exits.TERMINATED, True, True, "again"),
        (77, True, True, "again"),
    ],
)
def test_what_an_exit_code_means(code: int, ran: bool, has_run: bool, verdict: Verdict) -> None:
    assert judge(code, None, ran=ran, has_run=has_run) == verdict


def test_a_stop_with_a_savepoint_is_no_end_of_the_input() -> None:
    stopped = summary_in(b'{"ended": "stopped with a savepoint", "events": 7, "matches": 2, "late": 0}')
    assert stopped == Summary("stopped with a savepoint", 7, 2)
    assert judge(0, stopped, ran=True, has_run=True) == "STOPPED"
    assert judge(0, Summary("end of input"), ran=True, has_run=True) == "FINISHED"
    assert summary_in(b"ostinato: no such file") is None
    assert summary_in(b'{"ended": 7}') is None


def test_why_it_ended() -> None:
    assert obituary(-9, "said") == "killed by SIGKILL; out of memory?"
    assert obituary(-15, "") == "killed by SIGTERM"
    assert obituary(3, "x.jsonl: no such file") == "x.jsonl: no such file"
    assert obituary(6, "") == exits.MEANINGS[6]
    assert obituary(99, "") == "ended with code 99"


def test_only_files_below_the_folders(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    (allowed / "link").symlink_to(outside)
    (allowed / "file").symlink_to(outside / "secret")
    (allowed / "loop").symlink_to(allowed / "loop")
    folders = Folders.of([str(allowed)], "files.read")
    assert folders.check(str(allowed / "new" / "x.jsonl"), "stream s") == allowed / "new" / "x.jsonl"
    for path in (outside / "secret", allowed / "link" / "secret", allowed / "file", allowed / ".." / "outside"):
        with pytest.raises(NotAllowedError):
            folders.check(str(path), "stream s")
    for text in ("x.jsonl", str(tmp_path / "allowed-too" / "x"), f"{allowed}/a\0b", str(allowed / "loop" / "x")):
        with pytest.raises(NotAllowedError):
            folders.check(text, "stream s")
    with pytest.raises(NotAllowedError, match="name their folder in"):
        Folders.of([], "files.read").check(str(allowed / "x"), "stream s")
    folders.check_glob(str(allowed / "sub" / "**" / "*.jsonl"), "stream s")
    for pattern in (allowed / "f*", allowed / "*" / "secret", tmp_path / "*" / "x", allowed / "*" / ".." / "x"):
        with pytest.raises(NotAllowedError):
            folders.check_glob(str(pattern), "stream s")


def test_modules_are_found_in_the_allowed_folders_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (other / "app.py").write_text("")
    allowed = Folders.of([str(one), str(other)], "modules.paths")
    assert find_module("app.py", allowed) == other / "app.py"
    assert find_module(str(other / "app.py"), allowed) == other / "app.py"
    for path in ("../other/app.py", "/etc/app.py", str(tmp_path / "app.py")):
        with pytest.raises(NotAllowedError):
            find_module(path, allowed)
    with pytest.raises(NotAllowedError):
        find_module("app.py", Folders((), "modules.paths"))
    with pytest.raises(NotThereError):
        find_module("none.py", allowed)
    with pytest.raises(RefusedError):
        find_module("app.cep", allowed)


def test_outputs_that_go_nowhere_are_named_and_sources_must_be_there(tmp_path: Path) -> None:
    read = Folders((tmp_path,), "files.read")
    write = Folders((), "files.write")
    text = (
        "stream e (v int) processing time {} pattern p on e match a define a as v > $least emit a.v as v into out\n"
        "param least = 3"
    )
    source = f"from file '{tmp_path}/e.jsonl'"
    checked = check_program(text.format(source), "job", {"least": "5"}, read=read, write=write, output=tmp_path)
    assert checked.unclaimed == ("out",)
    claimed = text.format(source) + " output out to file 'x.jsonl'"
    assert check_program(claimed, "job", {}, read=read, write=write, output=tmp_path).unclaimed == ()
    for missing in ("", "from stdin"):
        with pytest.raises(RefusedError, match="no source that the server could read"):
            check_program(text.format(missing), "job", {}, read=read, write=write, output=tmp_path)


def test_topics_that_name_no_brokers_are_those_of_the_server() -> None:
    text = (
        "param least = 3\n"
        "stream e (k string key, ts timestamp(ms) time, v int) from kafka 'in' (start = 'latest')\n"
        "stream f (k string key, ts timestamp(ms) time, v int) from kafka 'f' (bootstrap_servers = 'other:9092')\n"
        "pattern p on e match a define a as v > least emit k, a.v as v into out\n"
        "output out to kafka 'out'\n"
    )
    options = {"bootstrap_servers": "own:9092", "security_protocol": "SASL_SSL", "sasl_plain_password": "env:SECRET"}
    made = parse_program(with_brokers(text, options))
    e, f = made.streams
    assert e.source is not None
    assert dict(e.source.options) == options | {"start": "latest"}
    assert f.source == parse_program(text).streams[1].source
    # they are written where the first stream is read
    assert made.outputs == parse_program(text).outputs
    alone = text.replace("kafka 'in' (start = 'latest')", "file '/e.jsonl'").replace(
        "kafka 'f' (bootstrap_servers = 'other:9092')", "file '/f.jsonl'"
    )
    assert dict(parse_program(with_brokers(alone, options)).outputs[0].sink.options) == options
    assert made.patterns == parse_program(text).patterns
    assert with_brokers(text, {}) == text


def test_a_log_is_set_aside_and_its_end_is_shown(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=100, kept=3)
    for n in range(40):
        log.write(b"line %03d\n" % n)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * 110
    assert log.tail(5) == [f"line {n:03}" for n in range(35, 40)]
    assert Log(tmp_path / "none").tail() == []


def test_what_people_made_is_kept_when_a_job_is_forgotten(tmp_path: Path) -> None:
    full, empty = Home(tmp_path, "full"), Home(tmp_path, "empty")
    for home in (full, empty):
        home.make("text")
        home.checkpoints.mkdir()
    (full.output / "rises.jsonl").write_text("{}")
    for home in (full, empty):
        home.remove()
    assert not empty.folder.exists()
    assert not full.checkpoints.exists()
    assert (full.output / "rises.jsonl").exists()


def test_the_catalog_brings_back_what_is_to_run(tmp_path: Path) -> None:
    with Database(tmp_path / "catalog.sqlite", MIGRATIONS) as database:
        jobs = SubmittedJobs(database)
        for number, state in enumerate(["CREATED", "RUNNING", "RESTARTING", "FINISHED", "FAILED", "CANCELED"]):
            jobs.add(StoredJob(f"j{number}", f"job{number}", state, 1, 5, "ann"))  # type: ignore[arg-type]
        assert [job.id for job in jobs.active()] == ["j0", "j1", "j2"]
        jobs.put(StoredJob("j1", "job1", "STOPPED", 1, 5, "ann", exit_code=0))
        assert [job.id for job in jobs.active()] == ["j0", "j2"]
        first = jobs.page(2)
        assert [job.id for _, job in first] == ["j5", "j4"]
        assert [job.id for _, job in jobs.page(9, before=first[-1][0])] == ["j3", "j2", "j1", "j0"]
        assert [job.id for _, job in jobs.page(9, state="STOPPED")] == ["j1"]
        assert {job.id for job in jobs.forget_ended(1)} == {"j1", "j3", "j4"}
        assert jobs.get("j4") is None
        assert jobs.get("j5") is not None
