"""What a run takes on machines that share each batch: its days and device-hours, and how many machines still pay."""

from dataclasses import dataclass, replace
from math import ceil, inf

from minilora.plan.activations import Step
from minilora.plan.cluster import Link, allreduce_seconds, best_ranks, efficient_ranks, step_seconds
from minilora.plan.planner import Plan, tokens_per_second

MOST_MACHINES = 2**14
HOUR, DAY = 3600, 86400  # seconds


@dataclass(frozen=True)
class Run:
    """So many steps, each shared by so many machines, which have a device each."""

    machines: int
    step: Step  # of all machines together
    steps: int
    tflops: float  # that a device reaches
    link: Link | None = None  # with what is reached of its rate; None for one machine alone

    @property
    def tokens(self) -> int:
        """Of a step of all machines."""
        return self.step.batch * self.step.length

    @property
    def share(self) -> Step:
        """The step of the machine with most rows."""
        return replace(self.step, batch=ceil(self.step.batch / self.machines))


def run_facts(run: Run, plan: Plan) -> dict:
    """What the run takes by one method, the same on fewer machines, and where more of them no longer pay."""
    # seconds that one machine computes at a whole step, and bytes of the gradients
    seconds = run.tokens / tokens_per_second(plan, run.share, run.tflops, 1.0, checkpointing=False)
    sent = plan.trainable * run.step.itemsize
    counts = sorted({1 << k for k in range(run.machines.bit_length())} | {run.machines})
    scaling = [_on(run, seconds, sent, count) for count in counts]
    facts = scaling[-1] | {"gradient_bytes": sent, "scaling": scaling}
    if run.link is not None:
        most, rows = min(run.step.batch, MOST_MACHINES), run.step.batch
        facts["most_machines"] = most
        facts["fastest"] = _on(run, seconds, sent, best_ranks(seconds, sent, run.link, most, rows=rows))
        facts["at_least_half_efficient"] = efficient_ranks(seconds, sent, run.link, most, rows=rows)
    return facts


def _on(run: Run, compute_seconds: float, nbytes: int, machines: int) -> dict:
    link = run.link or Link(inf)
    seconds = step_seconds(compute_seconds, nbytes, machines, link, rows=run.step.batch)
    return {
        "machines": machines,
        "step_seconds": seconds,
        "tokens_per_second": run.tokens / seconds,
        "speedup": compute_seconds / seconds,
        "communication_share": allreduce_seconds(nbytes, machines, link) / seconds,
        "days": run.steps * seconds / DAY,
        "device_hours": machines * run.steps * seconds / HOUR,
    }
