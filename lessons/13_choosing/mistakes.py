"""Answers to lesson 13 that the checks are tried on."""

from minilora.classroom import Mistake, Right

SIZES = 'h, f, kv, n = shape["hidden"], shape["intermediate"], shape["kv_width"], shape["layers"]\n'


def as_dictionary(parts: dict) -> str:
    return "{" + ", ".join(f'"{name}": {code}' for name, code in parts.items()) + "}"


LINEARS = SIZES + "pairs = [(h, h), (h, kv), (h, kv), (h, h), (h, f), (h, f), (f, h)]\n"


def counts(linears=None, embeddings=None, norms=None, lora=None) -> str:
    """A count with one part of it wrong."""
    parts = {
        "linears": linears or "n * sum(i * o for i, o in pairs)",
        "embeddings": embeddings or 'shape["vocab"] * h * (1 if shape["tied"] else 2)',
        "norms": norms or "(2 * n + 1) * h",
        "lora": lora or "n * r * sum(i + o for i, o in pairs)",
    }
    return LINEARS + "return " + as_dictionary(parts)


BYTES = """
if method not in ("full", "lora", "qlora"):
    raise ValueError(method)
c = count(shape, r)
others = c["embeddings"] + c["norms"]
every = c["linears"] + others
bits = 4.126953125 if method == "qlora" else 16
added = 0 if method == "full" else c["lora"]
trains = every if method == "full" else added
"""


def bytes_of(weights=None, adapters=None, gradients=None, optimizer=None, activations=None) -> str:
    """A memory with one part of it wrong."""
    parts = {
        "weights": weights or 'c["linears"] * bits / 8 + 2 * others',
        "adapters": adapters or "2 * added",
        "gradients": gradients or "2 * trains",
        "optimizer": optimizer or "8 * trains",
        "activations": activations or 'shape["layers"] * batch * length * shape["hidden"] * 2',
    }
    return BYTES + "return " + as_dictionary(parts)


MEANS = """
means = {name: sum(bits) / len(bits) for name, (cost, bits) in measured.items()}
ranges = {name: max(bits) - min(bits) for name, (cost, bits) in measured.items()}
best = min(means, key=means.get)
"""
NEAR = "near = [n for n in measured if means[n] - means[best] <= (ranges[n] + ranges[best]) / 2]\n"
COSTS = "return min(near, key=lambda name: measured[name][0])"

FIT = """
fit = {n: o for n, o in case["options"].items() if o["bits"] <= case["bar"] and o["memory"] <= case["memory"]}
if not fit:
    return None
"""
BY_TOTAL = 'return min(fit, key=lambda n: (fit[n]["training"] + case["queries"] * fit[n]["query"], fit[n]["training"]))'

