"""Machines of a cluster on this one: network namespaces, joined by links of a chosen bandwidth and delay.

    with Network(4, mbit=100, delay=0.005) as network:
        subprocess.run(network.mpiexec(["python", …]), env=network.environment())

Each rank gets a namespace of its own. Without delay, they hang on a bridge by veth pairs; with delay, on a relay that
holds every packet back for so long (netem would do it, but is no part of every kernel). `tc` (tbf) limits what each
sends. Needs Linux, root, and `ip` and `tc` of iproute2.
"""

import ctypes
import fcntl
import heapq
import os
import select
import shutil
import struct
import subprocess
from contextlib import ExitStack
from multiprocessing import Process
from pathlib import Path
from time import monotonic

SWITCH = "minilora-switch"
BURST = 256 * 1024  # bytes that may leave at once: more than a packet
PACKET = 60_000  # bytes, with delay: few packets, so that the relay keeps up


def name(rank: int) -> str:
    return f"minilora-{rank}"


def sh(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()}")


class Network:
    """`size` namespaces. mbit: Mbit/s that each may send, None as fast as can be; delay: seconds on the way."""

    def __init__(self, size: int, mbit: float | None = None, delay: float = 0.0):
        self.size, self.mbit, self.delay = size, mbit, delay

    def __enter__(self) -> "Network":
        if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
            raise SystemExit("links need root, and ip and tc (Debian: iproute2)")
        with ExitStack() as stack:
            for rank in range(self.size):
                self._namespace(stack, name(rank))
            if self.delay:
                self._by_relay(stack)
            else:
                self._by_bridge(stack)
            for rank in range(self.size):
                sh(f"ip -n {name(rank)} addr add 10.77.0.{rank + 1}/24 dev port")
                sh(f"ip -n {name(rank)} link set port up")
                if self.mbit:
                    limit = f"rate {self.mbit}mbit burst {BURST} latency 1s"
                    sh(f"tc -n {name(rank)} qdisc replace dev port root tbf {limit}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def mpiexec(self, command: list[str]) -> list[str]:
        """Return the command on every rank, each in its namespace."""
        inside = 'exec ip netns exec "minilora-$PMI_RANK" "$@"'
        return ["mpiexec", "-n", str(self.size), "bash", "-c", inside, "rank", *command]

    def environment(self) -> dict[str, str]:
        """For MPICH: ranks on this machine speak over TCP as if they were far apart."""
        return os.environ | {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}

    @staticmethod
    def _namespace(stack: ExitStack, namespace: str) -> None:
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True)  # of a benchmark that was killed
        Path("/run/netns", namespace).unlink(missing_ok=True)
        sh(f"ip netns add {namespace}")
        stack.callback(sh, f"ip netns del {namespace}")
        sh(f"ip -n {namespace} link set lo up")

    def _by_bridge(self, stack: ExitStack) -> None:
        self._namespace(stack, SWITCH)
        sh(f"ip -n {SWITCH} link add bridge type bridge")
        sh(f"ip -n {SWITCH} link set bridge up")
        for rank in range(self.size):
            sh(f"ip link add port netns {name(rank)} type veth peer name port{rank} netns {SWITCH}")
            sh(f"ip -n {SWITCH} link set port{rank} master bridge up")

    def _by_relay(self, stack: ExitStack) -> None:
        devices = []
        for rank in range(self.size):
            sh(f"ip -n {name(rank)} tuntap add dev port mode tun")
            sh(f"ip -n {name(rank)} link set port mtu {PACKET}")
            devices.append(_tunnel(name(rank)))
            stack.callback(os.close, devices[-1])
        relay = Process(target=_relay, args=(devices, self.delay), daemon=True)
        relay.start()
        stack.callback(relay.terminate)


def _tunnel(namespace: str) -> int:
    """Return the handle of the device `port` in a namespace, which gives whole packets and takes them."""
    with open("/proc/self/ns/net") as here, open(f"/run/netns/{namespace}") as there:
        _enter(there)
        handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(handle, 0x400454CA, struct.pack("16sH22x", b"port", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
        _enter(here)
    return handle


def _enter(namespace) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def _relay(devices: list[int], delay: float) -> None:
    """Hand every packet on to the device of its address, `delay` seconds after it came."""
    waiting: list[tuple[float, int, int, bytes]] = []  # when due, number, device, packet
    poll, count = select.poll(), 0
    for device in devices:
        poll.register(device, select.POLLIN)
    while True:
        timeout = max(0.0, waiting[0][0] - monotonic()) * 1000 if waiting else None
        for device, _ in poll.poll(timeout):
            packet = os.read(device, 65536)
            target = packet[19] - 1  # the last number of the IPv4 address it is for
            if packet[0] >> 4 == 4 and 0 <= target < len(devices):
                count += 1
                heapq.heappush(waiting, (monotonic() + delay, count, devices[target], packet))
        while waiting and waiting[0][0] <= monotonic():
            os.write(waiting[0][2], heapq.heappop(waiting)[3])
