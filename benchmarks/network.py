"""A cluster simulated on one machine: network namespaces, joined by links of a chosen bandwidth and delay.

    with Network(4, mbit=100, delay=0.005) as network:
        subprocess.run(network.mpiexec(["python", …]), env=network.environment())

Each rank gets a namespace of its own, which a veth pair connects to a bridge. `tc` limits the rate at which each rank
sends (tbf) and, if there is a delay, holds its packets back (netem). This needs Linux, root, and `ip` and `tc` from
iproute2; a delay also needs the kernel module sch_netem.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

SWITCH = "minilora-switch"
BURST = 256 * 1024  # bytes that may be sent at once; must exceed a packet


def sh(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.strip()}")


class Network:
    """A context manager that sets up `size` linked namespaces and removes them at the end.

    mbit: the Mbit/s that each may send (None: no limit). delay: the seconds that each packet takes.
    """

    def __init__(self, size: int, mbit: float | None = None, delay: float = 0.0):
        self.size, self.mbit, self.delay = size, mbit, delay

    def __enter__(self) -> "Network":
        if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
            raise SystemExit("links need root, and ip and tc (Debian: iproute2)")
        with ExitStack() as stack:
            names = [SWITCH, *(f"minilora-{rank}" for rank in range(self.size))]
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True)  # in case a killed benchmark left it
                Path("/run/netns", name).unlink(missing_ok=True)
                sh(f"ip netns add {name}")
                stack.callback(sh, f"ip netns del {name}")
                sh(f"ip -n {name} link set lo up")
            sh(f"ip -n {SWITCH} link add bridge type bridge")
            sh(f"ip -n {SWITCH} link set bridge up")
            for rank, name in enumerate(names[1:]):
                sh(f"ip link add port netns {name} type veth peer name port{rank} netns {SWITCH}")
                sh(f"ip -n {SWITCH} link set port{rank} master bridge up")
                sh(f"ip -n {name} addr add 10.77.0.{rank + 1}/24 dev port")
                sh(f"ip -n {name} link set port up")
                if self.delay:
                    limit = f"netem delay {1000 * self.delay:g}ms limit 100000" + f" rate {self.mbit}mbit" * bool(
                        self.mbit
                    )
                    sh(f"tc -n {name} qdisc replace dev port root {limit}")
                elif self.mbit:
                    limit = f"tbf rate {self.mbit}mbit burst {BURST} latency 1s"
                    sh(f"tc -n {name} qdisc replace dev port root {limit}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def mpiexec(self, command: list[str]) -> list[str]:
        """Return the command that runs `command` on every rank, each in its namespace."""
        inside = 'exec ip netns exec "minilora-$PMI_RANK" "$@"'
        return ["mpiexec", "-n", str(self.size), "bash", "-c", inside, "rank", *command]

    def environment(self) -> dict[str, str]:
        """Return an environment in which MPICH's ranks talk over TCP, as if they were on different machines."""
        return os.environ | {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
