"""How each server of a set is configured, started, asked whether it is there, and ended."""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import time

from packages import HERE, ROOT, cassandra_jars, fail, nats_binary, run

CONFIGURATION = ROOT / "nats" / "server"
# How long a server may take to answer, in seconds: a small machine that builds meanwhile is slow.
START_LIMIT = 120
STOP_LIMIT = 20


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

    def __init__(self, state, kind, number, settings, network):
        self.name = f"{kind}-{number}"
        self.number = number
        self.kind = kind
        self.network = network
        self.folder = state / self.name
        self.settings = settings

    def address_of(self, number):
        """Of the server of this kind with this number."""
        if self.network:
            return self.network.address(f"{self.kind}-{number}")
        return f"127.0.0.{number}" if self.kind == "cassandra" else "127.0.0.1"

    @property
    def address(self):
        return self.address_of(self.number)

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
        command = [*(self.network.enter(self.name) if self.network else []), *self.configure()]
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
        pid = self.pid
        if not pid:
            return
        # What `/proc` shows of a process is gone before its ports are free; this tells when it has ended.
        ended = os.pidfd_open(pid)
        try:
            self.send(number)
            self.send(signal.SIGCONT)
            while not select.select([ended], [], [], STOP_LIMIT)[0]:
                self.send(signal.SIGKILL)
        finally:
            os.close(ended)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

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

    def reaches(self, other):
        """Whether that one can be connected to from where this one is."""
        connect = f"import socket; socket.create_connection(('{other.address}', {other.port}), 1)"
        tried = subprocess.run([*self.network.enter(self.name), "python3", "-c", connect], stderr=subprocess.DEVNULL)
        return tried.returncode == 0

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
        return [f"nats-route://{self.address_of(number)}:{port}" for number, port in enumerate(self.settings["nats_routes"], 1)]

    @property
    def route(self):
        return f"{self.address}:{self.settings['nats_routes'][self.number - 1]}"

    def configure(self):
        several = len(self.settings["nats"]) > 1
        if self.settings["tls"]:
            # What is written names the file that is run, and makes the process known as this folder's.
            lines = [f'include "{os.path.relpath(CONFIGURATION / ("cluster.conf" if several else "server.conf"), self.folder)}"']
        else:
            lines = [
                f"server_name: {self.name}",
                f"listen: {self.address}:{self.port}",
                f'jetstream {{ store_dir: "{self.folder / "jetstream"}", max_memory_store: 256GB, max_file_store: 4TB }}',
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
        seeds = self.address_of(1)
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
