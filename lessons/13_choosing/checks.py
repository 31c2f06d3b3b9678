"""The checks of lesson 13. They run in the checker's process."""

from math import ceil, floor

import numpy as np

from minilora.classroom import explaining, fine, promise, raised, search, task

USES = ()
PROMISES = {"adapter_sum": promise(shares=True)}  # one adapter's arrays may come back as they are


def some(d, *options):
    """Draw one of the values; in some cases, another one for the second call."""
    return d.choice(*options) if d.choice(True, False) else d.number(*options)


def explained(function, cases, mistakes):
    """Yield (case, answer, {hint: answer}), with the hint of a mistake if it explains all of these answers."""
    answers = [function(case) for case in cases]
    hint = explaining(answers, [mistakes(case) for case in cases])
    for case, answer in zip(cases, answers, strict=True):
        yield case, answer, {hint: answer.raw} if hint else {}


# SmolLM2-135M, a LLaMA in small, and one in which no two sizes are alike.
SMOLLM2 = {"layers": 30, "hidden": 576, "intermediate": 1536, "kv_width": 192, "vocab": 49152, "tied": True}
SHAPES = [
    {"layers": 2, "hidden": 2, "intermediate": 3, "kv_width": 2, "vocab": 5, "tied": True},
    {"layers": 3, "hidden": 4, "intermediate": 7, "kv_width": 2, "vocab": 11, "tied": True},
    {"layers": 3, "hidden": 4, "intermediate": 7, "kv_width": 2, "vocab": 11, "tied": False},
    SMOLLM2,
    {"layers": 3, "hidden": 4097, "intermediate": 11009, "kv_width": 1025, "vocab": 50257, "tied": False},
    {"layers": 80, "hidden": 8192, "intermediate": 22016, "kv_width": 8192, "vocab": 32000, "tied": False},
]


@task(1)
def crossing(student):
    """How much does one query save, once the model is trained? And how many of those pay for the training?

    saved = prompted - trained; training / saved queries, rounded up. What if nothing is saved?

    Training costs 7, a query 4 by a prompt and 2 trained, so that 2 are saved. After 3 queries it is 6, after 4 8: 4
    queries. At one price never; and what costs nothing has paid for itself before the first query.
    """
    search(student.crossover, crossover_inputs, tolerance=0)
    never = "A query by prompt costs no more here, so training never pays: return None."
    for training, prompted, trained in [*[(8, 4, 2), (7, 4, 2), (9, 2, 1.5), (10, 1, 3), (4, 2, 2), (0, 3, 1)]]:
        saved = prompted - trained
        if training and saved <= 0:
            mistakes = {
                never: lambda n: isinstance(n, int | float),
                "It divides by zero where both cost the same: " + never: raised("ZeroDivisionError"),
            }
            student.crossover(training, prompted, trained).equals(None, mistakes)
            continue
        right = ceil(training / saved) if training else 0
        mistakes = {
            "Training that costs nothing has been paid for before the first query: 0.": (
                lambda n, training=training: n is None and not training
            ),
            "The trained model's queries cost something too: what is saved is prompted - trained.": (
                ceil(training / prompted)
            ),
            "The trained model's queries cost something too; and round up, to a whole number of queries.": (
                training / prompted
            ),
            "Rounded down, training has not quite been paid for: round up.": floor(training / saved),
            "Queries come in whole numbers: round up.": training / saved,
            "One too many: with exactly this number of queries, both have cost the same.": right + 1,
            "The difference is the wrong way round: prompted - trained is what a query saves.": (
                lambda n, training=training, saved=saved: n in (None, ceil(-training / saved))
            ),
            "Divide what training costs by what a query saves.": saved / training if training else -1,
        }
        student.crossover(training, prompted, trained).equals(right, mistakes, tolerance=0)
    student.crossover(9, 2, 1.5).holds(
        lambda n: np.asarray(n).dtype.kind in "iu",
        "an int",
        fine("A number of queries is an int, and this is a float: math.ceil gives an int, np.ceil and // give floats."),
    )
    student.crossover(1_000_000, 2, 1).equals(
        1_000_000, instead={"It gives up: the lines may meet as far out as you like.": None}, tolerance=0
    )
    for costs, right, hint in (
        ((2**25 + 2, 5 * 2**24, 2**26), 3, "Rounded, or held in float32, a number loses digits that count."),
        ((1, 1 + 2**-17, 1), 2**17, NEARLY),
        ((1 + 2**-36, 2.0, 1.0), 2, "With one query fewer, training has not been paid for, however little is missing."),
    ):
        student.crossover(*costs).equals(right, hint=fine(hint), tolerance=0)


NEARLY = fine("Prices that are nearly the same are not the same: what is saved may be little.")
FREE = fine("Training that costs nothing has cost no more with 0 queries, whatever a query costs then: 0.")
FINE, COARSE = 2.0**-30, 1024.0  # units other than 1, in which sums and quotients are as exact


def crossover_inputs(d):
    """Draw costs in any unit; a query may cost nearly the same both ways."""
    unit = d.fine(NEARLY, d.choice(1, COARSE), FINE)
    training, prompted, trained = some(d, 10, 7.5, 12.5, 1000), some(d, 3, 2, 4.5, 8.5, 0), some(d, 1, 2, 0.5, 3.5, 0)
    near = d.fine(NEARLY, (0, 0), (2**-36, 2**-9))
    training = d.fine(FREE, training if training or prompted > trained else 10, 0)
    return [cost * unit for cost in (training + near[0] * (training > 0), prompted + near[1], trained)]


