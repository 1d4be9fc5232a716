"""A network for the servers of a set: each in a namespace of its own, joined by a router that can drop what one of them sends to
another, so that nobody is told, as when a network breaks; whoever is outside goes on reaching all of them. It needs root and `ip`."""

import subprocess
import zlib

from packages import run


class Network:
    """The namespaces and cables of these servers. What is on this machine is found again by the names."""

    def __init__(self, state, servers):
        self.servers = servers
        number = zlib.crc32(str(state).encode())
        # Names of cables have 15 letters at most.
        self.prefix = f"u{number:08x}"
        self.net = f"10.215.{number % 256}"

    @property
    def router(self):
        return f"{self.prefix}r"

    def space(self, server):
        return f"{self.prefix}n{self.servers.index(server)}"

    def address(self, server):
        return f"{self.net}.{4 * self.servers.index(server) + 2}"

    def enter(self, server):
        """What a command begins with that runs where this server does."""
        return ["ip", "netns", "exec", self.space(server)]

    def lay(self):
        """Makes what is not there."""
        if self.is_laid():
            return
        self.add(self.router)
        ip(f"netns exec {self.router} sh -c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        ip(f"link add {self.prefix}o type veth peer name o netns {self.router}")
        ip(f"addr add {self.net}.253/30 dev {self.prefix}o")
        ip(f"link set {self.prefix}o up")
        ip(f"-n {self.router} addr add {self.net}.254/30 dev o")
        ip(f"-n {self.router} link set o up")
        ip(f"route add {self.net}.0/24 via {self.net}.254")
        for number, server in enumerate(self.servers):
            space, first = self.space(server), f"{self.net}.{4 * number + 1}"
            self.add(space)
            ip(f"-n {self.router} link add c{number} type veth peer name c netns {space}")
            ip(f"-n {self.router} addr add {first}/30 dev c{number}")
            ip(f"-n {self.router} link set c{number} up")
            ip(f"-n {space} addr add {self.address(server)}/30 dev c")
            ip(f"-n {space} link set c up")
            ip(f"-n {space} route add default via {first}")

    def is_laid(self):
        return subprocess.run(["ip", "netns", "pids", self.router], capture_output=True).returncode == 0

    def add(self, space):
        ip(f"netns add {space}")
        ip(f"-n {space} link set lo up")

    def remove(self):
        """With a namespace go its cables, with a cable its routes."""
        for space in [self.router, *map(self.space, self.servers)]:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)

    def cut(self, sender, receiver):
        """From now on what the one sends to the other vanishes."""
        ip(f"-n {self.router} rule add from {self.address(sender)} to {self.address(receiver)} blackhole")

    def heal(self):
        """Everything arrives again."""
        for sender, receiver in self.cuts():
            ip(f"-n {self.router} rule del from {self.address(sender)} to {self.address(receiver)} blackhole")

    def cuts(self):
        """Which sender is cut off from which receiver."""
        rules = subprocess.run(["ip", "-n", self.router, "rule", "show"], capture_output=True, text=True, check=True).stdout
        pairs = [(sender, receiver) for sender in self.servers for receiver in self.servers]
        return [(sender, receiver) for sender, receiver in pairs if f"from {self.address(sender)} to {self.address(receiver)} blackhole" in rules]


def ip(command, *last):
    run(["ip", *command.split(), *last])
