"""`minilora plan --machines`: how long a run takes on machines that share each batch, as a table and as JSON.

The arithmetic is in `cluster.py`; the work of a step comes from `plan.py`.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING

from minilora.commands.common import Parser
from minilora.errors import MiniloraError, escape
from minilora.show.grids import show_rate, show_size, show_time

if TYPE_CHECKING:
    from minilora.plan.activations import Step
    from minilora.plan.cluster import Link
    from minilora.plan.planner import Plan
    from minilora.show.grids import Grid

TOKENS = 1e9  # of a run of which no length is given
MOST_MACHINES = 2**14
MOST_TOKENS, MOST_STEPS = 1e18, 10**12
COUNTS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))  # bits a second
COMMUNICATION = "comm.: communication's share of a step."
DAY, HOUR = 86400, 3600


# Arguments


def add(parser: Parser) -> None:
    parser.add_argument("--machines", type=int, help="that share each batch, with a --device each: the time of a run")
    parser.add_argument("--link", help="between them: 1Gbit, 10Gbit/50us, home, ethernet-10g, infiniband, nvlink, …")
    parser.add_argument("--link-efficiency", type=float, help="share of the link's rate that is reached (default: 0.9)")
    parser.add_argument("--tokens", help="length of the run: 300M, 20B (default: 1B)")
    parser.add_argument("--steps", type=int, help="the same in steps")


@dataclass(frozen=True)
class Run:
    """What is asked for: a run of so many steps, each shared by so many machines, which have a device each."""

    machines: int
    step: Step  # of all machines together
    steps: int
    tflops: float  # that a device reaches
    link: Link  # with what is reached of its rate
    facts: dict  # of the run, for JSON

    @property
    def tokens(self) -> int:
        """Of a step of all machines."""
        return self.step.batch * self.step.length

    @property
    def share(self) -> Step:
        """The step of the machine with most rows."""
        return replace(self.step, batch=ceil(self.step.batch / self.machines))


def read(arguments: Namespace, step: Step, rate: tuple[str, float] | None) -> Run | None:
    """The run that the flags ask for; None where they ask for none. Raises MiniloraError for what cannot be."""
    from minilora.plan.shapes import LARGEST

    machines = arguments.machines
    for flag in ("link", "link_efficiency"):
        if machines is None and getattr(arguments, flag) is not None:
            raise MiniloraError(
                f"--{flag.replace('_', '-')} is of what joins machines: add --machines, or leave it out"
            )
    asked = [flag for flag in ("machines", "tokens", "steps") if getattr(arguments, flag) is not None]
    if not asked:
        return None
    if arguments.model is None and arguments.shape is None:
        raise MiniloraError(f"--{asked[0]} plans the run of a model: name one")
    if rate is None:
        raise MiniloraError(f"--{asked[0]} asks for time: add --device, such as a100 or here, or --tflops")
    if not (1 <= step.batch <= LARGEST and 1 <= step.length <= LARGEST):
        return None  # the plan of the step refuses it
    machines = 1 if machines is None else machines
    if not 1 <= machines <= MOST_MACHINES:
        raise MiniloraError(f"--machines must be from 1 to {MOST_MACHINES:,}, not {machines:,}")
    if machines > step.batch:
        raise MiniloraError(
            f"{machines:,} machines cannot share a batch of {_rows(step.batch)}, each needs at least one: add "
            f"--batch-size {machines} or more, or take fewer machines"
        )
    steps, (link, link_facts, words) = _steps(arguments, step), _link(arguments, machines, step.itemsize)
    facts = {"machines": machines, "rows_a_machine": ceil(step.batch / machines)}
    facts |= {"steps": steps, "tokens": steps * step.batch * step.length, "link": link_facts}
    facts["assumptions"] = (
        f"Assumed: {100 * arguments.utilization:g} % of each device's TFLOP/s, without checkpointing. {words}Left out: "
        "the optimizer's step, reading, starting, saving, faults, and energy."
    )
    return Run(machines, step, steps, rate[1] * arguments.utilization, link, facts)


def _link(arguments: Namespace, machines: int, itemsize: int) -> tuple[Link, dict | None, str]:
    """(what joins the machines, with what is reached of its rate; that for JSON; what is assumed of it, in words)"""
    from minilora.plan.cluster import EFFICIENCY, LINKS, Link, parse_link

    if arguments.link is None:
        if machines > 1:
            names = ", ".join(LINKS)
            raise MiniloraError(
                f"--machines {machines} needs --link, what joins them: a rate such as 1Gbit, or {names}"
            )
        return Link(inf), None, ""
    efficiency = EFFICIENCY if arguments.link_efficiency is None else arguments.link_efficiency
    if not 0 < efficiency <= 1:
        raise MiniloraError(f"--link-efficiency must be above 0 and at most 1, not {efficiency}")
    link = parse_link(arguments.link)
    name = arguments.link.strip().lower().partition("/")[0].strip()
    known = f" ({LINKS[name][1]})" if name in LINKS else ""
    size, unit = next(item for item in RATES if 8 * link.bandwidth >= item[0])
    words = (
        f"Each machine has a link of its own, {escape(arguments.link.strip(), 30)}{known}: {100 * efficiency:g} % of "
        f"{8 * link.bandwidth / size:g} {unit}bit/s each way, and {show_time(link.latency)} a message. After backward, "
        f"not beside it, the gradients are added up in {itemsize} bytes a number, by a ring or by Rabenseifner's "
        "allreduce, whichever is faster. "
    )
    facts = {"bytes_per_second": link.bandwidth, "latency_seconds": link.latency, "efficiency": efficiency}
    return link.at(efficiency), facts, words


def _steps(arguments: Namespace, step: Step) -> int:
    if arguments.steps is not None:
        if arguments.tokens is not None:
            raise MiniloraError("--tokens and --steps exclude each other")
        if not 1 <= arguments.steps <= MOST_STEPS:
            raise MiniloraError(f"--steps must be from 1 to {MOST_STEPS:,}, not {arguments.steps:,}")
        return arguments.steps
    tokens = TOKENS
    if (text := arguments.tokens) is not None:
        found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmbt]?)", text.strip().lower())
        tokens = float(found[1]) * COUNTS[found[2]] if found else 0
        if not 1 <= tokens <= MOST_TOKENS:
            raise MiniloraError(f"--tokens must be a number such as 300M or 20B, not {escape(repr(text))}")
    return ceil(tokens / (step.batch * step.length))


# Facts


def facts_of(run: Run, plan: Plan) -> dict:
    """What the run takes by one method, the same on fewer machines, and where more of them no longer pay."""
    from minilora.plan.cluster import best_ranks, efficient_ranks

    work, most = _work(run, plan), min(run.step.batch, MOST_MACHINES)
    counts = sorted({1 << k for k in range(run.machines.bit_length())} | {run.machines})
    scaling = [_on(run, *work, count) for count in counts]
    facts = scaling[-1] | {"gradient_bytes": work[1], "scaling": scaling}
    if run.facts["link"] is not None:
        facts["fastest"] = _on(run, *work, best_ranks(*work, run.link, most, rows=run.step.batch))
        facts["at_least_half_efficient"] = efficient_ranks(*work, run.link, most, rows=run.step.batch)
    return facts


def _work(run: Run, plan: Plan) -> tuple[float, int]:
    """(seconds that one machine computes at a whole step, bytes of the gradients)"""
    from minilora.plan.planner import tokens_a_second

    seconds = run.tokens / tokens_a_second(plan, run.share, run.tflops, 1.0, checkpointing=False)
    return seconds, plan.trainable * run.step.itemsize


def _on(run: Run, compute_seconds: float, nbytes: int, machines: int) -> dict:
    from minilora.plan.cluster import allreduce_seconds, step_seconds

    seconds = step_seconds(compute_seconds, nbytes, machines, run.link, rows=run.step.batch)
    return {
        "machines": machines,
        "step_seconds": seconds,
        "tokens_per_second": run.tokens / seconds,
        "speedup": compute_seconds / seconds,
        "communication_share": allreduce_seconds(nbytes, machines, run.link) / seconds,
        "days": run.steps * seconds / DAY,
        "device_hours": machines * run.steps * seconds / HOUR,
    }


# Words


def text(run: Run, facts: list[dict]) -> list[str]:
    """The run in lines. facts: of each plan, with what `facts_of` says under "run"."""
    from textwrap import fill

    from minilora.show.grids import drawn, render

    title = f"A run of {run.steps:,} steps of {run.step.batch:,} × {run.step.length:,} tokens"
    if run.machines > 1:
        most = "" if run.machines * run.share.batch == run.step.batch else "up to "
        title += f" on {run.machines:,} machines, {most}{_rows(run.share.batch)} each (bytes above are of one)"
    ends = []
    if len(facts) == 1 and run.facts["link"] is not None and run.step.batch > 1:
        ends = [fill(line, 79) for line in _where_it_ends(run, facts[0]["run"])] + [""]
    grid = _one(facts[0]["run"]) if len(facts) == 1 else _several(facts)
    return ["", fill(title, 79), render(drawn(grid)), *ends, fill(run.facts["assumptions"], 79)]


def _one(fact: dict) -> Grid:
    from minilora.show.grids import Grid

    rows = [(f"{on['machines']:,}", *_cells(on)) for on in fact["scaling"]]
    header = ("machines", "step", "tokens/s", "speed-up", "comm.", "run", "device-hours")
    return Grid("", header, rows, COMMUNICATION)


def _several(facts: list[dict]) -> Grid:
    from minilora.show.grids import Grid

    rows = []
    for fact in facts:
        on = fact["run"]
        fastest = [f"{on['fastest']['machines']:,}"] if "fastest" in on else []
        rows.append((fact["method"], show_size(on["gradient_bytes"]), *_cells(on), *fastest))
    header = ("method", "gradi-\nents", "step", "tokens/s", "speed-\nup", "comm.", "run", "device-\nhours", "best")
    best = " best: the number of machines that is fastest." if len(rows[0]) == len(header) else ""
    return Grid("", header[: len(rows[0])], rows, COMMUNICATION + best)


def _cells(on: dict) -> list[str]:
    from minilora.show.grids import show_share

    return [
        show_time(on["step_seconds"]),
        show_rate(on["tokens_per_second"]),
        show_rate(on["speedup"]),
        show_share(on["communication_share"]) if on["communication_share"] else "–",
        show_time(on["days"] * DAY),
        show_rate(on["device_hours"]),
    ]


def _where_it_ends(run: Run, fact: dict) -> Iterator[str]:
    """Up to which number of machines the link leaves a gain."""
    sent, best = fact["gradient_bytes"], fact["fastest"]
    yield (
        f"A step's gradients are {show_size(sent)}; each machine sends and receives nearly twice that, which takes "
        f"{show_time(2 * sent / run.link.bandwidth)} on this link, however many machines there are."
    )
    if best["machines"] == 1:
        yield "The link eats the whole gain: no number of machines, up to one for each row, is as fast as one alone."
        return
    gain = f"{best['machines']:,} machines are {show_rate(best['speedup'])} times as fast as one"
    if best["machines"] == min(run.step.batch, MOST_MACHINES):
        yield f"More machines pay, up to one for each row: {gain}."
    else:
        yield f"{gain}; with more of them, the link eats the gain."
    yield f"Up to {fact['at_least_half_efficient']:,} machines, each does at least half of what it would do alone."


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