def linears_of(shape: dict) -> list[tuple[int, int]]:
    h, f, kv = shape["hidden"], shape["intermediate"], shape["kv_width"]
    return [(h, h), (h, kv), (h, kv), (h, h), (h, f), (h, f), (f, h)]


def drawn_shape(d) -> dict:
    shape = {"layers": some(d, 2, 1, 3, 30), "hidden": some(d, 4, 1, 6), "intermediate": some(d, 7, 4)}
    shape |= {"kv_width": some(d, 2, 1, 4), "vocab": some(d, 11, 1, 4), "tied": some(d, True, False)}
    sizes = {"hidden": 4097, "intermediate": 11009, "kv_width": 192, "vocab": 49152}
    return shape | d.fine(ROUNDED, {}, sizes)


ROUNDED = fine("In large models that is only nearly right: count with Python's whole numbers, not in float32.")


def is_nearly(number: int):
    return lambda got: 0 < abs(got - number) < 1e-5 * number


def counted(shape: dict, r: int) -> dict:
    layers, h = shape["layers"], shape["hidden"]
    return {
        "linears": layers * sum(i * o for i, o in linears_of(shape)),
        "embeddings": shape["vocab"] * h * (2 - shape["tied"]),
        "norms": (2 * layers + 1) * h,
        "lora": layers * sum(r * (i + o) for i, o in linears_of(shape)),
    }


@task(2)
def counting(student):
    """Write down (in, out) of the seven linear layers of a block. Which of them are not (hidden, hidden)?

    A layer (in, out) has in · out numbers, and LoRA r · (in + out) beside it. How many norms stand outside the blocks?
    What does a head of its own add?

    With hidden 4, kv_width 2 and intermediate 7, q is (4, 4) and has 16 numbers, k (4, 2) has 8, gate (4, 7) 28. LoRA
    with r = 3 has 3 · (4 + 2) = 18 beside k. Two blocks have 5 norms of 4 numbers.
    """
    search(student.count, lambda d: (drawn_shape(d), some(d, 3, 1, 8, 64)), tolerance=0)
    for shape in SHAPES:
        for r in (1, 3):
            answer, right = student.count(shape, r), counted(shape, r)
            layers, h, f, kv = (shape[name] for name in ("layers", "hidden", "intermediate", "kv_width"))
            mistakes = {
                ROUNDED: is_nearly(right["linears"]),
                "There are `layers` blocks: this is one.": right["linears"] // layers,
                "The MLP has three linear layers: gate, up and down.": right["linears"] - layers * h * f,
                "Keys and values are kv_width wide, not hidden.": layers * (4 * h * h + 3 * h * f),
                "The output projection is missing: attention has four linear layers.": (
                    right["linears"] - layers * h * h
                ),
                "They have no biases here.": right["linears"] + layers * sum(o for _, o in linears_of(shape)),
            }
            answer["linears"].equals(right["linears"], mistakes, tolerance=0)
            table = shape["vocab"] * h
            mistakes = {
                ROUNDED: is_nearly(right["embeddings"]),
                "Tied, the head uses the embedding's table: count it once.": 2 * table if shape["tied"] else -1,
                "Not tied, the head has a table of its own: count two.": table if not shape["tied"] else -1,
                "A table is (vocab, hidden).": shape["vocab"],
            }
            answer["embeddings"].equals(right["embeddings"], mistakes, tolerance=0)
            mistakes = {
                "The norm after the last block is missing.": 2 * layers * h,
                "A block has two norms.": lambda got, layers=layers, h=h: got in ((layers + 1) * h, layers * h),
                "A norm holds `hidden` numbers.": 2 * layers + 1,
                "A norm holds `hidden` numbers, no bias.": 2 * right["norms"],
            }
            answer["norms"].equals(right["norms"], mistakes, tolerance=0)
            both = 2 * h + h + kv
            mistakes = {
                ROUNDED: is_nearly(right["lora"]),
                "The rank is missing.": right["lora"] // r if r > 1 else -1,
                "A rank may be larger than the side of a matrix: A is (r, in) and B (out, r) all the same.": (
                    layers * sum(min(r, i, o) * (i + o) for i, o in linears_of(shape))
                ),
                "LoRA stands in the blocks alone: the head and the embeddings have none.": (
                    lambda got, lora=right["lora"], added=r * (h + shape["vocab"]): (
                        got in (lora + added, lora + 2 * added)
                    )
                ),
                "There are `layers` blocks: this is one.": right["lora"] // layers if layers > 1 else -1,
                "Only q and v were counted: here, LoRA stands beside all seven.": layers * r * both,
                "A has r · in numbers and B has out · r: add them, do not multiply.": (
                    layers * sum(r * i * o for i, o in linears_of(shape))
                ),
                "Keys and values are kv_width wide, not hidden.": layers * r * (11 * h + 3 * f),
                "Two matrices stand beside each layer: A (r, in) and B (out, r).": (
                    lambda got, shape=shape, r=r: (
                        got
                        in [
                            shape["layers"] * r * sum(i for i, _ in linears_of(shape)),
                            shape["layers"] * r * sum(o for _, o in linears_of(shape)),
                        ]
                    )
                ),
            }
            answer["lora"].equals(right["lora"], mistakes, tolerance=0)
    parameters = sum(counted(SMOLLM2, 1)[kind] for kind in ("linears", "embeddings", "norms"))
    answer = student.count(SMOLLM2, 8)
    answer.holds(
        lambda got: sum(got[kind] for kind in ("linears", "embeddings", "norms")) == parameters,
        f"{parameters:,} numbers in SmolLM2-135M",
        "The sum is not what the published model has.",
    )