MISTAKES = [
    Mistake(
        "crossover",
        "a tolerance",
        """
        saved = prompted - trained
        if training <= 0:
            return 0
        return ceil(training / saved) if saved > 1e-3 else None
        """,
        "nearly the same",
    ),
    Mistake(
        "count",
        "in float32",
        """
        h, f, kv = shape["hidden"], shape["intermediate"], shape["kv_width"]
        pairs = np.float32([(h, h), (h, kv), (h, kv), (h, h), (h, f), (h, f), (f, h)])
        return {
            "linears": int(shape["layers"] * np.prod(pairs, axis=1).sum()),
            "embeddings": shape["vocab"] * h * (1 if shape["tied"] else 2),
            "norms": (2 * shape["layers"] + 1) * h,
            "lora": int(shape["layers"] * r * pairs.sum()),
        }
        """,
        "float32 has no room",
    ),
    # Task 1
    Mistake(
        "crossover",
        "the floor of floats",
        """
        if training <= 0:
            return 0
        return -(-training // (prompted - trained)) if prompted > trained else None
        """,
        "this is a float",
    ),
    Mistake(
        "crossover",
        "a billionth taken off",
        """
        saved = prompted - trained
        return 0 if training <= 0 else ceil(training / saved - 1e-9) if saved > 0 else None
        """,
        "however little is missing",
    ),
    Mistake(
        "crossover",
        "rounded to a billionth",
        """
        saved = prompted - trained
        return 0 if training <= 0 else ceil(round(training / saved, 9)) if saved > 0 else None
        """,
        "however little is missing",
    ),
    Mistake(
        "crossover",
        "rounded before",
        """
        saved = prompted - trained
        return 0 if training <= 0 else ceil(round(training / saved, 3)) if saved > 0 else None
        """,
        "digits that count",
    ),
    Mistake("crossover", "trained for nothing", "return ceil(training / prompted)", "cost something too"),
    Mistake(
        "crossover",
        "rounded down",
        "return int(training / (prompted - trained)) if prompted > trained else None if training else 0",
        "round up",
    ),
    Mistake(
        "crossover",
        "not rounded",
        "return training / (prompted - trained) if prompted > trained else None if training else 0",
        "whole numbers",
    ),
    Mistake(
        "crossover",
        "one too many",
        "return int(training / (prompted - trained)) + 1 if prompted > trained else None",
        "One too many",
    ),
    Mistake("crossover", "no None", "return ceil(training / (prompted - trained))", "never pays"),
    Mistake(
        "crossover",
        "zero saved",
        """
        if training == 0:
            return 0
        n = ceil(training / (prompted - trained))
        return n if n > 0 else None
        """,
        "divides by zero",
    ),
    Mistake(
        "crossover",
        "the wrong way round",
        "return ceil(training / (trained - prompted)) if trained > prompted else None",
        "wrong way round",
    ),
    Mistake(
        "crossover",
        "nothing for nothing",
        "return ceil(training / (prompted - trained)) if prompted > trained else None",
        "before the first query",
    ),
    Mistake(
        "crossover",
        "a thousand tried",
        """
        for n in range(1000):
            if training + n * trained <= n * prompted:
                return n
        return None
        """,
        "gives up",
    ),
    Mistake(
        "crossover",
        "a float",
        """
        if training <= 0:
            return 0
        return np.ceil(training / (prompted - trained)) if prompted > trained else None
        """,
        "this is a float",
    ),
    # Task 2
    Mistake("count", "one block", counts(linears="sum(i * o for i, o in pairs)"), "this is one"),
    Mistake("count", "no gate", counts(linears="n * (2 * h * h + 2 * h * kv + 2 * h * f)"), "gate, up and down"),
    Mistake("count", "wide keys", counts(linears="n * (4 * h * h + 3 * h * f)"), "not hidden"),
    Mistake("count", "no o_proj", counts(linears="n * (h * h + 2 * h * kv + 3 * h * f)"), "output projection"),
    Mistake("count", "biases", counts(linears="n * sum(i * o + o for i, o in pairs)"), "no biases"),
    Mistake("count", "tied twice", counts(embeddings='2 * shape["vocab"] * h'), "count it once"),
    Mistake("count", "untied once", counts(embeddings='shape["vocab"] * h'), "of its own"),
    Mistake("count", "no last norm", counts(norms="2 * n * h"), "last block is missing"),
    Mistake("count", "one norm a block", counts(norms="(n + 1) * h"), "two norms"),
    Mistake("count", "no rank", counts(lora="n * sum(i + o for i, o in pairs)"), "rank is missing"),
    Mistake("count", "q and v", counts(lora="n * r * (3 * h + kv)"), "Only q and v"),
    Mistake("count", "multiplied", counts(lora="n * sum(r * i * o for i, o in pairs)"), "do not multiply"),
    Mistake("count", "A alone", counts(lora="n * r * sum(i for i, o in pairs)"), "Two matrices"),
    Mistake("count", "rank cut", counts(lora="n * sum(min(r, i, o) * (i + o) for i, o in pairs)"), "may be larger"),
    Mistake(
        "count",
        "the head's, too",
        counts(lora='n * r * sum(i + o for i, o in pairs) + (not shape["tied"]) * r * (h + shape["vocab"])'),
        "in the blocks alone",
    ),
    Mistake(
        "count", "taken out", 'shape["kv_width"] = int(shape.pop("kv_width"))\n' + counts() + " | shape", "dictionary"
    ),
    # Task 3
    Mistake(
        "memory",
        "bits for bytes",
        bytes_of(weights='c["linears"] * bits / (1 if bits < 16 else 8) + 2 * others'),
        "byte has 8",
    ),
    Mistake("memory", "embeddings in 4 bits", bytes_of(weights="every * bits / 8"), "stay in 16 bits"),
    Mistake(
        "memory",
        "no scales",
        bytes_of(weights='c["linears"] * (0.5 if method == "qlora" else 2) + 2 * others'),
        "scales are missing",
    ),
    Mistake(
        "memory",
        "plain scales",
        bytes_of(weights='c["linears"] * (4.5 if method == "qlora" else 16) / 8 + 2 * others'),
        "quantized as well",
    ),
    Mistake(
        "memory",
        "no scales of scales",
        bytes_of(weights='c["linears"] * (4.125 if method == "qlora" else 16) / 8 + 2 * others'),
        "scales of the scales",
    ),
    Mistake("memory", "32 bits", bytes_of(weights="4 * every"), "32 bits a number"),
    Mistake("memory", "all in 16 bits", bytes_of(weights="2 * every"), "linear layers in 4 bits"),
    Mistake("memory", "gradients of all", bytes_of(gradients="2 * every"), "the base is frozen"),
    Mistake("memory", "optimizer of all", bytes_of(optimizer="8 * (every + added)"), "the base is frozen"),
    Mistake("memory", "optimizer of the adapter", bytes_of(optimizer='8 * c["lora"]'), "every weight trains"),
    Mistake("memory", "one moment", bytes_of(optimizer="4 * trains"), "8 bytes"),
    Mistake("memory", "gradients in 32 bits", bytes_of(gradients="4 * trains"), "16 bits"),
    Mistake("memory", "adapters always", bytes_of(adapters='2 * c["lora"]'), "adds nothing"),
    Mistake("memory", "no adapters", bytes_of(adapters="0"), "its own numbers"),
    Mistake("memory", "one block", bytes_of(activations='batch * length * shape["hidden"] * 2'), "each"),
    Mistake(
        "memory", "no batch", bytes_of(activations='shape["layers"] * length * shape["hidden"] * 2'), "batch is missing"
    ),
    Mistake(
        "memory",
        "any method",
        bytes_of().replace('if method not in ("full", "lora", "qlora"):\n    raise ValueError(method)\n', ""),
        "must be refused",
    ),
    Mistake(
        "memory",
        "parts of names",
        bytes_of().replace('("full", "lora", "qlora")', '"full, lora, qlora"'),
        "Parts of a name pass",
    ),
    Mistake(
        "memory",
        "remembered by method",
        "kept = memory.__dict__.setdefault('kept', {})\nif method in kept:\n    return kept[method]\n"
        + bytes_of().replace("return ", "kept[method] = ")
        + "\nreturn kept[method]",
        "kept",
    ),
    # Task 4
    Mistake("cheapest_as_good", "cheapest of all", "return min(measured, key=lambda n: measured[n][0])", "come into"),
    Mistake("cheapest_as_good", "best mean", MEANS + "return best", "one of those is cheaper"),
    Mistake(
        "cheapest_as_good",
        "whole ranges",
        MEANS + "near = [n for n in measured if means[n] - means[best] <= ranges[n] + ranges[best]]\n" + COSTS,
        "Whole ranges",
    ),
    Mistake(
        "cheapest_as_good",
        "range of the best",
        MEANS + "near = [n for n in measured if means[n] - means[best] <= ranges[best] / 2]\n" + COSTS,
        "Only the best one's",
    ),
    Mistake(
        "cheapest_as_good",
        "range of the other",
        MEANS + "near = [n for n in measured if means[n] - means[best] <= ranges[n] / 2]\n" + COSTS,
        "Only the other one's",
    ),
    Mistake("cheapest_as_good", "most bits", MEANS + "return max(means, key=means.get)", "most bits"),
    Mistake("cheapest_as_good", "lucky seed", "return min(measured, key=lambda n: min(measured[n][1]))", "luckiest"),
    Mistake(
        "cheapest_as_good",
        "first and last seed",
        MEANS.replace("max(bits) - min(bits)", "abs(bits[-1] - bits[0])") + NEAR + COSTS,
        "seeds come in any order",
    ),
    Mistake(
        "cheapest_as_good",
        "ranges that overlap",
        MEANS + "near = [n for n in measured if min(measured[n][1]) <= max(measured[best][1])]\n" + COSTS,
        "overlap are another rule",
    ),
    Mistake(
        "cheapest_as_good",
        "just level left out",
        MEANS + NEAR.replace("<=", "<") + COSTS.replace("near,", "near + [best],"),
        "exactly so far apart",
    ),
    Mistake(
        "cheapest_as_good",
        "as many seeds each",
        "np.array([bits for _, bits in measured.values()])\n" + MEANS + NEAR + COSTS,
        "different numbers of seeds",
    ),
    Mistake(
        "cheapest_as_good",
        "a chain",
        MEANS
        + """
near, last = [], best
for name in sorted(measured, key=means.get):
    if means[name] - means[last] > (ranges[name] + ranges[last]) / 2:
        break
    near.append(name)
    last = name
"""
        + COSTS,
        "each with the best",
    ),
    # Task 5
    Mistake(
        "frontier",
        "better in both",
        """
        kept = [n for n, p in points.items() if not any(q[0] < p[0] and q[1] < p[1] for q in points.values())]
        return sorted(kept, key=lambda n: points[n][0])
        """,
        "equal in the other",
    ),
    Mistake(
        "frontier",
        "beaten by itself",
        """
        kept = [n for n, p in points.items() if not any(q[0] <= p[0] and q[1] <= p[1] for q in points.values())]
        return sorted(kept, key=lambda n: points[n][0])
        """,
        "beats itself",
    ),
    Mistake(
        "frontier",
        "twins beat each other",
        """
        beats = lambda a, b: a[0] <= b[0] and a[1] <= b[1]
        kept = [n for n, p in points.items() if not any(m != n and beats(q, p) for m, q in points.items())]
        return sorted(kept, key=lambda n: points[n][0])
        """,
        "do not beat each other",
    ),
    Mistake(
        "frontier",
        "equals beat each other",
        """
        kept, low = [], float("inf")
        for name in sorted(points, key=lambda n: points[n]):
            if points[name][1] < low:
                kept.append(name)
                low = points[name][1]
        return kept
        """,
        "both stay",
    ),
    Mistake(
        "frontier",
        "not sorted",
        """
        beats = lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b
        return [n for n, p in points.items() if not any(beats(q, p) for q in points.values())]
        """,
        "cheapest comes first",
    ),
    Mistake(
        "frontier",
        "the beaten ones",
        """
        beats = lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b
        return sorted([n for n, p in points.items() if any(beats(q, p) for q in points.values())], key=points.get)
        """,
        "Those are the points that are beaten",
    ),
    Mistake(
        "frontier",
        "more bits are better",
        """
        beats = lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a != b
        return sorted([n for n, p in points.items() if not any(beats(q, p) for q in points.values())], key=points.get)
        """,
        "Less is better in both",
    ),
    Mistake(
        "frontier",
        "the first of a cost",
        """
        kept, low = [], float("inf")
        for name in sorted(points, key=lambda n: points[n][0]):
            cost, bits = points[name]
            if bits < low or kept and (cost, bits) == points[kept[-1]]:
                kept.append(name)
                low = bits
        return kept
        """,
        "whichever comes first",
    ),
    Mistake("frontier", "all of them", "return sorted(points, key=lambda n: points[n][0])", "Nothing was left out"),
    # Task 6
    Mistake(
        "choose",
        "no bar",
        FIT.replace('o["bits"] <= case["bar"] and ', "") + BY_TOTAL,
        "more bits than the bar",
    ),
    Mistake(
        "choose",
        "no memory",
        FIT.replace(' and o["memory"] <= case["memory"]', "") + BY_TOTAL,
        "more memory than there is",
    ),
    Mistake("choose", "no None", FIT.replace("if not fit:\n    return None\n", "") + BY_TOTAL, "No option will do"),
    Mistake("choose", "below the bar", FIT.replace('["bits"] <=', '["bits"] <') + BY_TOTAL, "at the bar"),
    Mistake("choose", "best of all", FIT + 'return min(fit, key=lambda n: fit[n]["bits"])', "fewest bits are not"),
    Mistake("choose", "a query alone", FIT + 'return min(fit, key=lambda n: fit[n]["query"])', "training costs"),
    Mistake("choose", "training alone", FIT + 'return min(fit, key=lambda n: fit[n]["training"])', "were not counted"),
    Mistake(
        "choose",
        "one query",
        FIT + 'return min(fit, key=lambda n: fit[n]["training"] + fit[n]["query"])',
        "queries",
    ),
    Mistake(
        "choose",
        "ties by order",
        FIT + 'return min(fit, key=lambda n: fit[n]["training"] + case["queries"] * fit[n]["query"])',
        "Two cost the same",
    ),
    Mistake(
        "choose",
        "one query late",
        FIT
        + """
names = sorted(fit, key=lambda n: fit[n]["training"])
best = names[0]
for n in names[1:]:
    meets = crossover(fit[n]["training"] - fit[best]["training"], fit[best]["query"], fit[n]["query"])
    if meets is not None and case["queries"] > meets:
        best = n
return best
""",
        "One query too late",
    ),
    Mistake(
        "choose",
        "a query not counted",
        FIT
        + 'q = max(case["queries"] - 1, 0)\n'
        + 'return min(fit, key=lambda n: (fit[n]["training"] + q * fit[n]["query"], fit[n]["training"]))',
        "One query too late",
    ),
    Mistake(
        "choose",
        "the whole training against one that is trained, too",
        FIT
        + """
names = sorted(fit, key=lambda n: fit[n]["training"])
best = names[0]
for n in names[1:]:
    meets = crossover(fit[n]["training"], fit[best]["query"], fit[n]["query"])
    if meets is not None and case["queries"] > meets:
        best = n
return best
""",
        "the difference between the two trainings",
    ),
    Mistake(
        "choose",
        "training of the first kept",
        FIT
        + """
best = least = None
for n, o in fit.items():
    cost = o["training"] + case["queries"] * o["query"]
    if best is None or cost < least:
        best, least, training = n, cost, o["training"]
    elif cost == least and o["training"] < training:
        best = n
return best
""",
        "Two cost the same",
    ),
    Mistake(
        "choose",
        "the price of a query",
        FIT
        + 'return min(fit, key=lambda n: (fit[n]["training"] / case["queries"] + fit[n]["query"], fit[n]["training"]))',
        "no queries at all",
    ),
    Mistake(
        "choose",
        "noted in the options",
        FIT
        + 'for o in fit.values():\n    o["total"] = o["training"] + case["queries"] * o["query"]\n'
        + 'return min(fit, key=lambda n: (fit[n]["total"], fit[n]["training"]))',
        "changed its argument case['options']",
    ),
]

