"""Real services for tests: a Redis in a container where Docker answers, as a local process otherwise.

Nothing is skipped and nothing is made up: where there is neither, redis-server is installed when the tests run as root
on Debian or Ubuntu, and else they fail with the line that says what to install. Servers end with the tests, even when
those are killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": ""}
"""What a checkpoint store wants of a Redis."""
_IMAGE = "redis:7.4-alpine"
_WAITAOF = re.compile(rb"\*4\r\n\$7\r\nWAITAOF\r\n(?:\$\d+\r\n\d+\r\n){3}")
_START_SECONDS = 20.0
_MISSING = "these tests want a Redis, and there is neither Docker nor redis-server: apt-get install redis-server"


class RedisServer(Protocol):
    """A running Redis; its data outlive `kill` and `stop` until `start`."""

    address: str
    port: int

    def start(self) -> None: ...

    def stop(self) -> None:
        """End it in good order."""

    def kill(self) -> None:
        """SIGKILL."""

    def pause(self) -> None:
        """It answers no more (SIGSTOP)."""

    def go_on(self) -> None: ...

    def close(self) -> None:
        """End it and forget its data."""

    def ask(self, *command: str | int) -> Any:
        """What it answers to one command, texts as such."""


class _Asking:
    address: str

    def ask(self, *command: str | int) -> Any:
        from redis import Redis

        with closing(Redis.from_url(self.address, decode_responses=True, protocol=2)) as client:
            execute: Callable[..., Any] = client.execute_command
            return execute(*command)

    def _wait(self, lives: Callable[[], bool]) -> None:
        from redis.exceptions import AuthenticationError, RedisError, ResponseError

        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask("PING")
            except (AuthenticationError, ResponseError) as error:
                if "LOADING" not in str(error):
                    return
            except (RedisError, OSError):
                pass
            else:
                return
            if not lives():
                raise AssertionError("redis-server ended as it began")
            if time.monotonic() > until:
                raise AssertionError(f"redis-server did not answer within {_START_SECONDS:g} s")
            time.sleep(0.02)


class LocalRedis(_Asking):
    """A process of this machine. With ``port="0"`` and a ``unixsocket`` it listens there only."""

    def __init__(self, config: Mapping[str, str], password: str = "") -> None:
        self._folder = tempfile.mkdtemp(prefix="ostinato-redis-")
        self._config = {"dir": self._folder, "bind": "127.0.0.1", "daemonize": "no", **config}
        if password:
            self._config["requirepass"] = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._config.setdefault("tls-port" if "tls-cert-file" in config else "port", str(self.port))
        if "tls-cert-file" in config:
            self._config.setdefault("port", "0")
        scheme = "rediss" if "tls-cert-file" in config else "redis"
        self.address = f"{scheme}://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        if "tls-ca-cert-file" in config:
            self.address += f"?ssl_ca_certs={config['tls-ca-cert-file']}"

    def start(self) -> None:
        assert self._process is None
        arguments = [text for name, value in self._config.items() for text in (f"--{name}", value)]
        # it must not outlive a test process that is killed
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*guard, _binary(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        process = self._process
        self._wait(lambda: process.poll() is None)

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
    def folder(self) -> Path:
        """Where its data are."""
        return Path(self._folder)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class DockerRedis(_Asking):
    """A container."""

    def __init__(self, config: Mapping[str, str], password: str = "") -> None:
        from testcontainers.core.container import DockerContainer

        self.port = free_port()
        given = {**config, **({"requirepass": password} if password else {})}
        arguments = [text for name, value in given.items() for text in (f"--{name}", value or '""')]
        self._container = (
            DockerContainer(_IMAGE)
            .with_command(" ".join(["redis-server", *arguments]))
            .with_bind_ports(6379, self.port)
        )
        self._created = False
        self.address = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        self._wait(lambda: True)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        self._container.get_wrapped_container().pause()

    def go_on(self) -> None:
        self._container.get_wrapped_container().unpause()

    def close(self) -> None:
        if self._created:
            self._container.stop(force=True)


@contextmanager
def redis_server(
    config: Mapping[str, str] = DURABLE, password: str = "", *, local: bool = False
) -> Iterator[RedisServer]:
    """A Redis of one's own, with settings as in redis.conf; `local`: a process, as it needs files of this machine."""
    server: RedisServer = (
        LocalRedis(config, password) if local or not docker_answers() else DockerRedis(config, password)
    )
    with closing(server):
        server.start()
        yield server


class RedisServers:
    """Starts servers for a test; they end with it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, config: Mapping[str, str] = DURABLE, password: str = "", *, local: bool = False) -> RedisServer:
        return self._stack.enter_context(redis_server(config, password, local=local))


class Proxy:
    """Stands before a server of this machine and lets each request wait; what it is told to, it answers itself.

    A request is what comes after an answer.
    """

    def __init__(self, port: int, *, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self.waitaof: int | None = None
        """Pretend to a Redis that has WAITAOF (>= 7.2): the number of disks that have the write."""
        self.hide_waitaof = False
        """Pretend to one that has none."""
        self.lose_answer_to = b""
        """The server gets a request with this in it, and nobody its answer."""
        self.requests = 0
        self._target = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.address = f"redis://127.0.0.1:{self.port}/0"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(self.delay_seconds + 5)

    def cut(self) -> None:
        """Close all connections."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {client, server}
            thread = threading.Thread(target=self._serve, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        answered = threading.Event()
        answered.set()
        back = threading.Thread(target=self._back, args=(server, client, answered))
        back.start()
        with suppress(OSError):
            while data := client.recv(1 << 20):
                if answered.is_set():
                    answered.clear()
                    self.requests += 1
                    time.sleep(self.delay_seconds)
                if self.waitaof is not None:
                    script = b"return {%d, 0}" % self.waitaof
                    data = _WAITAOF.sub(b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(script), script), data)
                    data = data.replace(b"$7\r\nWAITAOF\r\n", b"$3\r\nGET\r\n")
                if self.hide_waitaof:
                    data = data.replace(b"$7\r\nWAITAOF\r\n", b"$7\r\nNOTHING\r\n")
                lost = bool(self.lose_answer_to) and self.lose_answer_to in data
                if lost:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_WR)
                server.sendall(data)
                if lost:
                    time.sleep(0.1)
                    break
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        back.join()
        self._open -= {client, server}
        client.close()
        server.close()

    def _back(self, server: socket.socket, client: socket.socket, answered: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                answered.set()
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@cache
def docker_answers() -> bool:
    """Is there a Docker engine that can be asked?"""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


@cache
def _binary() -> str:
    """Where redis-server is; it is installed where that is possible."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # test processes run side by side, apt-get does not
        with Path(tempfile.gettempdir(), "ostinato-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            if shutil.which("redis-server") is None:
                for arguments in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
                    subprocess.run(["apt-get", "-qq", *arguments], env=environment, capture_output=True, check=False)
        if (found := shutil.which("redis-server")) is not None:
            return found
    pytest.fail(_MISSING, pytrace=False)
