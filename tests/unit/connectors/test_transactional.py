"""Output that is seen when a checkpoint has completed: what may happen to its files, and what is said about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow.parquet
import pytest

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors import room as room_module
from ostinato.cep.connectors.base import SinkError, TransactionalSink
from ostinato.cep.connectors.factory import sink_for
from ostinato.cep.connectors.output import BUFFER_BYTES
from ostinato.cep.connectors.pending import PendingFile
from ostinato.cep.connectors.room import Room
from ostinato.cep.runtime.outputs import Outputs
from ostinato.patterns.ast import Connector
from ostinato.patterns.types import BIGINT
from tests.unit.connectors.transactional_job import NAMES, batch, hidden, numbers_in, outputs_of, put

FORMS = list(NAMES)
said: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    said.clear()


class Run:
    """One life of a job: outputs that begin from a state, and what must be closed in the end."""

    opened: ClassVar[list[Outputs]] = []

    def __init__(self, folder: Path, form: str, state: Any = None, **options: Any) -> None:
        self.outputs = outputs_of(folder, form, said, **options)
        self.opened.append(self.outputs)
        self.outputs.recover(state)
        self.form = form
        self._number = 0

    def put(self, *numbers: int) -> Run:
        put(self.outputs, self.form, numbers)
        return self

    def prepare(self) -> Any:
        """The state as it comes back from a store."""
        self._number += 1
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self.outputs.prepare(self._number)))

    def checkpoint(self) -> Any:
        state = self.prepare()
        self.outputs.commit(state)
        return state

    def end(self) -> Any:
        state = self.checkpoint()
        self.outputs.close()
        return state

    def die(self) -> None:
        """Leave everything as a killed process would."""
        for sink in self.outputs._transactional():
            output = getattr(sink, "_output", sink)
            for name in ("_target", "_current", "_file"):
                if isinstance(getattr(output, name, None), int):
                    os.close(getattr(output, name))
                    setattr(output, name, None)
        self.opened.remove(self.outputs)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    for outputs in Run.opened:
        outputs.close()
    Run.opened.clear()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "parquet"])
def test_rows_are_seen_when_their_checkpoint_has_completed(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1, 2)
    state = run.prepare()
    run.put(3)
    path = tmp_path / NAMES[form]
    assert not path.exists() or not path.read_bytes()
    run.outputs.commit(state)
    assert numbers_in(tmp_path, form) == [1, 2]
    run.outputs.commit(state)
    assert numbers_in(tmp_path, form) == [1, 2]
    run.end()
    assert numbers_in(tmp_path, form) == [1, 2, 3]
    assert hidden(tmp_path) == []


def test_a_parquet_file_is_seen_when_the_job_has_ended(tmp_path: Path) -> None:
    run = Run(tmp_path, "parquet").put(1, 2)
    run.checkpoint()
    assert not (tmp_path / NAMES["parquet"]).exists()
    run.put(3).end()
    assert numbers_in(tmp_path, "parquet") == [1, 2, 3]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_what_belongs_to_no_complete_checkpoint_is_not_published_at_the_end(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1, 2)
    state = run.checkpoint()
    run.put(3).outputs.close()
    again = Run(tmp_path, form, state).put(3, 4)
    again.end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_that_fails_leaves_its_rows_to_the_next(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    run.prepare()
    run.put(2)
    unsure = run.prepare()
    run.put(3).checkpoint()
    run.put(4).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4]
    # nobody knew whether it had been stored
    Run(tmp_path, form, unsure).put(30).end()
    assert numbers_in(tmp_path, form) == [1, 2, 30]


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_that_began_before_the_last_one_completed(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    first = run.prepare()
    second = run.put(2).prepare()
    run.outputs.commit(first)
    run.outputs.commit(second)
    run.outputs.commit(first)
    run.put(3).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3]


@pytest.mark.parametrize("form", FORMS)
def test_what_a_killed_job_wrote_after_its_checkpoint_is_cut_off(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    state = run.checkpoint()
    run.put(*range(2, 500)).prepare()
    run.die()
    Run(tmp_path, form, state).put(30).end()
    assert numbers_in(tmp_path, form) == [1, 30]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_older_checkpoint_takes_back_what_came_after_it(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1, 2)
    first = run.checkpoint()
    second = run.put(3, 4).checkpoint()
    run.put(5).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4, 5]
    again = Run(tmp_path, form, second).put(50, 60)
    again.end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4, 50, 60]
    Run(tmp_path, form, first).put(30).end()
    assert numbers_in(tmp_path, form) == [1, 2, 30]
    assert hidden(tmp_path) == []
    if form != "parquet":
        assert [line for line in said if "bytes that came after the checkpoint are taken back" in line]


@pytest.mark.parametrize("form", FORMS)
def test_a_job_is_begun_again_in_the_same_process(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    run.outputs.recover(None)
    state = run.put(1, 2).checkpoint()
    run.put(3).prepare()
    run.outputs.recover(state)
    run.put(3, 4).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_pending_files_of_a_killed_job_are_swept(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    run.prepare()
    run.put(2).prepare()
    run.die()
    assert hidden(tmp_path)
    Run(tmp_path, form).put(7).end()
    assert numbers_in(tmp_path, form) == [7]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_target_that_is_gone_is_made_anew_and_said(tmp_path: Path, form: str) -> None:
    state = Run(tmp_path, form).put(1, 2).end()
    (tmp_path / NAMES[form]).unlink()
    Run(tmp_path, form, state).put(3).end()
    assert numbers_in(tmp_path, form) == [3]
    assert [line for line in said if " is gone, with " in line and "going on in a new file" in line]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "parquet"])
def test_a_target_that_is_gone_before_its_rows_were_published(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1)
    run.checkpoint()
    state = run.put(2).prepare()
    run.die()
    (tmp_path / NAMES[form]).unlink()
    Run(tmp_path, form, state).put(3).end()
    assert numbers_in(tmp_path, form) == [2, 3]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "parquet"])
def test_a_target_that_is_shorter_or_another_file_is_refused(tmp_path: Path, form: str) -> None:
    run = Run(tmp_path, form).put(1, 2)
    state = run.end()
    path = tmp_path / NAMES[form]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(SinkError, match=f"it has {len(whole) - 3} bytes, and had {len(whole)} when .* put back"):
        Run(tmp_path, form, state)
    path.write_bytes(b"?" + whole[1:] + b"more\n")
    second = Run(tmp_path, form).put(8, 9)
    second.checkpoint()
    state = second.put(10).end()
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.raises(SinkError, match="are not those that were written before the checkpoint"):
        Run(tmp_path, form, state)
    assert path.read_bytes().startswith(b"?")


def test_a_parquet_file_of_other_rows_is_refused(tmp_path: Path) -> None:
    state = Run(tmp_path, "parquet").put(1, 2).end()
    Run(tmp_path, "parquet").put(5, 6, 7).end()
    with pytest.raises(SinkError, match="does not hold the 2 rows that were written before the checkpoint"):
        Run(tmp_path, "parquet", state)
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2]}), tmp_path / NAMES["parquet"])
    with pytest.raises(SinkError, match="does not hold the 2 rows"):
        Run(tmp_path, "parquet", state)


def test_pending_rows_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, "json").put(1)
    state = run.prepare()
    run.die()
    (name,) = hidden(tmp_path)
    os.truncate(tmp_path / name, 3)
    with pytest.raises(SinkError, match=f"its pending file {name} has 3 bytes instead of "):
        Run(tmp_path, "json", state)
    run = Run(tmp_path, "parquet").put(1)
    state = run.prepare()
    run.die()
    (name,) = [name for name in hidden(tmp_path) if "parquet" in name]
    os.truncate(tmp_path / name, 3)
    with pytest.raises(SinkError, match=r"its pending rows in .* have 3 bytes, and had "):
        Run(tmp_path, "parquet", state)


def test_another_path_begins_empty_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    state = Run(tmp_path / "a", "csv").put(1, 2).end()
    Run(tmp_path / "b", "csv", state).put(3).end()
    assert numbers_in(tmp_path / "a", "csv") == [1, 2]
    assert numbers_in(tmp_path / "b", "csv") == [3]
    assert len(said) == 2
    assert said[0].endswith("a/out.csv: the job does not write there any more; what is there stays as it is")
    assert said[1].endswith("b/out.csv: the checkpoint does not know this output, so it begins empty")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_a_file_held_before_is_kept_where_it_is_appended_to(tmp_path: Path, form: str) -> None:
    Run(tmp_path, form).put(1, 2).end()
    run = Run(tmp_path, form, append=True).put(3)
    run.outputs.recover(None)
    state = run.put(3).checkpoint()
    run.put(4).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 4]
    Run(tmp_path, form, state, append=True).put(5).end()
    assert numbers_in(tmp_path, form) == [1, 2, 3, 5]


def test_the_header_is_there_once_also_when_all_rows_are_taken_back(tmp_path: Path) -> None:
    run = Run(tmp_path, "csv", append=True)
    empty = run.checkpoint()
    run.put(1).end()
    Run(tmp_path, "csv", empty, append=True).put(2).end()
    assert numbers_in(tmp_path, "csv") == [2]


def test_other_columns_do_not_go_into_the_same_file(tmp_path: Path) -> None:
    for form in ("csv", "parquet"):
        state = Run(tmp_path, form).put(1).end()
        run = Run(tmp_path, form, state)
        run.outputs.deliver(batch([2]))
        run = Run(tmp_path, form, run.end())
        other = Batch("out", Vector.of(BIGINT, [0]).array, {"m": Vector.of(BIGINT, [1])})
        with pytest.raises(SinkError, match="go on in another file"):  # noqa: PT012 - one of the two
            run.outputs.deliver(other)
            run.prepare()
        run.die()


def test_two_jobs_do_not_write_one_file(tmp_path: Path) -> None:
    Run(tmp_path, "json")
    with pytest.raises(SinkError, match=r"cannot write .*out.jsonl: another process writes to it; end that one"):
        Run(tmp_path, "json")


def test_a_target_that_is_moved_away_while_it_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / NAMES["json"]
    run = Run(tmp_path, "json").put(1)
    run.checkpoint()
    path.rename(tmp_path / "rotated.jsonl")
    state = run.put(2).prepare()
    with pytest.raises(SinkError, match="it was moved or removed while the job was writing to it"):
        run.outputs.commit(state)
    run.outputs.recover(state)
    run.put(3).end()
    assert numbers_in(tmp_path, "json") == [2, 3]


def test_dead_letters_are_made_when_there_are_any(tmp_path: Path) -> None:
    run = Run(tmp_path, "dead")
    run.checkpoint()
    assert list(tmp_path.iterdir()) == []
    none = run.checkpoint()
    run.put(1).end()
    assert numbers_in(tmp_path, "dead") == [1]
    again = Run(tmp_path, "dead", none)
    again.end()
    assert list(tmp_path.iterdir()) == []
    Run(tmp_path, "dead").put(2).end()
    Run(tmp_path, "dead").put(3).end()
    assert numbers_in(tmp_path, "dead") == [3]


def test_an_output_without_rows_is_an_empty_file(tmp_path: Path) -> None:
    Run(tmp_path, "json").end()
    assert (tmp_path / NAMES["json"]).read_bytes() == b""


def test_much_pending_output_is_on_the_disk_and_not_in_memory(tmp_path: Path) -> None:
    file = PendingFile(str(tmp_path / "out"), Room())
    file.recover(None)
    line = b"x" * 999 + b"\n"
    for _ in range(3000):
        file.write(line)
        assert file._held_bytes < BUFFER_BYTES + 1000
    file.commit(file.prepare())
    file.close()
    assert (tmp_path / "out").read_bytes() == line * 3000


@pytest.mark.parametrize("way", ["missing", "refused", "nothing"])
def test_a_system_that_cannot_copy_between_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(95, "not supported")

    if way == "missing":
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", refuse if way == "refused" else lambda *_: 0)
    monkeypatch.setattr(room_module, "_BLOCK_BYTES", 1000)
    file = PendingFile(str(tmp_path / "out"), Room())
    file.recover(None)
    data = b"".join(b"line %d\n" % number for number in range(2000))
    file.write(data)
    file.commit(file.prepare())
    file.close()
    assert (tmp_path / "out").read_bytes() == data


def test_nothing_counts_as_durable_before_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of syncing, publishing and deleting, which a killed process does not show but a power cut would."""
    done: list[str] = []
    sync, unlink = os.fsync, Path.unlink

    def note_sync(descriptor: int) -> None:
        done.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def note_unlink(path: Path, missing_ok: bool = False) -> None:
        done.append("delete " + path.name)
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "unlink", note_unlink)
    folder = tmp_path / "out"
    folder.mkdir()
    run = Run(folder, "json")
    assert done == ["sync out"]
    done.clear()
    state = run.put(1).prepare()
    (name,) = hidden(folder)
    assert done == [f"sync {name}", "sync out"]
    done.clear()
    run.outputs.commit(state)
    assert done == ["sync out.jsonl", f"delete {name}"]
    run.end()
    done.clear()
    run = Run(folder, "parquet").put(1)
    run.checkpoint()
    (name,) = hidden(folder)
    assert done == [f"sync {name}", "sync out"]
    done.clear()
    run.outputs.finish()
    assert done == ["sync .out.parquet.ostinato-rows-whole", "sync out", f"delete {name}"]


