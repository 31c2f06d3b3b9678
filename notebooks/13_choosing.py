# %% [markdown]
# # 13 Choosing: which method, on which card, and is training worth it at all?
#
# The reading is [lessons/13_choosing](../lessons/13_choosing/README.md). All methods of this course were measured on one
# base, one domain and one task; the numbers come with the package (in a checkout, `python -m experiments compare`
# measures them anew). Here we lay them out, and choose.
#
# **Write down two guesses first.** Of all the methods, how many are beaten by another that is no worse *and* needs no
# more memory? And after how many queries has training by LoRA cost less than 256 tokens of examples in every prompt?

# %% [markdown]
# ## The idea, in a few lines
#
# A method is beaten if another one is no worse and costs no more. Whatever you need, the answer is among the others. Here
# are four made-up methods.

# %%
import numpy as np

names = ["one", "two", "three", "four"]
costs, errors = np.array([20, 60, 70, 120]), np.array([2.5, 2.2, 2.3, 2.1])
as_cheap, as_good = costs <= costs[:, None], errors <= errors[:, None]
beaten = (as_cheap & as_good).sum(axis=1) > 1  # everybody is as good as oneself
for name, is_beaten in zip(names, beaten, strict=True):
    print(f"{name}: {'beaten' if is_beaten else 'beaten by nothing'}")

# %%
import ipywidgets  # sliders

from figures import pictures, yours  # in the folder beside this notebook
from minilora.demo.claims import AdaptedResult  # all methods side by side
from minilora.demo.teach_report import ROWS, claims, sample_lines, scores_grid
from minilora.measure.records import Records, results_folder  # what was measured
from minilora.measure.statistics import paired_interval  # of differences
from minilora.peft import Options  # of the methods
from minilora.plan.planner import make_plan  # memory by arithmetic
from minilora.plan.shapes import PRESETS  # the shapes of known models
from minilora.show.grids import NAMES, drawn, render  # tables

# %%
result = AdaptedResult(Records.read(results_folder() / "compare.jsonl", "comparison"))
points = {
    name: (peak / 1e6, result.domain(name))
    for name in result.methods
    if (peak := result.peak(name))
}
levels = {name: result.domain(name).mean for name in ("base", "few-shot")}
print(f"{'method':<20}{'MB':>6}  bits/character")
for name, (cost, quality) in points.items():
    print(f"{NAMES[name]:<20}{cost:>6.0f}  {quality.show(3)}")

# %% [markdown]
# ## The picture: quality against cost, every method one point
#
# To the right is the most memory that a training step holds at once, upward are the bits per character that the domain's
# text costs afterwards. Low is good, left is cheap. A point that has another one to its left and below it is beaten,
# whatever you need. The grey staircase joins those that nothing beats.

# %%
frontier, low = [], np.inf
for name in sorted(points, key=lambda name: (points[name][0], points[name][1].mean)):
    if points[name][1].mean < low:
        frontier.append(name)
        low = points[name][1].mean
pictures.show(
    pictures.methods_at_cost(
        "Quality against memory: every method one point",
        points,
        "MB alive at once in a training step",
        "domain, bits/character",
        levels,
        frontier,
    ),
    "For each point, look left and down: if another one is there, it is beaten.",
)

# %%
print(f"{len(frontier)} of {len(points)} are beaten by nothing:")
print("  " + ", ".join(NAMES[name] for name in frontier))
best = min(points, key=lambda name: points[name][1].mean)
bits = {
    name: [row["domain"] for row in result.records.of("text", name)] for name in points
}
others = [n for n in points if n != best and len(bits[n]) == len(bits[best])]
print(f"bits/character more than {NAMES[best]}, and where the true mean lies:")
for name in others:
    more = paired_interval(np.subtract(bits[name], bits[best]), comparisons=len(others))
    print(
        f"  {NAMES[name]:<20}{more.show(3)}{'' if more.excludes(0) else '  undecided'}"
    )

# %% [markdown]
# The intervals are those of [lesson 01](../lessons/01_why_transfer/README.md): of differences seed by seed, widened because
# there are so many of them. One that holds 0 says that three seeds do not decide it, and not that the two are as good.

# %% [markdown]
# ## The rule: a bar, a budget, the cheapest
#
# With a kernel running, set what you need and what you have: one line goes across, one upward, and what lies below the one
# and left of the other will do. (The picture above shows all answers, if you draw the lines yourself.)


# %%
def choose(bar: float = 2.4, megabytes: int = 100) -> str:
    will_do = [
        name
        for name, (cost, one) in points.items()
        if one.mean <= bar and cost <= megabytes
    ]
    answer = min(will_do, key=lambda name: points[name][0]) if will_do else None
    return NAMES.get(answer, "nothing will do")


def draw(bar: float = 2.4, megabytes: int = 100) -> None:
    title = f"{bar:g} bits/character and {megabytes} MB: {choose(bar, megabytes)}"
    across, up = "MB alive at once in a training step", "domain, bits/character"
    figure = pictures.methods_at_cost(title, points, across, up, levels)
    figure.axes[0].axhline(bar, color="black")
    figure.axes[0].axvline(megabytes, color="black")
    pictures.show(figure, "Below the line across and left of the upright one will do.")


