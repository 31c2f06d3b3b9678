# %% [markdown]
# # 14 Many machines: at which number of ranks does a slow link eat the gain?
#
# The reading is [lessons/14_many_machines](../lessons/14_many_machines/README.md). Here we take the gradients of a real
# model apart, count what has to be sent, and put links of all speeds into the model of time.
#
# **Write down two guesses first.** Several machines share a step that takes one of them a second, over a line of 100
# Mbit/s. With the base that comes with the package, full fine-tuning sends 11 MB per step, LoRA 0.7 MB. How many machines
# are best for the one, and how many for the other?

# %% [markdown]
# ## The idea, in a few lines
#
# Every machine takes some rows and adds up its part. If each divides by the number of *all* targets, the parts add up to
# what one machine would have got. If each divides by its own, the mean of their means is another number. Here are the
# losses of four machines, with 128, 16, 90 and 8 targets.

# %%
import numpy as np

rng = np.random.default_rng(0)
losses = [rng.exponential(scale, n) for scale, n in zip((1, 4, 2, 6), (128, 16, 90, 8))]
total = sum(len(own) for own in losses)
print(f"one machine: {np.concatenate(losses).mean():.3f}")
print(f"four, each divided by all: {sum(own.sum() / total for own in losses):.3f}")
print(f"a mean of means: {np.mean([own.mean() for own in losses]):.3f}")

# %%
import ipywidgets  # sliders

from figures import cluster, pictures, yours  # in the folder beside this notebook
from minilora.measure.lab import Lab  # the base, and text in batches
from minilora.measure.records import Records, results_folder  # what was measured
from minilora.plan.shapes import PRESETS  # the shapes of known models
from minilora.show.grids import NAMES  # what methods are called
from minilora.train import load  # where the base is
from minilora.train.world import split_rows  # the rows of each rank

# %%
lab = Lab(load.base_folder(), test_characters=4_000, validation_characters=4_000)
batch = lab.batches(lab.domain_text(12_000, seed=0), rows=7, seed=0).next_batch()
for row, length in enumerate((128, 16, 90, 33, 120, 8, 60)):
    batch["labels"][row, length:] = -100  # as if the texts had ended there
shares = split_rows(range(7), 4)
print("rows of each rank:", [list(rows) for rows in shares])

# %% [markdown]
# ## Four colleagues, one expert
#
# Seven rows of text, as padded rows are: each with another number of targets that count. One machine takes all of them;
# four ranks take their rows each. Every rank divides the sum of its losses by the number of targets in the *whole*
# batch, so that the gradients need only be added up.


# %%
def gradients_of(model, rows, targets=None):
    """Return {name: gradient} for the rows, and their number of targets."""
    part = {name: array[list(rows)] for name, array in batch.items()}
    for p in model.parameters():
        p.grad = None
    model(**part, num_items_in_batch=targets).loss.backward()
    by_name = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return by_name, model.count_targets(part["labels"])


def apart(some, other):
    """Return the largest difference, as a share of the largest number."""
    largest = max(np.abs(g).max() for g in other.values())
    return max(np.abs(some[name] - other[name]).max() for name in other) / largest


base = lab.base()
whole, targets = gradients_of(base, range(7))
parts = [gradients_of(base, rows, targets) for rows in shares]
print("targets of each rank:", [count for _, count in parts], "of", targets)
summed = {name: sum(part[name] for part, _ in parts) for name in whole}
print(f"added up, they are off by {apart(summed, whole):.0e} of the largest")

# %% [markdown]
# And if each rank divides by its own count, and the four gradients are averaged? That is a mean of means. It looks right,
# and it is another gradient.

# %%
own = [gradients_of(base, rows)[0] for rows in shares]
mean_of_means = {name: sum(part[name] for part in own) / 4 for name in whole}
print(f"a mean of means is off by {apart(mean_of_means, whole):.0%} of the largest")

# %% [markdown]
# ## What is read out over the phone
#
# The gradients of what trains, 4 bytes per number: with full fine-tuning the whole dictionary, with LoRA the glossary. The
# first two lines are counted on real gradients of the base, the picture on the shapes of larger models.

# %%
for method in ("full", "lora"):
    gradients, _ = gradients_of(lab.fresh(method, seed=0), range(2))
    sent = sum(gradient.nbytes for gradient in gradients.values())
    planned = cluster.gradient_bytes(PRESETS["base"], method)
    print(
        f"{method}: {len(gradients)} gradients, {sent:,} bytes, as planned: {planned:,}"
    )

