"""Real Kafka brokers for tests: in a container where Docker answers, as a local process of Kafka's own jars otherwise.

Nothing is skipped: what a local process needs is installed and fetched by `tests.kafka_install`, and where that cannot
be, the tests fail with the line that says what to install. Brokers end with the tests, even when those are killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.kafka_clients import Kafka, answers
from tests.kafka_install import CLUSTER_ID, VERSION, alone, guarded, installed, locked, properties_text
from tests.services import docker_answers

SETTINGS = {
    "num.partitions": "1",
    "auto.create.topics.enable": "true",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # members are dead, and transactions over, as soon as a test says
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # one that was killed may register again only when its former life is taken for dead (9 s by default)
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "message.max.bytes": str(64 << 20),
    # little memory, few threads, small index files
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    "log.index.size.max.bytes": str(1 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
}
"""What every broker here is told, besides where it is."""
_IMAGE = f"apache/kafka:{VERSION}"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class KafkaBroker(Kafka):
    """A broker of a test's own; its data outlive `kill` and `stop` until `start`.

    Attributes:
        port: of `servers`, that tests feed and read by.
        external_port: of a second listener, which says of itself that it is at another port: behind a proxy that
            listens there and passes on to this one, a client can reach the broker by the proxy only. 0: there is none.
        start_seconds: how long the last start took.
    """

    def __init__(self, advertised: int | None) -> None:
        self.port = lasting_port()
        self.external_port = lasting_port() if advertised is not None else 0
        self.start_seconds = 0.0
        super().__init__(f"127.0.0.1:{self.port}")

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End it in good order."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL."""
        raise NotImplementedError

    def pause(self) -> None:
        """It answers no more (SIGSTOP)."""
        raise NotImplementedError

    def go_on(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """End it and forget its data."""
        raise NotImplementedError

    def restart(self) -> None:
        """Kill it, and start it with the data it had."""
        self.kill()
        self.start()

    def _wait(self, began: float, died: Callable[[], str | None]) -> None:
        while not all(answers(port) for port in (self.port, self.external_port) if port):
            if (reason := died()) is not None:
                raise AssertionError(f"the broker ended as it began:\n{reason}")
            if time.monotonic() > began + _START_SECONDS:
                raise AssertionError(f"the broker did not answer within {_START_SECONDS:g} s")
            time.sleep(0.02)
        self.start_seconds = time.monotonic() - began

    def _listeners(self, properties: Mapping[str, str], advertised: int | None, host: str) -> dict[str, str]:
        """Properties of one that is alone, with both listeners in them."""
        given = dict(properties)
        if advertised is not None:
            given["listeners"] += f",EXTERNAL://{host}:{self.external_port}"
            given["advertised.listeners"] += f",EXTERNAL://127.0.0.1:{advertised}"
            given["listener.security.protocol.map"] += ",EXTERNAL:PLAINTEXT"
        return given


class LocalKafka(KafkaBroker):
    """A process of this machine, with a folder that goes away with it."""

    def __init__(self, config: Mapping[str, str] | None = None, *, advertised: int | None = None) -> None:
        super().__init__(advertised)
        self._folder = Path(tempfile.mkdtemp(prefix="ostinato-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        basis = self._listeners(alone(self._folder / "data", self.port, lasting_port()), advertised, "127.0.0.1")
        self._properties = self._folder / "server.properties"
        self._properties.write_text(properties_text({**basis, **SETTINGS, **(config or {})}))

    def start(self) -> None:
        assert self._process is None
        began = time.monotonic()
        try:
            kafka = installed()
        except RuntimeError as error:
            pytest.fail(str(error), pytrace=False)
        if not (self._folder / "data").exists():
            shutil.copytree(kafka.formatted, self._folder / "data")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                guarded(kafka.broker(self._properties)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        process = self._process
        self._wait(began, lambda: None if process.poll() is None else self.log.read_text()[-4000:])

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """The warnings and errors it has written, of all its lives."""
        return self._folder / "log.txt"

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class DockerKafka(KafkaBroker):
    """A container of the project's own image."""

    def __init__(self, config: Mapping[str, str] | None = None, *, advertised: int | None = None) -> None:
        from testcontainers.core.container import DockerContainer

        super().__init__(advertised)
        basis = alone(Path("/tmp/kraft-combined-logs"), self.port, lasting_port())
        basis["listeners"] = basis["listeners"].replace(f"DIRECT://127.0.0.1:{self.port}", f"DIRECT://:{self.port}")
        self._container = DockerContainer(_IMAGE).with_env("CLUSTER_ID", CLUSTER_ID)
        for name, value in {**self._listeners(basis, advertised, ""), **SETTINGS, **(config or {})}.items():
            self._container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
        for port in (self.port, self.external_port):
            if port:
                self._container.with_bind_ports(port, port)
        self._created = False

    def start(self) -> None:
        began = time.monotonic()
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        self._wait(began, self._died)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=int(_STOP_SECONDS))

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def go_on(self) -> None:
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        if self._created:
            self._container.stop(force=True)

    def _died(self) -> str | None:
        container = self._container.get_wrapped_container()
        container.reload()
        return None if container.status == "running" else container.logs(tail=50).decode(errors="replace")


def lasting_port() -> int:
    """A port that nobody listens to, nor is given by the system to a client while the broker is down."""
    while True:
        port = random.randrange(15_000, 32_000)
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


@contextmanager
def kafka_broker(config: Mapping[str, str] | None = None, *, advertised: int | None = None) -> Iterator[KafkaBroker]:
    """A broker of one's own, with settings as in server.properties; `advertised`: the port of a proxy before it."""
    kind = DockerKafka if docker_answers() else LocalKafka
    with closing(kind(config, advertised=advertised)) as broker:
        broker.start()
        yield broker


class KafkaBrokers:
    """Starts brokers for a test; they end with it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, config: Mapping[str, str] | None = None, *, advertised: int | None = None) -> KafkaBroker:
        return self._stack.enter_context(kafka_broker(config, advertised=advertised))


@contextmanager
def shared_broker(folder: Path) -> Iterator[Kafka]:
    """The one broker of all processes that name the same folder: the first of them starts it, and it ends when the last
    has ended, however that be.

    A process of its own keeps the broker (`_keep`), as the process that was first may well be the first to end. Who
    uses the broker holds a shared lock; the keeper waits for a lock that is not shared.
    """
    with (folder / "kafka.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with locked(folder / "kafka.lock"):
            address = folder / "kafka.json"
            if not address.exists():
                with (folder / "kafka.log").open("ab") as log:
                    subprocess.run(
                        [sys.executable, "-m", "tests.kafka_services", str(folder)],
                        cwd=Path(__file__).parent.parent,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        check=True,
                    )
                until = time.monotonic() + 2 * _START_SECONDS
                while not address.exists():
                    assert time.monotonic() < until, (folder / "kafka.log").read_text()[-2000:]
                    time.sleep(0.02)
            started = json.loads(address.read_text())
        if "failed" in started:
            pytest.fail(started["failed"], pytrace=False)
        yield Kafka(started["servers"])


def _keep(folder: Path) -> None:
    """Start a broker, say in ``kafka.json`` where it is, and end it when nobody uses it any more."""

    def say(**what: str) -> None:
        (folder / "kafka.json.new").write_text(json.dumps(what))
        (folder / "kafka.json.new").rename(folder / "kafka.json")

    with ExitStack() as stack:
        try:
            broker = stack.enter_context(kafka_broker())
        except BaseException as error:  # whoever waits has to hear of it
            say(failed=str(error))
            raise
        say(servers=broker.servers)
        with (folder / "kafka.users").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            (folder / "kafka.json").unlink()


if __name__ == "__main__":
    if os.fork() == 0:
        # whoever began it does not wait for it
        os.setsid()
        _keep(Path(sys.argv[1]))