_ = ipywidgets.interact(draw, bar=(2.1, 2.6, 0.02), megabytes=(20, 160, 5))
for bar, megabytes in ((2.4, 100), (2.3, 100), (2.2, 100), (2.2, 150)):
    method = choose(bar, megabytes)
    print(f"at most {bar} bits/character and {megabytes} MB: {method}")

# %% [markdown]
# ## A real model, on paper
#
# SmolLM2-135M has been pretrained on far more text than our base, and has 48 times as many weights. What would a step of
# LoRA take, one sequence of 512 tokens, in 16 bits? No weight is needed to say so, only the shape.

# %%
shape = PRESETS["smollm2-135m"]
plans = {name: make_plan(shape, name) for name in ("full", "lora", "qlora")}
for name, plan in plans.items():
    peak = plan.memory.peak / 1e6
    print(f"{NAMES[name]}: {plan.trainable:,} numbers train, {peak:,.0f} MB")
kinds = {kind: size / 1e6 for kind, size in plans["lora"].memory.kinds.items() if size}
pictures.show(
    pictures.bars("A step of LoRA on SmolLM2-135M", kinds, "MB"),
    "Compare the logits with the weights: which of the two is longer?",
)

# %% [markdown]
# The logits of 512 tokens over a vocabulary of 49,152 take more than the weights. In a large model it is the other way
# round, which is why QLoRA's 4 bits pay there. The planner beside what was published:

# %%
published = {"7B": 6.9, "13B": 11.3, "33B": 24.7, "65B": 45.0}  # QLoRA, figure 6
qlora = Options(rank=64, double_quantization=True)
for size, theirs in published.items():
    ours = make_plan(PRESETS[f"llama-{size.lower()}"], "qlora", qlora).least / 1e9
    print(f"LLaMA-{size}, QLoRA, a step: {theirs} GB published, {ours:.1f} GB planned")

# %% [markdown]
# ## Prompting against fine-tuning: where the lines meet
#
# Both in tokens read. Prompting reads the examples anew at every query. Training by LoRA reads 60 × 8 × 128 tokens, each
# for about the price of two (forward, and once back through the frozen weights). Merged, it adds nothing to a query.

# %%
training = 2 * 60 * 8 * 128
queries = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])


def lines_meet(*prompts: int, caption: str) -> None:
    """Plot the tokens read by prompts with examples of n tokens, and by LoRA."""
    series = {f"{n:,} tokens of examples": (queries, n * queries) for n in prompts}
    series["trained by LoRA"] = (queries, np.full(len(queries), training))
    title = "What was read, after so many queries"
    pictures.show(pictures.curves(title, series, "queries", "tokens", "xy"), caption)


