"""Cost of a step of data-parallel training on several machines, by plain arithmetic on seconds and bytes.

Each rank computes the gradients of its share of the batch; an allreduce adds them up and leaves the sum with every
rank; each rank then takes the same optimizer step.

    step        compute + what does not divide + allreduce
    compute     of the largest share: with a fixed global batch, the step of one rank times ceil(rows / ranks) / rows
    allreduce   messages · latency + bytes / bandwidth, one message after another, with a full-duplex link for each rank

The allreduce of b bytes over n ranks is a reduce-scatter and an allgather, both in a ring: 2 (n - 1) messages, in which
each rank sends 2 (n - 1) / n · b bytes (Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication
operations in MPICH", section 4.5). The paper's third term, the adding itself, runs at the speed of memory and is left
out.
"""

from math import inf
from typing import Any, NamedTuple

from minilora.errors import MiniloraError, escape
from minilora.peft.method import METHODS, Options, find
from minilora.plan.shapes import Shape

LATENCY = 50e-6  # seconds: a short message over TCP and one switch; for a rate that is given without one


class Link(NamedTuple):
    """The network that joins each rank to the others."""

    bandwidth: float  # bytes per second that it sends while it receives as many
    latency: float = 0.0  # seconds until a short message arrives


# Names for links: as their makers or standards state them, with latencies that are assumptions.
LINKS = {
    "home": (Link(20e6 / 8, 20e-3), "what it uploads counts, 20 Mbit/s: FCC's benchmark of 2024"),
    "ethernet-1g": (Link(1e9 / 8, LATENCY), "Gigabit Ethernet, TCP through one switch"),
    "ethernet-10g": (Link(10e9 / 8, LATENCY), "10 Gbit Ethernet, TCP through one switch"),
    "ethernet-100g": (Link(100e9 / 8, LATENCY), "100 Gbit Ethernet, TCP through one switch"),
    "infiniband": (Link(400e9 / 8, 2e-6), "InfiniBand NDR, 400 Gbit/s a port"),
    "nvlink": (Link(450e9, 3e-6), "NVLink 4 of an H100: 900 GB/s, half of it in each direction"),
}


def gradient_bytes(shape: Shape, method: str, options: Options | None = None, itemsize: int = 4) -> int:
    """Return the bytes of the gradients that the ranks add up in a step: `itemsize` bytes per trainable number.

    minilora sends float32, 4 bytes; training in 16 bits sends 2, or 4 where it adds up in float32.
    """
    return round(METHODS[find(method)].plan(shape, options or Options()).counts.total(shape.layers)) * itemsize


def allreduce_seconds(nbytes: float, ranks: int, link: Link) -> float:
    """Return the seconds to add up a buffer of `nbytes` over the ranks, leaving the sum on each of them.

    One rank, or nothing to send, takes no time. Raises MiniloraError for numbers that cannot be.
    """
    if type(ranks) is not int or ranks < 1:
        raise MiniloraError(f"ranks must be a whole number of at least 1, not {escape(repr(ranks))}")
    if not link.bandwidth > 0:
        raise MiniloraError(f"a link's bandwidth must be above 0 bytes per second, not {link.bandwidth}")
    for name, value in {"bytes": nbytes, "a link's latency": link.latency}.items():
        if not 0 <= value < inf:
            raise MiniloraError(f"{name} must be 0 or more, not {value}")
    if nbytes == 0:
        return 0.0
    return 2 * (ranks - 1) * link.latency + 2 * (ranks - 1) / ranks * nbytes / link.bandwidth


def step_seconds(
    compute_seconds: float,
    nbytes: float,
    ranks: int,
    link: Link,
    *,
    fixed_seconds: float = 0.0,
    rows: int | None = None,
) -> float:
    """Return the seconds of one training step on `ranks` ranks.

    compute_seconds: forward and backward of the whole batch, which the ranks share, on one of them. nbytes: of the
    gradients, which are sent after backward. fixed_seconds: what every rank does whatever their number: the optimizer's
    step, reading the batch. rows: of the global batch, so that a share is whole rows and the largest sets the pace;
    None divides evenly.

    Raises MiniloraError for more ranks than rows, and for numbers that cannot be.
    """
    sent = allreduce_seconds(nbytes, ranks, link)
    if rows is not None and ranks > rows:
        raise MiniloraError(f"{ranks:,} ranks cannot share {rows:,} rows: each needs at least one")
    compute = compute_seconds / ranks if rows is None else compute_seconds * -(-rows // ranks) / rows
    return fixed_seconds + compute + sent


def speedup(compute_seconds: float, nbytes: float, ranks: int, link: Link, **how: Any) -> float:
    """Return the tokens per second on `ranks` ranks, as a multiple of one rank's. how: as in `step_seconds`."""
    alone = step_seconds(compute_seconds, nbytes, 1, link, **how)
    return alone / step_seconds(compute_seconds, nbytes, ranks, link, **how)


def best_ranks(compute_seconds: float, nbytes: float, link: Link, most: int, **how: Any) -> int:
    """Return the number of ranks, from 1 to `most`, that trains fastest; the smallest if several do.

    For a batch that divides evenly, it is about √((compute - 2 bytes / bandwidth) / (2 latency)).
    """
    return min(range(1, most + 1), key=lambda ranks: step_seconds(compute_seconds, nbytes, ranks, link, **how))