# %%
names = ["base", "smollm2-135m", "tinyllama-1.1b", "llama-7b", "llama-65b"]
names.append("gpt-3-175b")
shapes = [PRESETS[name] for name in names]
sizes = {
    label: np.array([cluster.gradient_bytes(shape, method) for shape in shapes]) / 1e6
    for label, method in (("full fine-tuning", "full"), ("LoRA, rank 8", "lora"))
}
parameters = [shape.parameters for shape in shapes]
pictures.show(
    pictures.curves(
        "What each rank has to add up in a step",
        {label: (parameters, megabytes) for label, megabytes in sizes.items()},
        "parameters of the model",
        "MB per step",
        "xy",
    ),
    "Both axes are logarithmic: compare the gap between the lines at both ends.",
)
times = sizes["full fine-tuning"] / sizes["LoRA, rank 8"]
for name, count in zip(names, times, strict=True):
    print(f"{name}: {count:,.0f} times fewer bytes with LoRA")

# %% [markdown]
# The lines part: the wider a model, the thinner its glossary.

# %% [markdown]
# ## Held to the clock
#
# A smaller model was trained on 1, 2 and 4 ranks, over links that were made slow on purpose. Points are what the clock
# said, lines what the model of time says of the bytes, the link, and the computing of one rank. (The four ranks share two
# cores.)

# %%
record = Records.read(results_folder() / "scaling.jsonl", "scaling")
rows = list(record.rows.values())  # of trainings on many ranks
methods = ("full", "lora")


def link_of(row):
    if row["mbit"] is None:
        return "memory"
    rate = row["mbit"]
    name = f"{rate / 1000:g} Gbit/s" if rate >= 1000 else f"{rate:g} Mbit/s"
    return name + (f", {1000 * row['delay']:.0f} ms" if row["delay"] else "")


def of_link(method, column):
    """Return the measurements as {link: (ranks, seconds)}."""
    by_link = {}
    mine = [row for row in rows if row["method"] == method]
    alone = next(row["step"] for row in mine if row["ranks"] == 1)
    for row in mine:
        if row["ranks"] > 1:
            counts, times = by_link.setdefault(link_of(row), ([1], [alone]))
            counts.append(row["ranks"])
            times.append(row[column])
    return by_link


predicted, clock = (
    {NAMES[method]: of_link(method, column) for method in methods}
    for column in ("predicted", "step")
)
title = "A step, measured (points) and as the model says (lines)"
pictures.show(
    pictures.step_times(title, predicted, clock),
    "For each link, look whether its points lie on its line.",
)
off = max(abs(r["predicted"] / r["step"] - 1) for r in rows if r["ranks"] > 1)
print(f"no point is further than {off:.0%} from its line")


# %% [markdown]
# ## The picture: a step's time over ranks
#
# And now further than anybody here can measure, each rank on a machine of its own.
# One machine computes a step of the base in, say, a second with full fine-tuning, and in two thirds of it with LoRA,
# which needs no gradients of the frozen weights. The ranks share it, and add up over a ring. A line that falls is a gain;
# where it is lowest, more ranks no longer help; where it is back at its beginning, all is lost.

# %%
ranks = [2**i for i in range(9)]
links = {
    "30Mbit/20ms": cluster.Link(bandwidth=30e6 / 8, latency=20e-3),
    "100Mbit/1ms": cluster.Link(bandwidth=100e6 / 8, latency=1e-3),
    "1Gbit": cluster.Link(bandwidth=1e9 / 8, latency=50e-6),
}
seconds = {"full": 1.0, "lora": 2 / 3}
nbytes = {m: cluster.gradient_bytes(PRESETS["base"], m) for m in seconds}


def line(method, link, counts=ranks):
    """Return (ranks, seconds) for steps of the base."""
    alone, sent = seconds[method], nbytes[method]
    times = [cluster.step_seconds(alone, sent, n, link) for n in counts]
    return counts, times


lines = {
    NAMES[m]: {name: line(m, link) for name, link in links.items()} for m in seconds
}
pictures.show(
    pictures.step_times("A step of the base, over ranks and links", lines),
    "Find the lowest point of every line: from there on, more ranks do not help.",
)

# %%
for name, link in links.items():
    for method, alone in seconds.items():
        most = cluster.best_ranks(alone, nbytes[method], link, 1000)
        (fastest,) = line(method, link, [most])[1]
        gain = f"{alone / fastest:.1f} times as fast as one"
        print(f"{name:<12} {NAMES[method]}: best at {most:>2}, {gain}")

# %% [markdown]
# Over the two slower links, full fine-tuning gains nothing by any number of machines: it computes a step in less time than
# it needs to send the gradients twice. LoRA gains over all three. Over the slowest, three ranks are best, and it is the
# latency of 20 ms that stops it, which is paid 2 (n - 1) times.
#
# With a kernel running, move the sliders: a step's time over your own line, and the number of ranks where it is best. (The
# picture below shows that number for many bandwidths.)