@task(3)
def planning(student):
    """What trains? That decides gradients and optimizer. What is stored in 4 bits? That decides the weights.

    A byte has 8 bits. Gradients: 2 bytes for each number that trains; optimizer: 8. Full: everything trains.

    6,400 weights of a linear layer: 3,200 bytes of codes, 100 scales of 1 byte, 100/256 of a scale of 4 bytes,
    3,301.5625 in all. 1,000 numbers that train: 2,000 bytes of gradients, 8,000 of moments. A block's input with batch
    5, length 4 and hidden 4: 160 bytes, and there are several blocks.
    """
    search(student.memory, memory_inputs, tolerance=1e-9)
    every = "These are of all weights: only what trains has them, and the base is frozen."
    added = "Only the adapter was counted: with full fine-tuning, every weight trains."
    for shape in SHAPES[1:]:
        for batch, length in [(1, 2), (5, 4), (1, 512)]:
            for method in ("full", "lora", "qlora"):
                r = 3
                answer, n = student.memory(shape, method, r, batch, length), counted(shape, r)
                others, lora = n["embeddings"] + n["norms"], n["lora"]
                total = n["linears"] + others
                trains = total if method == "full" else lora
                wrong = total + lora if method != "full" else lora
                of_4 = 4 + 8 / 64 + 32 / (64 * 256)
                weights = n["linears"] * of_4 / 8 + 2 * others if method == "qlora" else 2 * total
                mistakes = {
                    "These are bits: a byte has 8.": n["linears"] * of_4 + 2 * others,
                    "Embeddings and norms stay in 16 bits: only the blocks' linear layers are in 4.": total * of_4 / 8,
                    "The scales are missing: 8 bits for each 64 weights, and 32 for each 256 of those.": (
                        n["linears"] / 2 + 2 * others
                    ),
                    "A scale takes 8 bits here, not 32: the scales are quantized as well.": (
                        n["linears"] * 4.5 / 8 + 2 * others
                    ),
                    "The scales of the scales are missing: 32 bits for each 256 scales of 64 weights.": (
                        n["linears"] * 4.125 / 8 + 2 * others
                    ),
                    "qlora has its linear layers in 4 bits.": 2 * total,
                    "These are 32 bits a number: weights are in 16.": 4 * total,
                    "Only qlora's base is in 4 bits.": n["linears"] * of_4 / 8 + 2 * others,
                    "The embeddings and norms are missing.": lambda got, n=n, of_4=of_4: (
                        got in (2 * n["linears"], n["linears"] * of_4 / 8)
                    ),
                    "The adapters have a place of their own.": weights + 2 * lora,
                    "Parts of a scale count as parts: nothing is rounded.": (
                        lambda got, weights=weights: 0 < abs(got - weights) < 6
                    ),
                }
                answer["weights"].equals(weights, mistakes, tolerance=1e-9)
                mistakes = {
                    "Full fine-tuning adds nothing.": 2 * lora if method == "full" else -1,
                    "The adapters are in 16 bits, 2 bytes a number.": lambda got, lora=lora: got in (lora, 4 * lora),
                    "LoRA adds its own numbers.": 0,
                }
                answer["adapters"].equals(0 if method == "full" else 2 * lora, mistakes, tolerance=1e-9)
                for kind, size, what in (
                    ("gradients", 2, "A gradient has 16 bits: 2 bytes for each number that trains."),
                    ("optimizer", 8, "AdamW keeps two numbers of 4 bytes for each that trains: 8 bytes."),
                ):
                    mistakes = {
                        (added if method == "full" else every): (
                            lambda got, size=size, wrong=wrong, total=total: got in (size * wrong, size * total)
                        ),
                        what: lambda got, trains=trains: got in [k * trains for k in (1, 2, 4, 8, 12, 16)],
                    }
                    answer[kind].equals(size * trains, mistakes, tolerance=1e-9)
                inputs = shape["layers"] * batch * length * shape["hidden"] * 2
                mistakes = {
                    "The input of *each* block is kept: times `layers`.": inputs // shape["layers"],
                    "Two bytes a number.": lambda got, inputs=inputs: got in (inputs // 2, 2 * inputs),
                    "The batch is missing.": inputs // batch if batch > 1 else -1,
                    "The input of a block is (batch, length, hidden), not as wide as the MLP.": (
                        inputs // shape["hidden"] * shape["intermediate"]
                    ),
                }
                answer["activations"].equals(inputs, mistakes, tolerance=1e-9)
    for method in ("", "ora", "full, lora", "LoRA"):
        student.memory(SHAPES[0], method, 3, 1, 2).equals(raised("ValueError"), hint=NAME)
    for method in ("prompt",):
        mistakes = {
            "A method that the formula is not for must be refused: raise ValueError.": lambda got: True,
            "A method that the formula is not for must be refused by a ValueError, not by chance.": raised("Exception"),
        }
        student.memory(SHAPES[0], method, 3, 1, 2).equals(raised("ValueError"), mistakes)


NAME = fine("Parts of a name, or capitals, pass for it: compare whole names, `in` a tuple and not in a string.")


def memory_inputs(d):
    method = some(d, "lora", "full", "qlora", "qlora", "prompt")
    return drawn_shape(d), method, some(d, 3, 1, 8), some(d, 1, 5), some(d, 2, 4, 512)


T = {2: 12.706, 3: 4.303, 4: 3.182}  # of Student's, by the number of seeds, for 95 %
MEASURED = [
    ({"a": (10, [2.0, 2.125]), "b": (1, [9.0, 9.125]), "c": (5, [2.0, 2.25])}, 0.0625, 2.0),  # intervals of their own
    ({"a": (10, [2.0, 2.5]), "b": (1, [4.0, 5.0]), "c": (5, [3.0, 3.5])}, 0.5, T[2]),  # far
    ({"a": (10, [2.0, 2.5, 3.0]), "b": (5, [2.125, 2.625, 3.125]), "c": (1, [2.5, 3.0, 3.625])}, 0.25, T[3]),  # shown
    ({"a": (10, [2.0, 2.5, 3.0]), "b": (5, [2.125, 2.625, 3.125]), "c": (1, [2.0, 3.0, 2.75])}, 0.25, T[3]),  # unknown
    ({"a": (10, [2.0, 2.5, 3.0]), "b": (5, [2.25, 2.75, 3.25])}, 0.25, T[3]),  # ends at the margin
    ({"a": (10, [2.0, 2.5, 3.0]), "b": (5, [2.25, 2.75, 3.25])}, 0.125, T[3]),  # and a step above
    ({"a": (10, [2.0, 3.0, 4.0]), "b": (5, [2.125, 3.0, 4.0625])}, 0.25, T[3]),  # pairs agree, runs scatter
    ({"a": (10, [2.0, 2.0, 2.0]), "b": (5, [2.125, 2.125, 2.125])}, 0.25, T[3]),  # nothing scatters
    ({"a": (10, [2.0, 3.0, 4.0]), "b": (5, [2.25, 3.25, 4.0])}, 0.25, T[3]),  # each seed is within the margin
    *[({"a": (10, [2.0, 3.0, 4.0]), "b": (5, [2.25, 3.0, 4.0])}, margin, T[3]) for margin in (0.2, 0.33, 0.4)],
    ({"a": (10, [2.0, 3.0, 4.0]), "b": (5, [4.0, 2.125, 3.0])}, 0.5, T[3]),  # sorted, they would agree
    ({"a": (10, [2.0, 2.0, 2.0, 3.0]), "b": (5, [2.25, 2.0, 2.0, 3.0]), "c": (1, [9.0, 9.0, 9.0, 1.0])}, 1, T[4]),
    ({"a": (10, [2.0, 2.0, 5.0]), "b": (5, [2.5, 2.5, 2.5])}, 0.5, T[3]),  # the median has another best
    ({"a": (10, [2.0, 3.0, 4.0, 5.0]), "b": (5, [2.125, 3.0, 4.0, 5.125])}, 0.25, T[4]),  # over the root of n
]


def ends(measured: dict, t, ddof=1, root=True, paired=True, middle=np.mean, sign=1, order=list) -> dict:
    """Return, by name, the upper end of the interval of the differences to the best."""
    runs = {name: np.array(order(bits)) for name, (_, bits) in measured.items()}
    best = min(runs, key=lambda name: middle(runs[name]))
    bounds = {}
    for name, run in runs.items():
        difference = sign * (run - runs[best])
        spread = difference.std(ddof=ddof) if paired else np.hypot(run.std(ddof=ddof), runs[best].std(ddof=ddof))
        bounds[name] = middle(difference) + t * (name != best) * spread / (np.sqrt(len(run)) if root else 1)
    return bounds


def as_good(measured: dict, margin: float, t: float, **changes) -> str:
    """Return the cheapest whose interval ends at the margin or below."""
    return cheapest(measured, [name for name, end in ends(measured, t, **changes).items() if end <= margin])


def cheapest(measured: dict, names) -> str:
    return min(names, key=lambda name: measured[name][0], default="none")


def mean_of(measured: dict, name: str) -> float:
    return float(np.mean(measured[name][1]))


def not_told_apart(measured: dict, margin: float, t: float) -> str:
    """Return the cheapest whose interval holds 0 or less."""
    return cheapest(measured, [name for name, start in ends(measured, -t).items() if start <= 0])


def overlapping(measured: dict, margin: float, t: float) -> str:
    """Return the cheapest whose own interval reaches, within the margin, down to that of the best mean."""
    own = {name: (mean_of(measured, name), t * np.std(x, ddof=1) / len(x) ** 0.5) for name, (_, x) in measured.items()}
    end = sum(min(own.values()))
    return cheapest(measured, [name for name, (mean, half) in own.items() if mean - half <= end + margin])


def seeds_within(measured: dict, margin: float) -> list[str]:
    best = min(measured, key=lambda name: mean_of(measured, name))
    return [name for name in measured if max(np.subtract(measured[name][1], measured[best][1])) <= margin]


NOT_SHOWN = {
    "Whether the intervals of two methods overlap is asked: take the interval of their differences, seed by seed.": (
        overlapping
    ),
    "This is the cheapest of all: only those that are as good as the best come into question.": (
        lambda measured, margin, t: cheapest(measured, measured)
    ),
    "This is the best mean. Others are as good, and one of those is cheaper.": (
        lambda measured, margin, t: min(measured, key=lambda name: mean_of(measured, name))
    ),
    "Not told apart is not as good: the interval must end within the margin, and not only hold 0.": not_told_apart,
    "The mean of the differences is within the margin: the end of their interval has to be.": (
        lambda measured, margin, t: as_good(measured, margin, 0)
    ),
    "Compare seed by seed: what counts is how far the differences scatter, not each method.": (
        lambda measured, margin, t: as_good(measured, margin, t, paired=False)
    ),
    "np.std divides by n: with few seeds that is too little. Take ddof=1.": (
        lambda measured, margin, t: as_good(measured, margin, t, ddof=0)
    ),
    "That is the standard deviation: the standard error is that over the root of n.": (
        lambda measured, margin, t: as_good(measured, margin, t, root=False)
    ),
    "That each seed is within the margin is not enough: the interval of the differences has to be.": (
        lambda measured, margin, t: cheapest(measured, seeds_within(measured, margin))
    ),
    "One standard error is not the interval: it ends t of them above the mean.": (
        lambda measured, margin, t: as_good(measured, margin, 1)
    ),
    "Two standard errors are for many seeds: take the t that is given.": (
        lambda measured, margin, t: as_good(measured, margin, 2)
    ),
    "That is the other end of the interval: what counts is how many bits more it may be.": (
        lambda measured, margin, t: as_good(measured, margin, -t)
    ),
    "The sign is wrong: a method has more bits than the best, on average.": (
        lambda measured, margin, t: as_good(measured, margin, t, sign=-1)
    ),
    "An interval that ends just at the margin is within it.": (
        lambda measured, margin, t: as_good(measured, margin - 1e-9, t) if margin else None
    ),
    "The seeds were put into another order: then a difference compares two seeds.": (
        lambda measured, margin, t: as_good(measured, margin, t, order=sorted)
    ),
    "This has the most bits: fewer are better.": (
        lambda measured, margin, t: max(measured, key=lambda name: mean_of(measured, name))
    ),
    "This has the luckiest seed: compare the means.": (
        lambda measured, margin, t: min(measured, key=lambda n: min(measured[n][1]))
    ),
    "The median is another middle: compare the means.": (
        lambda measured, margin, t: as_good(measured, margin, t, middle=np.median)
    ),
}


def not_shown(*case):
    """Return {hint: answer of the mistake}."""
    return {hint: rule(*case) for hint, rule in NOT_SHOWN.items()}


@task(4)
def as_good_as_the_best(student):
    """Which method has the fewest bits on average? How many more may another need, if seeds are compared with seeds?

    Take the differences to the best, seed by seed: their mean, and t standard errors above it. The best differs from
    itself by nothing. Then bits have said all that they can, and the cost decides.

    With t = 4.3, [2.25, 2.5, 2.75] and [2.125, 2.375, 2.625] differ by 0.125 with every seed: the interval is 0.125 and
    nothing else. Were the first [2.0, 2.5, 3.0], it would end at 0.125 + 4.3 · 0.25 / 1.73 = 0.75.
    """
    search(student.cheapest_as_good, measured_inputs, instead=not_shown)
    for case, answer, known in explained(
        lambda case: student.cheapest_as_good(*case), MEASURED, lambda c: not_shown(*c)
    ):
        answer.equals(as_good(*case), instead=known)


def measured_inputs(d):
    """Draw runs whose differences are exact, so that an interval without width can end exactly at the margin."""
    unit, seeds = d.choice(1 / 8, 2**-18), d.choice(2, 3, 4)  # exact in float32, too
    least, step = d.choice((1, unit), (0, 1), (3e9, 1e9))
    count = d.size(1, 5)
    costs = [least + step * place for place in d.shuffled(range(count))]
    first = d.choice(2, 12) + d.whole(seeds, below=9) * unit
    steps = [d.whole(1, below=4) + d.choice(0, 1) * d.whole(seeds, below=d.choice(2, 9)) for _ in range(count - 1)]
    bits = [list(first), *(list(first + step * unit) for step in steps)]
    means = [np.mean(row) for row in bits]
    best = means.index(min(means))
    rows = [[float(x + (i != best and mean == min(means))) for x in bits[i]] for i, mean in enumerate(means)]
    named = [(name, (cost, row)) for name, cost, row in zip(d.shuffled("abcde"), costs, rows, strict=False)]
    return dict(d.shuffled(named)), d.number(1, 0, 4, 20) * unit, d.number(T[seeds], 2.0)


POINTS = [
    {"a": (2, 3.0), "b": (1, 2.0), "c": (3, 2.5)},
    {"a": (1, 3.0)},
    {"full": (9, 2.0), "lora": (4, 2.25), "dora": (5, 2.5), "norms": (1, 2.75)},
    {"a": (3, 2.0), "b": (3, 2.5), "c": (1, 4.0)},
    {"a": (3, 2.0), "b": (5, 2.0), "c": (1, 4.0)},
    {"a": (3, 2.0), "b": (3, 2.0), "c": (6, 1.0), "d": (7, 3.0)},
    {"a": (5, 1.0), "b": (4, 2.0), "c": (3, 3.0), "d": (2, 4.0), "e": (1, 5.0), "f": (4, 4.5)},
    {"a": (1, 3.0), "b": (1, 2.0), "c": (2, 2.0), "d": (3, 1.75), "e": (4, 1.0)},
    {"a": (9, 12.0), "b": (9, 12.0), "c": (10, 11.0), "d": (9, 12.0), "e": (0, 13.0)},
]


def unbeaten(points: dict, beats) -> list[str]:
    names = [n for n, p in points.items() if not any(beats(q, p) for m, q in points.items() if m != n)]
    return sorted(names, key=lambda name: points[name][0])


def right_beats(a, b) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@task(5)
def keeping(student):
    """For each point, ask of every other: is it no worse in both, and better in one?

    Write a function that says whether one point beats another. Keep what nothing beats, then sort by cost.

    (4, 2.0) beats (4, 4.5): as cheap, and better. (5, 1.0) and (4, 2.0) do not beat each other, nor do two points at
    (4, 2.0), so that all of these stay.
    """
    search(student.driver.frontier, points_inputs)
    for points in POINTS:
        right = unbeaten(points, right_beats)
        costs = [points[name][0] for name in right]
        student.frontier(points).holds(
            lambda got, right=right, costs=costs, points=points: (
                isinstance(got, list | tuple)
                and sorted(got) == sorted(right)
                and [points[name][0] for name in got] == costs
            ),
            f"{', '.join(right)} (the cheapest first)",
            "Other points are kept than those that nothing beats.",
            instead={
                "Nothing is kept: no point beats itself. Better in at least one is a part of it.": (
                    lambda got: got is not None and len(got) == 0
                ),
                "The cheapest comes first.": lambda got, right=right: sorted(got) == sorted(right),
                "Those are the points that are beaten.": (
                    lambda got, right=right, points=points: set(got) == set(points) - set(right)
                ),
                "A point that is worse in one and equal in the other is beaten as well.": (
                    lambda got, points=points: (
                        sorted(got) == sorted(unbeaten(points, lambda a, b: a[0] < b[0] and a[1] < b[1]))
                    )
                ),
                "Two points at one place do not beat each other: both stay.": (
                    lambda got, right=right, points=points: (
                        set(got) == set(unbeaten(points, lambda a, b: a[0] <= b[0] and a[1] <= b[1]))
                        or (set(got) < set(right) and {points[n] for n in got} == {points[n] for n in right})
                    )
                ),
                "Less is better in both, bits as well.": (
                    lambda got, points=points: (
                        set(got) == set(unbeaten(points, lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a != b))
                    )
                ),
                "Nothing was left out: some points are beaten by others.": (
                    lambda got, points=points: set(got) == set(points)
                ),
                "Only the best of all was kept: a cheaper one with more bits may be what somebody needs.": (
                    lambda got: len(got) == 1
                ),
                "Of two that cost the same, the one with more bits is beaten, whichever comes first.": (
                    lambda got, points=points: len({points[name] for name in got}) > len({points[n][0] for n in got})
                ),
                "A point above the line between two others is left out; nothing beats it.": (
                    lambda got, right=right: set(got) < set(right)
                ),
            },
        )


def points_inputs(d):
    """Draw points, often equal or nearly equal."""
    names, bits = d.shuffled("abcdef"[: d.size(0, 6)]), d.choice(0.5, 2**-12)
    (cost, step), least = d.choice((1, 1), (1, 2**-12), (0, 4), (8, 1), (9e9, 100)), d.choice(1, 12)
    return ({name: (cost + step * d.size(0, 3), least + bits * int(d.whole(below=4))) for name in names},)


def options(**rows) -> dict:
    return {name: dict(zip(("bits", "memory", "training", "query"), row, strict=True)) for name, row in rows.items()}


THREE = options(prompt=(2.5, 20, 0, 9), lora=(2.25, 60, 6000, 2), full=(2.125, 120, 5000, 2))
CASES = [
    {"bar": 3.0, "memory": 200, "queries": 0, "options": THREE},
    {"bar": 3.0, "memory": 200, "queries": 10, "options": THREE},
    {"bar": 2.25, "memory": 100, "queries": 10, "options": THREE},
    {"bar": 3.0, "memory": 100, "queries": 1000, "options": THREE},
    {"bar": 3.0, "memory": 200, "queries": 1000, "options": THREE},
    {"bar": 2.0, "memory": 200, "queries": 10, "options": THREE},
    {"bar": 3.0, "memory": 10, "queries": 10, "options": THREE},
    {"bar": 2.5, "memory": 20, "queries": 10, "options": THREE},
    {
        "bar": 3.0,
        "memory": 100,
        "queries": 10,
        "options": options(a=(2.5, 10, 50, 5), b=(2.5, 10, 0, 10), c=(2.0, 10, 90, 3)),
    },
    *(
        {"bar": 3.0, "memory": 100, "queries": 10, "options": options(**{n: (2.5, 10, *row) for n, row in rows})}
        for rows in (
            [("a", (0, 10)), ("b", (60, 2)), ("c", (50, 3))],
            [("a", (60, 2)), ("b", (40, 4)), ("c", (50, 3))],
            [("a", (50, 3)), ("b", (60, 2))],
            [("a", (60, 5)), ("b", (80, 2))],
            [("a", (28, 1)), ("b", (0, 4))],
        )
    ),
]


def held_out(number: int = 24) -> list[dict]:
    """Draw cases that no student has seen."""
    rng = np.random.default_rng(13)
    cases = []
    while len(cases) < number:
        rows = {}
        for name in ("prompt", "lora", "qlora", "full", "norms"):
            training = 0 if name == "prompt" else int(rng.integers(1, 20)) * 500
            rows[name] = (float(rng.integers(16, 26)) / 8, int(rng.integers(2, 15)) * 10, training)
            rows[name] += (int(rng.integers(6, 12)) if name == "prompt" else int(rng.integers(1, 6)),)
        case = {"bar": float(rng.integers(18, 26)) / 8, "memory": int(rng.integers(4, 15)) * 10}
        case |= {"queries": int(rng.choice([1, 100, 1000, 10000])), "options": options(**rows)}
        prices = [(total(case, name), one["training"]) for name, one in case["options"].items()]
        if len(set(prices)) == len(prices):  # else there is more than one answer
            cases.append(case)
    return cases


def chosen(case: dict, bar=True, memory=True, key=None) -> str | None:
    key = key or (lambda one: (price(case, one), one["training"]))
    keys = {
        name: key(one)
        for name, one in case["options"].items()
        if (not bar or one["bits"] <= case["bar"]) and (not memory or one["memory"] <= case["memory"])
    }
    return min(keys, key=keys.get) if keys else None


def least(case: dict, key) -> list[str | None]:
    """Return all feasible options with the least key, [None] if there are none."""
    fit = {n: key(one) for n, one in case["options"].items() if one["bits"] <= case["bar"]}
    fit = {n: cost for n, cost in fit.items() if case["options"][n]["memory"] <= case["memory"]}
    return [n for n in fit if fit[n] == min(fit.values())] or [None]


def one_by_one(case: dict, is_late: bool) -> str | None:
    """Choose by going through the options in order of training cost: does each pay off against the best so far?"""
    best, options = None, case["options"]
    for name in sorted(options, key=lambda name: options[name]["training"]):
        one = options[name]
        if one["bits"] > case["bar"] or one["memory"] > case["memory"]:
            continue
        saved = options[best]["query"] - one["query"] if best else 1
        if best is None or saved > 0 and case["queries"] >= ceil(one["training"] / saved) + is_late:
            best = name
    return best


NOT_CHOSEN = {
    "Only the price of a query was compared: training costs something as well.": (
        lambda case: least(case, lambda one: one["query"])
    ),
    "The queries were not counted: the cost is training + queries · query.": (
        lambda case: least(case, lambda one: one["training"])
    ),
    "The fewest bits are not asked for: of those that reach the bar, take the cheapest.": (
        lambda case: least(case, lambda one: one["bits"])
    ),
    "One query was counted: there are `queries` of them.": (
        lambda case: least(case, lambda one: one["training"] + one["query"])
    ),
    "Memory is a limit and no cost: of those that fit, take the cheapest.": (
        lambda case: least(case, lambda one: one["memory"])
    ),
    "Two cost the same in all: take the one whose training costs less.": (
        lambda case: least(case, lambda one: price(case, one))
    ),
    "One query too late: with exactly so many queries, the one that costs more to train is already the cheaper.": (
        lambda case: least(case, lambda one: one["training"] + max(case["queries"] - 1, 0) * one["query"])
    ),
    "Where both are trained, cheaper queries need to pay for the difference between the two trainings alone.": (
        lambda case: [one_by_one(case, is_late) for is_late in (False, True)]
    ),
}


def not_chosen(case):
    """Return {hint: whether an answer is one of the mistake's}."""
    return {hint: lambda got, rule=rule: got in rule(case) for hint, rule in NOT_CHOSEN.items()}


@task(6)
def choosing(student):
    """Which options will do at all? And what does each of those cost, over all queries?

    Leave out what is over the bar or over the memory; at it is allowed. Compare training once and all queries. Where
    nothing is left, the answer is None.

    Three will do, for 10 queries: training 50 and 5 a query are 100, 0 and 10 are 100 as well, 90 and 3 are 120. Of the
    two that cost 100, take the one with no training. (Python compares (100, 0) and (100, 50) like that.)
    """
    search(student.choose, case_inputs, instead=not_chosen)
    for case, answer, known in explained(student.choose, [*CASES, *held_out()], not_chosen):
        answer.equals(
            chosen(case),
            instead={
                "No option will do here: return None.": raised("ValueError", "empty"),
                "There may be no queries at all: do not divide by them.": raised("ZeroDivisionError"),
            }
            | known
            | {
                "It has more bits than the bar allows.": lambda got, case=case: (
                    got is not None and case["options"][got]["bits"] > case["bar"]
                ),
                "It takes more memory than there is.": lambda got, case=case: (
                    got is not None and case["options"][got]["memory"] > case["memory"]
                ),
                "An option will do, and None came: at the bar, or with all of the memory, is allowed.": None,
                "Two cost the same in all: take the one whose training costs less.": (
                    lambda got, case=case: total(case, got) == total(case, chosen(case))
                ),
            },
        )


def case_inputs(d):
    """Draw cases, often with equal totals or options at a limit, or nearly; training costs all differ."""
    names = d.shuffled(["prompt", "lora", "qlora", "full", "norms"])[: d.size(0, 5)]
    unit, query, little = d.choice((10, 1, 0), (7, 1, 0), (2**-10, 1, 0), (2**-10, 2**-10, 0), (10, 1, 2**-10))
    rows = {
        name: (2 + int(d.whole(below=4)) / 4 + little * d.choice(0, 1), 1000 * d.size(0, 3) + d.choice(0, 1))
        + (unit * place, 1 + query * d.size(0, 3))
        for place, name in zip(d.shuffled(range(len(names))), names, strict=True)
    }
    bar, memory, queries = 2 + int(d.whole(below=5)) / 4, 1000 * d.size(0, 4), some(d, 10, 0, 1, 5, 10**10)
    pairs = [(a, b) for a in rows.values() for b in rows.values() if a[2] > b[2] and a[3] < b[3]]
    if d.choice(False, True) and pairs:  # about where two cost the same
        (*_, training, query), (*_, less, more) = pairs[int(d.whole(below=len(pairs)))]
        queries = max(0, ceil((training - less) / (more - query)) + int(d.whole(below=3)) - 1)
    return ({"bar": bar, "memory": memory, "queries": queries, "options": options(**rows)},)


def price(case: dict, one: dict) -> float:
    return one["training"] + case["queries"] * one["query"]


def total(case: dict, name: str) -> float:
    return price(case, case["options"][name])


def adapters_inputs(d):
    """Draw one to three adapters of one weight with different ranks."""
    d_in, d_out = d.size(), d.size()
    adapters = []
    for _ in range(d.choice(2, 1, 3)):
        r = d.size(1, 3)
        scales = d.number(2.0, 0.5, 0.1), d.number(1.0, -0.5, 0.25, 0.0, 3.0)
        adapters.append((d.array(r, d_in), d.array(d_out, r), *scales))
    return adapters, d.number(1.0, 0.5, 0.0, -1.0)


def summed(adapters, strength, scale=lambda s, w: s * w):
    return strength * sum(scale(s, w) * B @ A for A, B, s, w in adapters)


ROWS = "Each adapter keeps its rows: A has as many as all ranks together."


def facts_of_sums(pair):
    A, B = pair
    return {
        "A's shape": np.shape(A),
        "B's shape": np.shape(B),
        "B A": np.asarray(B) @ A,
        "dtypes": f"{A.dtype} {B.dtype}",
    }


@task(7)
def adding(student):
    """What is the rank of a sum of two updates, in general? What shapes must A and B have, then?

    Stack the A's as rows and the B's as columns: the product of the stacks is the sum of the products. Put each
    update's numbers, strength, w and s, into one of its two factors.

    Of ranks 1: A₁ = [1, 0], B₁ = [2; 3] and A₂ = [0, 1], B₂ = [4; 5] give A = [[1, 0], [0, 1]] and B = [[2, 4], [3,
    5]], and B A = [[2, 4], [3, 5]]. Twice the second: B = [[2, 8], [3, 10]].
    """
    hints = {
        "A's shape": ROWS,
        "B's shape": "Each adapter keeps its columns: B has as many as all ranks together.",
        "dtypes": fine("A and B have another dtype than the adapters: a NumPy number times float32 is float64."),
    }
    search(student.adapter_sum, adapters_inputs, facts=facts_of_sums, hints=hints)
    search(student.driver.sum_of_numpys, adapters_inputs, 10, facts=facts_of_sums, hints=hints)
    one, two = np.array([[1.0, 2.0]]), np.array([[3.0, -1.0], [0.5, 1.5]])
    B1, B2 = np.array([[1.0], [-2.0], [4.0]]), np.array([[2.0, 1.0], [0.0, 3.0], [-1.0, 1.0]])
    adapters = [(one, B1, 2.0, 0.75), (two, B2, 0.5, -3.0)]
    for strength in (1.0, 0.25):
        answer = student.adapter_sum(adapters, strength)
        answer.returns({"Ranks may differ: stack, and do not add.": raised("ValueError", "broadcast")})
        answer.holds(
            lambda pair, strength=strength: np.allclose(np.asarray(pair[1]) @ pair[0], summed(adapters, strength)),
            "B A is the sum of the updates",
            "B A is not the sum of the updates.",
            instead={ROWS: lambda pair: len(pair[0]) != 3}
            | {
                hint: lambda pair, wrong=wrong: np.allclose(np.asarray(pair[1]) @ pair[0], wrong)
                for hint, wrong in {
                    "The scalings alpha / r are missing.": summed(adapters, strength, lambda s, w: w),
                    "The weights are missing.": summed(adapters, strength, lambda s, w: s),
                    "The strength is missing.": summed(adapters, 1.0),
                    "The strength is counted twice: it belongs to one of the two factors.": summed(
                        adapters, strength**2
                    ),
                    "Weights are counted twice: they belong to one of the two factors.": summed(
                        adapters, strength, lambda s, w: s * w * w
                    ),
                    "Scalings are counted twice: they belong to one of the two factors.": summed(
                        adapters, strength, lambda s, w: s * s * w
                    ),
                    "Negative weights take away: their sign is lost.": summed(
                        adapters, strength, lambda s, w: s * abs(w)
                    ),
                    "That is the mean: a sum was asked for.": summed(adapters, strength) / 2,
                    "Weights need not add up to 1: use them as they are.": summed(adapters, strength / -2.25),
                }.items()
                if strength != 1 or "trength" not in hint
            },
        )
    whole = student.adapter_sum(adapters)
    whole.holds(
        lambda pair: np.allclose(np.asarray(pair[1]) @ pair[0], summed(adapters, 1.0)),
        "the whole sum, where no strength is given",
        "strength is 1 where it is not given.",
    )
