#!/usr/bin/env python3
"""What a cluster of two nodes does on this machine, on a real store and a real NATS: statements and messages a send, latency on
one node and across both, the highest rate that holds, and what presence costs when many connect.

    cargo build --release && cargo build --release -p loadtest && loadtest/cluster.py [--quick] [PART ...]

Parts: sends, latency, max, presence; all of them when none is named. It starts `tests/servers/servers.py` with one server of each
kind in a folder of its own and two nodes, and ends what it started. It prints one line a figure.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
PORTS = (18091, 18092)
# Nodes that have just started, or just got their first people, still prepare and learn of each other.
SETTLE_S = 3


def servers(folder, *arguments):
    script = [str(ROOT / "tests/servers/servers.py"), "--state", str(folder), *arguments]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


def url(port):
    return f"http://127.0.0.1:{port}"


def ready(port, process):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit(f"the node at {port} ended")
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(url(port) + "/ready", timeout=5).status == 200:
                return
        # It says nothing by itself.
        time.sleep(0.2)
    sys.exit(f"the node at {port} is not ready")


@contextlib.contextmanager
def cluster():
    """Two fresh nodes on fresh servers; their pids."""
    with tempfile.TemporaryDirectory(prefix="urge-cluster-") as folder:
        folder = pathlib.Path(folder)
        nodes = []
        try:
            printed = servers(folder / "servers", "start", "--until", str(os.getpid()))
            where = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
            for port in PORTS:
                settings = {
                    "URGE_STORE": f"scylla://{where['URGE_TEST_SCYLLA']}/urge_load",
                    "URGE_BUS": f"nats://{where['URGE_TEST_NATS']}",
                    "URGE_SECRET_KEY": "the same on both nodes of this cluster",
                    "URGE_RATE_LIMIT": "off",
                    "URGE_LOG": "warn",
                    "URGE_LISTEN": f"127.0.0.1:{port}",
                    "URGE_DATA_DIR": str(folder / str(port)),
                }
                node = subprocess.Popen([str(TARGET / "release/urge")], env={**os.environ, **settings}, stdout=subprocess.DEVNULL)
                nodes.append(node)
                ready(port, node)
            time.sleep(SETTLE_S)
            yield folder, [node.pid for node in nodes]
        finally:
            for node in nodes:
                node.send_signal(signal.SIGTERM)
            for node in nodes:
                node.wait(timeout=60)
            servers(folder / "servers", "stop")


def counters():
    """The counters of both nodes together, by name and labels."""
    total = {}
    for port in PORTS:
        text = urllib.request.urlopen(url(port) + "/metrics", timeout=10).read().decode()
        for name, value in re.findall(r"^(urge_\w+(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.MULTILINE):
            total[name] = total.get(name, 0) + float(value)
    return total


def grown(before, after, name):
    return sum(value - before.get(key, 0) for key, value in after.items() if key.split("{")[0] == name)


def load(folder, pids, *arguments, both=True):
    """Runs the harness; its result."""
    result = folder / "result.json"
    command = [str(TARGET / "release/loadtest"), "--url", url(PORTS[0]), "--people", str(folder / "people.json"), "--json", str(result)]
    command += [part for pid in pids for part in ("--pid", str(pid))]
    if both:
        command += ["--other-url", url(PORTS[1])]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command + list(arguments))} failed:\n{done.stdout}{done.stderr}")
    print(" ", done.stdout.strip().splitlines()[-1])
    return json.loads(result.read_text())


def sends(folder, pids, quick):
    """Statements and messages of the bus a send, everybody online, half of them on each node. What it costs that people come and go
    is in a long run and in a short one alike: the difference is that of the sends."""
    runs = {
        "DIRECT": (30, "pairs", "--pairs", "50", "--rate", "50"),
        "group of 50": (30, "fanout", "--members", "50", "--rate", "10"),
        # A thousand who come and go differ by more: it takes many sends to see what one costs.
        "group of 1,000": (150, "fanout", "--members", "1000", "--rate", "5"),
    }
    for name, (seconds, *arguments) in runs.items():
        # Who was made for it has been told of, and indexed, before it is counted.
        load(folder, pids, *arguments, "--seconds", "1")
        short, few = counted(folder, pids, *arguments, "--seconds", "2")
        long, many = counted(folder, pids, *arguments, "--seconds", "10" if quick else str(seconds))
        count = many - few
        cost = {key: (value - short.get(key, 0)) / count for key, value in long.items()}
        kinds = {kind: cost[f'urge_store_statements_total{{kind="{kind}"}}'] for kind in ("read", "write", "conditional")}
        bus = {"live": cost.get("urge_bus_live_messages_total", 0), "tails": cost.get("urge_bus_tails_total", 0), "events": cost.get("urge_events_published_total", 0)}
        print(f"{name}: a send, its marks and its index: statements {figures(kinds)}; messages {figures(bus)}; {count} sends")


def counted(folder, pids, *arguments):
    """What the counters grew by with such a run, and how many sends it had."""
    time.sleep(SETTLE_S)
    before = counters()
    result = load(folder, pids, *arguments, "--warmup", "0")
    time.sleep(SETTLE_S)
    after = counters()
    return {key: value - before.get(key, 0) for key, value in after.items()}, result["result"]["outcome"]["acknowledged"]


def figures(values):
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def latency(folder, pids, quick):
    """Two people on one node, and on two, at 200 messages a second."""
    seconds = "5" if quick else "20"
    for name, both in (("one node", False), ("across nodes", True), ("one node", False), ("across nodes", True)):
        result = load(folder, pids, "pairs", "--pairs", "100", "--rate", "200", "--seconds", seconds, both=both)
        receive = result["result"]["outcome"]["receive"]
        print(f"{name}, 200/s: send to receive p50 {receive['p50_us'] / 1000:.2f} ms, p99 {receive['p99_us'] / 1000:.2f} ms")


def highest(folder, pids, quick):
    """The highest rate with a 99th percentile of at most 100 ms, every message across nodes."""
    load(folder, pids, "max", "pairs", "--step-seconds", "2" if quick else "5")


def presence(folder, pids, quick):
    """Messages of presence while 5,000 a minute connect."""
    sockets = 500 if quick else 5000
    load(folder, pids, "--connect-rate", "1000", "--seconds", "1", "idle", "--sockets", str(sockets))
    time.sleep(SETTLE_S * 2)
    before, begin = counters(), time.monotonic()
    load(folder, pids, "--connect-rate", f"{5000 / 60:.2f}", "--seconds", "1", "--warmup", "0", "idle", "--sockets", str(sockets))
    took, after = time.monotonic() - begin, counters()
    said = grown(before, after, "urge_bus_presence_messages_total")
    print(f"presence, {sockets} connect at 5,000 a minute: {said / took:.1f} messages a second of both nodes, {took:.0f} s")


PARTS = {"sends": sends, "latency": latency, "max": highest, "presence": presence}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *PARTS], help="all of them when none is named")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that it works")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        print(f"{part}: {PARTS[part].__doc__}", flush=True)
        with cluster() as (folder, pids):
            PARTS[part](folder, pids, arguments.quick)


if __name__ == "__main__":
    main()