SUM = """
A = np.concatenate([A for A, _, _, _ in adapters])
B = np.concatenate([{} for A, B, s, w in adapters], axis=1)
return A, B
"""
MISTAKES += [
    Mistake("adapter_sum", name, SUM.format(code), hint)
    for name, code, hint in (
        ("no scalings", "strength * w * B", "scalings alpha / r are missing"),
        ("no weights", "strength * s * B", "weights are missing"),
        ("no strength", "w * s * B", "strength is missing"),
        ("the sign lost", "strength * abs(w) * s * B", "sign is lost"),
        ("weights to 1", "strength * w / sum(w for *_, w in adapters) * s * B", "need not add up to 1"),
        ("a mean", "strength * w * s * B / len(adapters)", "That is the mean"),
        ("strength squared", "strength**2 * w * s * B", "strength is counted twice"),
        ("a factor of NumPy's", "(strength * w * s) * B", "where a factor is a number of NumPy"),
    )
] + [
    Mistake(
        "adapter_sum",
        "in both factors",
        """
        A = np.concatenate([w * A for A, _, _, w in adapters])
        B = np.concatenate([strength * w * s * B for A, B, s, w in adapters], axis=1)
        return A, B
        """,
        "Weights are counted twice",
    ),
    Mistake(
        "adapter_sum",
        "added, not stacked",
        """
        A = sum(A for A, _, _, _ in adapters)
        return A, sum(strength * w * s * B for A, B, s, w in adapters)
        """,
        "as many as all ranks together",
    ),
    Mistake(
        "adapter_sum",
        "as one full update",
        """
        update = strength * sum(w * s * B @ A for A, B, s, w in adapters)
        return np.eye(update.shape[1], dtype=update.dtype), update
        """,
        "as many as all ranks together",
    ),
    Mistake(
        "adapter_sum",
        "float64",
        """
        A = np.concatenate([np.asarray(A, "float64") for A, _, _, _ in adapters])
        return A, np.concatenate([np.float64(strength * w * s) * B for A, B, s, w in adapters], axis=1)
        """,
        "the dtype that the adapters have",
    ),
    Mistake(
        "adapter_sum",
        "one array for all calls",
        """
        A = np.concatenate([A for A, _, _, _ in adapters])
        B = np.concatenate([B * A.dtype.type(strength * w * s) for A, B, s, w in adapters], axis=1)
        kept = vars(count).setdefault((A.shape, B.shape, A.dtype), (A, B))
        kept[0][:], kept[1][:] = A, B
        return kept
        """,
        "is an array kept",
    ),
    Mistake(
        "adapter_sum",
        "in place",
        """
        for A, B, s, w in adapters:
            B *= strength * w * s
        return np.concatenate([a[0] for a in adapters]), np.concatenate([a[1] for a in adapters], axis=1)
        """,
        "changed its argument",
    ),
]