# %%
def draw(megabits: int = 100, milliseconds: int = 1) -> None:
    link = cluster.Link(megabits * 1e6 / 8, milliseconds / 1e3)
    title = f"A step over {megabits} Mbit/s with {milliseconds} ms of latency"
    steps = {NAMES[m]: line(m, link) for m in seconds}
    best = [cluster.best_ranks(seconds[m], nbytes[m], link, 1000) for m in seconds]
    pictures.show(
        pictures.curves(title, steps, "ranks", "seconds per step", "xy"),
        f"Find the lowest point of each line: {best[0]} and {best[1]} ranks are best.",
    )


_ = ipywidgets.interact(draw, megabits=(1, 1000), milliseconds=(1, 50))

# %%
megabits = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
series = {}
for method, alone in seconds.items():
    on = [cluster.Link(rate * 1e6 / 8, 1e-3) for rate in megabits]
    most = [cluster.best_ranks(alone, nbytes[method], link, 1000) for link in on]
    series[NAMES[method]] = (megabits, most)
pictures.show(
    pictures.curves(
        "How many ranks are best, at a latency of 1 ms",
        series,
        "bandwidth (Mbit/s)",
        "ranks",
        "xy",
    ),
    "Look where each line leaves 1, and where it becomes level.",
)
for method, alone in seconds.items():
    least = 2 * 8 * nbytes[method] / alone / 1e6
    print(f"{NAMES[method]}: below {least:.0f} Mbit/s, no second machine helps")

# %% [markdown]
# Far to the right, the bandwidth no longer matters: each ends at the number that the latency allows. The threshold below
# which nothing helps is another one for the two methods, and their ratio is that of the bytes, but for the shorter time
# that LoRA computes.

# %% [markdown]
# ## On paper: a thousand machines, and a home
#
# LLaMA-7B, a minute for a step alone. How many times as fast as one machine are many? At 1, the gain is eaten.

# %%
counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
gains = {}
for name, method in (
    ("ethernet-10g", "full"),
    ("ethernet-1g", "full"),
    ("ethernet-1g", "lora"),
    ("home", "lora"),
):
    size = cluster.gradient_bytes(PRESETS["llama-7b"], method)
    link = cluster.LINKS[name][0]
    gain = [cluster.speedup(60.0, size, n, link) for n in counts]
    gains[f"{NAMES[method]}, {name}"] = counts, gain
pictures.show(
    pictures.curves(
        "LLaMA-7B on many machines", gains, "ranks", "times as fast as one", "xy"
    ),
    "Look for lines that fall below 1: there, one machine alone would be faster.",
)
for name, (_, gain) in gains.items():
    print(f"{name}: two {gain[1]:.2f}, a thousand {gain[-1]:.2f} times as fast as one")

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/14_many_machines/exercise.py](../lessons/14_many_machines/exercise.py), then `minilora check 14`.
#
# <details><summary>1. Ten ranks are best over your link. What do a hundred bring?</summary>
# Nothing: they are as slow as one. The gain is gone at the square of the best number, since the middle term of the
# formula falls as 1/n, and the latency's grows as n.
# </details>
#
# <details><summary>2. Why do the replicas stay equal, although no weight is ever sent?</summary>
# They start equal, get the same gradient to the last bit, and have the same optimizer with the same moments. Equal
# causes, equal steps. One difference at the start, or one parameter that is left out of the buffer, and they part.
# </details>
#
# <details><summary>3. Does LoRA make training on many fast machines faster as well?</summary>
# Where links are fast enough, hardly by what is sent: both are then held back by what there is to compute, and by the
# latency. LoRA's thousandth part of the bytes matters where the link is slow, and it makes many more links fast enough.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your ring adds up the gradients of the four ranks, and your formula looks for the
# best number of machines.

# %%
mine = yours.functions("14")
own_parts = [gradients_of(base, rows) for rows in shares]  # each divided by its own
send = mine.Transport()
averaged = mine.average(*zip(*own_parts), send)
off = max(apart(gradients, whole) for gradients in averaged)
print(f"largest difference from one machine: {off:.0e}")
print(f"sent by each rank: {max(send.sent.values()) / 1e6:.1f} MB")
most = {
    NAMES[m]: [
        mine.best_ranks(seconds[m], nbytes[m], 1e6 * r, 1e-3, 1000) for r in megabits
    ]
    for m in seconds
}
pictures.show(
    pictures.curves(
        "How many ranks are best, by your formula",
        {name: (megabits, counts) for name, counts in most.items()},
        "bandwidth (Mbit/s)",
        "ranks",
        "xy",
    ),
    "The picture above, from your own two functions: put in your own connection.",
)