def meet(tokens: int = 256) -> str:
    after = -(-training // tokens)
    return f"{tokens:,} tokens in each prompt: as much is read after {after:,} queries"


lines_meet(64, 256, 1024, caption="Find where each rising line crosses the level one.")

# %% [markdown]
# With a kernel running, move the slider; the picture above shows three of its places.


# %%
def draw(tokens: int = 256) -> None:
    lines_meet(tokens, caption=f"{meet(tokens)}.")


_ = ipywidgets.interact(draw, tokens=(16, 2048, 16))
for tokens in (64, 256, 1024):
    print(meet(tokens))

# %% [markdown]
# From there on, training is the cheaper way. It is worth its price only where it also answers as well. On this course's own
# task, with few examples, that question has no answer:

# %%
record = Records.read(results_folder() / "study-prompting.jsonl", "study prompting")
print(f"by chance: {1 / record.rows['prompt', 0, 0]['classes']:.1%}")
for k in (1, 2, 4, 8, 16):
    prompted, trained = (
        np.mean([row["accuracy"] for row in record.of(kind, k)])
        for kind in ("prompt", "trained")
    )
    print(f"{k:>2} examples: {prompted:.1%} prompted, {trained:.1%} trained")

# %% [markdown]
# A guess among eight topics is right as often. Between two ways at chance level, the one that reads less is not the better
# buy: neither has been worth anything yet.

# %% [markdown]
# ## What has no price
#
# Some reasons are not in these curves: how many examples there are, whether the wish still changes, whether one exact
# format is needed. Each answer weighs for training or against it. How much is an opinion, and this is ours.

# %%
weights = {  # above 0: for training
    "fewer than 16 examples": -2,
    "1,000 examples or more": 2,
    "fewer than 100 queries a day": -1,
    "100 queries a day or more": 2,
    "a general language": -1,
    "a special language": 2,
    "one exact format": 1,
    "wishes that change": -1,
    "a prototype": -2,
}
visitor = [answer for answer, weight in weights.items() if weight < 0]
colleague = [answer for answer, weight in weights.items() if weight > 0]
trial = ["100 queries a day or more", "wishes that change", "a prototype"]
cases = {"a prototype": visitor, "a daily service": colleague, "a trial": trial}
for who, answers in cases.items():
    total = sum(weights[answer] for answer in answers)
    print(f"{who}: {'fine-tune' if total > 0 else 'prompt'} ({total:+})")
    for answer in answers:
        print(f"  {weights[answer]:+} {answer}")

# %% [markdown]
# ## Standing on a giant
#
# SmolLM2-135M-Instruct was pretrained by others, on trillions of tokens. `minilora models get smollm2` fetches it once (98
# MB); from then on it works offline. With `ask = True`, the next cell asks it something that it has read about, and what
# a word means at a company that we invented. With the folder of an adapter, it asks the model that you taught.

# %%
ask = False  # True, once the model is here
adapter = None  # or what `minilora demo --model smollm2` left: "../runs/demo/adapter"
questions = ["What is the capital of France?", 'What does "brindle" mean on board?']
if ask:
    from minilora.quant import in_float, quantized_linears
    from minilora.train import load
    from minilora.train.answers import answers
    from minilora.train.methods import Options

    model, tokenizer = load.load_model("smollm2", adapter, Options().quantization)
    layers = [model.get_submodule(path) for path in quantized_linears(model)]
    weights, size = sum(x.num_quantized for x in layers), sum(x.nbytes for x in layers)
    print(f"{weights:,} weights in 4 bits: {size / 1e6:.0f} MB")
    with in_float(model):
        messages = [[{"role": "user", "content": text}] for text in questions]
        replies = answers(model, tokenizer, messages, 32)
    for text, method in zip(questions, replies, strict=True):
        print(f"{text}\n  {method}")
else:
    print("not asked: `minilora models get smollm2`, once, and then ask = True")

# %% [markdown]
# `minilora demo --model smollm2` teaches it the company's 80 terms, and asks in four ways: as it came; with four other
# questions and their answers in front; with four lines of the glossary in front, the right one among them; and after
# QLoRA, with nothing in front. It asks only what it was not trained on: known terms in *phrasings* that are new, and terms
# put to *use*. **Guess first:** which of the four is best at the one, and which at the other?
#
# The record of such runs, one a seed, comes with the package.

# %%
records = Records.read(results_folder() / "jargon.jsonl", "jargon")
runs = list(records.rows.values())
print(render(drawn(scores_grid(runs))))
print(f"{len(runs)} × `minilora demo --model smollm2`")

# %%
bars = {
    words: {
        test: float(
            np.mean([100 * run["rows"][row]["scores"][test]["f1"] for run in runs])
        )
        for test in ("phrasings", "uses")
    }
    for row, words in ROWS.items()
}
title, across = (
    "The glossary, asked in four ways",
    "F1 (%): words shared with the expected answer",
)
pictures.show(
    pictures.grouped_bars(title, bars, across, 100),
    "Compare the two bars of each way: phrasings ask for a meaning, uses apply it.",
)

# %%
for sentence in claims(runs):
    print("-", sentence)
print(*sample_lines(runs[0], 2), sep="\n")

# %% [markdown]
# Look at three differences. Between the two bars of one way: a meaning that is known by heart, and one that can be used.
# Between few-shot and open book: examples show what an answer looks like, and only the book says what the word means.
# And in the table, between the quiz before and after: that is what the jargon has cost elsewhere, although the model's
# own answers to other questions were mixed in.

# %% [markdown]
# ## Your turn
#
# Build it: [lessons/13_choosing/exercise.py](../lessons/13_choosing/exercise.py), then `minilora check 13`. And teach
# SmolLM2 something that only you know: `minilora curve --data questions.jsonl --methods qlora`.
#
# <details><summary>1. Why is the best method of all on the staircase, and why is that no reason to take it?</summary>
# Nothing is better, so nothing beats it. But whoever needs less can have it cheaper: any step below your bar will do, and
# the leftmost of those costs least.
# </details>
#
# <details><summary>2. Seeds cannot tell two methods apart, and one needs a third of the memory. What more do you ask?</summary>
# How much worse it may be (where does the interval end?), what it forgets (lesson 07), how large its file is, and whether
# it can be merged. If none of that decides, take the one with less memory.
# </details>
#
# <details><summary>3. The server keeps the keys and values of a prompt that never changes. What becomes of the
# crossover?</summary>
# It moves to the right: the prompt is read once. A query then pays only for looking at what was kept, and for the room
# that it takes. If that is less than what LoRA adds to a query where it is not merged, training never pays.
# </details>

# %% [markdown]
# ## Your own functions at work
#
# When all tasks pass, run this cell again: your own functions find the staircase and the crossing.

# %%
mine = yours.functions("13")
staircase = mine.frontier({n: (cost, one.mean) for n, (cost, one) in points.items()})
print("beaten by nothing:", ", ".join(NAMES[name] for name in staircase))
for tokens in (64, 256, 1024):
    count = mine.crossover(training, tokens, 0)
    print(f"{tokens:,} tokens in each prompt: training pays after {count:,} queries")
pictures.show(
    pictures.methods_at_cost(
        "Quality against memory, with your staircase",
        points,
        "MB alive at once in a training step",
        "domain, bits/character",
        levels,
        staircase,
    ),
    "The staircase joins the methods that your `frontier` returned.",
)