RIGHT = [
    Right(
        "adapter_sum",
        "one adapter's A as it is",
        """
        A = adapters[0][0] if len(adapters) == 1 else np.concatenate([A for A, _, _, _ in adapters])
        B = np.concatenate([B * A.dtype.type(strength * w * s) for A, B, s, w in adapters], axis=1)
        return A, B
        """,
    ),
    Right(
        "adapter_sum",
        "scaled at A, filled in",
        """
        R = sum(len(a[0]) for a in adapters)
        A = np.empty((R, adapters[0][0].shape[1]), adapters[0][0].dtype)
        B = np.empty((len(adapters[0][1]), R), adapters[0][1].dtype)
        at = 0
        for a, b, s, w in adapters:
            A[at : at + len(a)] = a * (s * w) * strength
            B[:, at : at + len(a)] = b
            at += len(a)
        return A, B
        """,
    ),
    Right(
        "adapter_sum",
        "vstack and hstack",
        """
        As, Bs, scalings, weights = zip(*adapters)
        return np.vstack(As), np.hstack([B * float(strength * w * s) for B, s, w in zip(Bs, scalings, weights)])
        """,
    ),
    Right(
        "crossover",
        "counted up, in NumPy",
        """
        if training > 0 and trained >= prompted:
            return None
        n = np.int64(0)
        while training + n * trained > n * prompted:
            n += 1
        return n
        """,
    ),
    Right(
        "count",
        "by formula, floats",
        """
        print("counting", shape)
        h, f, k, n = (float(shape[name]) for name in ("hidden", "intermediate", "kv_width", "layers"))
        return dict(
            lora=n * r * (9 * h + 2 * k + 3 * f),
            norms=h + 2 * h * n,
            embeddings=(2 - shape["tied"]) * h * shape["vocab"],
            linears=n * h * (2 * h + 2 * k + 3 * f),
        )
        """,
    ),
    Right(
        "memory",
        "from a table, as arrays",
        """
        table = {"full": (2, 1, 0), "lora": (2, 0, 1), "qlora": ((4 + (8 + 32 / 256) / 64) / 8, 0, 1)}
        if method not in table:
            raise ValueError("unknown method " + method)
        of_linear, full, added = table[method]
        c = count(shape, r)
        rest = c["norms"] + c["embeddings"]
        trained = np.float64(full * (c["linears"] + rest) + added * c["lora"])
        stream = np.prod([batch, length, shape["layers"], shape["hidden"]], dtype="float64")
        return {
            "activations": 2 * stream,
            "optimizer": trained * 2 * 4,
            "gradients": trained * 2,
            "adapters": added * c["lora"] * 2,
            "weights": of_linear * c["linears"] + rest * 2,
        }
        """,
    ),
    Right(
        "cheapest_as_good",
        "by sorting",
        """
        rows = []
        for name in measured:
            cost, bits = measured[name]
            bits = np.sort(np.array(bits, dtype="float32"))
            rows.append((bits.mean(), (bits[-1] - bits[0]) * 0.5, cost, name))
        first = sorted(rows)[0]
        return sorted((cost, name) for mean, half, cost, name in rows if mean <= first[0] + first[1] + half)[0][1]
        """,
    ),
    Right(
        "frontier",
        "one pass, as a tuple",
        """
        kept, low = [], (float("inf"), None)
        for name in sorted(points, key=lambda n: (points[n][0], points[n][1], n)):
            cost, bits = points[name]
            if bits < low[0]:
                low = (bits, cost)
                kept.append(name)
            elif (bits, cost) == low:
                kept.append(name)
        return tuple(kept)
        """,
    ),
    Right(
        "choose",
        "sorted, with a loop",
        """
        found = []
        for name, one in case["options"].items():
            if one["bits"] > case["bar"] or one["memory"] > case["memory"]:
                continue
            found.append((one["query"] * case["queries"] + one["training"], one["training"], name))
        return sorted(found)[0][2] if found else None
        """,
    ),
]