def test_the_counts_go_on(tmp_path: Path) -> None:
    run = Run(tmp_path, "json").put(1, 2)
    state = run.checkpoint()
    run.put(3).outputs.close()
    again = Run(tmp_path, "json", state).put(3)
    assert again.outputs.written == {"out": 3}


def test_a_limit_holds_over_a_restart(tmp_path: Path) -> None:
    room = Room()

    def limited() -> Outputs:
        sink = sink_for(Connector("file", str(tmp_path / "a.jsonl")), "out", room=room)
        outputs = Outputs({"out": [sink]}, limit=3)
        Run.opened.append(outputs)
        return outputs

    outputs = limited()
    outputs.recover(None)
    outputs.deliver(batch([1, 2]))
    state = outputs.prepare(1)
    outputs.commit(state)
    outputs.close()
    outputs = limited()
    outputs.recover(state)
    outputs.deliver(batch([3, 4]))
    outputs.commit(outputs.prepare(2))
    assert outputs.written == {"out": 3}
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 3


def test_what_is_no_regular_file_is_written_at_once() -> None:
    sink = sink_for(Connector("file", "/dev/null"), "out", room=Room())
    assert not isinstance(sink, TransactionalSink)
    sink.close()


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_folder_that_is_not_there(tmp_path: Path, form: str) -> None:
    with pytest.raises(SinkError, match=r"there is no folder .*/no; make it first"):
        sink_for(Connector("file", str(tmp_path / "no" / "a"), form), "out", room=Room())


@pytest.mark.parametrize("form", FORMS)
def test_opening_an_output_touches_nothing(tmp_path: Path, form: str) -> None:
    Run(tmp_path, form).put(1).end()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    outputs = outputs_of(tmp_path, form)
    outputs.close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
