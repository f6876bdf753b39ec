"""What a Kafka of this machine runs with: Java, and Kafka's own jars by Maven, kept in the user's cache.

``python -m tests.kafka_install`` fetches all of it before the tests do.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VERSION = "4.1.0"
JVM_FLAGS = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
"""A broker of a test lives for seconds: it should begin quickly, not run fast for days."""
CLUSTER_ID = "b3N0aW5hdG8tdGVzdHMtMQ"
_JAVA = 17
_MISSING = (
    f"these tests want a Kafka, and there is neither Docker nor a Java >= {_JAVA} with Maven: "
    "apt-get install default-jre-headless maven"
)
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ostinato</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where things are.

    Attributes:
        java: the command.
        jars: folder of Kafka's jars and what they need.
        formatted: a log folder as StorageTool makes it for node 1; every broker begins with a copy of it.
        archive: loaded classes as the JVM maps them; without it, or with that of another JVM, starting takes twice
            as long.
    """

    java: str
    jars: Path
    formatted: Path
    archive: Path

    def command(self, main: str, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
        # in this order in all processes, else the class archive is for another class path
        classes = ":".join(sorted(map(str, self.jars.glob("*.jar"))))
        return [self.java, *JVM_FLAGS, *flags, "-cp", classes, main, *arguments]

    def broker(self, properties: Path) -> list[str]:
        """The command that runs a broker."""
        # whatever is wrong with the archive costs time only, and needs no word
        flags = (f"-XX:SharedArchiveFile={self.archive}", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr")
        return self.command("kafka.Kafka", str(properties), flags=flags)


@cache
def installed() -> Installed:
    """Kafka on this machine; what is missing is fetched, once for all processes.

    Raises:
        RuntimeError: it cannot be had; says what to install.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ostinato-tests" / f"kafka-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / "lock"):
        found = Installed(_java(), home / "jars", home / "formatted", home / "classes.jsa")
        for path, make in ((found.jars, _fetch), (found.formatted, _format), (found.archive, _archive)):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=home) as folder:
                    make(found, Path(folder)).rename(path)
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that do so."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def guarded(command: list[str]) -> list[str]:
    """The same, for a process that does not outlive the one that starts it, even where that is killed."""
    return [*(("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()), *command]


def properties_text(properties: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def alone(folder: Path, port: int, controller: int) -> dict[str, str]:
    """What one broker that is its own controller cannot do without."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"DIRECT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"DIRECT://127.0.0.1:{port}",
        "listener.security.protocol.map": "DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "DIRECT",
        "log.dirs": str(folder),
    }


def _fetch(found: Installed, folder: Path) -> Path:
    maven = shutil.which("mvn")
    assert maven is not None
    (folder / "pom.xml").write_text(_POM)
    _run([maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"], folder)
    return folder / "jars"


def _format(found: Installed, folder: Path) -> Path:
    properties = folder / "server.properties"
    properties.write_text(properties_text(alone(folder / "log", 9092, 9093)))
    _run(found.command("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)), folder)
    return folder / "log"


def _archive(found: Installed, folder: Path) -> Path:
    from tests.kafka_clients import answers
    from tests.services import free_port

    port = free_port()
    shutil.copytree(found.formatted, folder / "log")
    properties = folder / "server.properties"
    properties.write_text(properties_text(alone(folder / "log", port, free_port())))
    archive = folder / "classes.jsa"
    command = found.command("kafka.Kafka", str(properties), flags=(f"-XX:ArchiveClassesAtExit={archive}",))
    with subprocess.Popen(guarded(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        until = time.monotonic() + 60
        while not answers(port) and broker.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        broker.terminate()
    if not archive.exists():
        # a JVM that makes none: an empty one is passed over
        archive.touch()
    return archive


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _java() -> str:
    """The command, where Maven is as well; both are installed where that is possible."""
    if not _complete() and os.geteuid() == 0 and shutil.which("apt-get"):
        with locked(Path(tempfile.gettempdir(), "ostinato-tests-apt.lock")):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            if not _complete():
                packages = ("install", "-y", "--no-install-recommends", "default-jre-headless", "maven")
                for arguments in (("update",), packages):
                    subprocess.run(["apt-get", "-qq", *arguments], env=environment, capture_output=True, check=False)
    java = shutil.which("java")
    if java is None or not _complete():
        raise RuntimeError(_MISSING)
    return java


def _complete() -> bool:
    if shutil.which("java") is None or shutil.which("mvn") is None:
        return False
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    return version is not None and int(version[1]) >= _JAVA


if __name__ == "__main__":
    print(f"Kafka {VERSION} in {installed().jars.parent}")
