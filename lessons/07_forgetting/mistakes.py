"""Answers to lesson 07 that the checks are tried on."""

from textwrap import indent

from minilora.classroom import Mistake, Right

LOG_P = """
logits = np.asarray(logits, dtype="float64")
logits = logits - logits.max(axis=-1, keepdims=True)
log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
"""
SHIFTED = LOG_P + "log_p, labels = log_p[:, :-1], labels[:, 1:]\n"
CHOSEN = (
    SHIFTED
    + "counts = labels != -100\n"
    + "chosen = np.take_along_axis(log_p, np.where(counts, labels, 0)[..., None], axis=-1)[..., 0][counts]\n"
)

INIT = """
if not 0 <= share < 1:
    raise ValueError(share)
self.new, self.old, self.share, self.rows = new, old, share, rows
self.all_rows = self.old_rows = 0
"""


def next_batch(code: str) -> dict:
    """Where a wrong next_batch needs an __init__ with names that it knows."""
    return {"where": "Replay.next_batch", "code": code, "also": (("Replay.__init__", INIT),)}


OFF = """
layers = [m for _, m in model.named_modules() if isinstance(m, SideLayer)]
before = [layer.is_on for layer in layers]
for layer in layers:
    layer.is_on = False
"""

PUT_BACK = """
try:
    yield
finally:
    for layer, was_on in zip(layers, before):
        layer.is_on = was_on
"""

MISTAKES = [
    # Task 1
    Mistake("bits_of", "nats", CHOSEN + "return -chosen.sum()", "nats"),
    Mistake(
        "bits_of",
        "not shifted",
        LOG_P
        + "counts = labels != -100\n"
        + "chosen = np.take_along_axis(log_p, np.where(counts, labels, 0)[..., None], axis=-1)[..., 0][counts]\n"
        + "return -chosen.sum() / np.log(2)",
        "Not shifted",
    ),
    Mistake("bits_of", "mean", CHOSEN + "return -chosen.mean() / np.log(2)", "add them up"),
    Mistake("bits_of", "sign", CHOSEN + "return chosen.sum() / np.log(2)", "sign"),
    Mistake(
        "bits_of",
        "padding counted as token 0",
        SHIFTED
        + "labels = np.maximum(labels, 0)\n"
        + "return -np.take_along_axis(log_p, labels[..., None], axis=-1).sum() / np.log(2)",
        "-100 do not count",
    ),
    Mistake(
        "bits_of",
        "-100 as an index",
        SHIFTED + "return -np.take_along_axis(log_p, labels[..., None], axis=-1).sum() / np.log(2)",
        "leave them out",
    ),
    Mistake(
        "bits_of",
        "exp overflows",
        """
        with np.errstate(all="ignore"):
            p = np.exp(logits[:, :-1])
            p = p / p.sum(axis=-1, keepdims=True)
            labels = labels[:, 1:]
            counts = labels != -100
            chosen = np.take_along_axis(p, np.where(counts, labels, 0)[..., None], axis=-1)[..., 0]
            return -np.log2(chosen[counts]).sum()
        """,
        "overflowed",
    ),
    Mistake(
        "bits_of",
        "no softmax",
        """
        labels = labels[:, 1:]
        counts = labels != -100
        chosen = np.take_along_axis(logits[:, :-1], np.where(counts, labels, 0)[..., None], axis=-1)[..., 0]
        return -chosen[counts].sum() / np.log(2)
        """,
        "softmax is missing",
    ),
    Mistake(
        "bits_of",
        "a small number in the logarithm",
        SHIFTED
        + "p = np.take_along_axis(np.exp(log_p), np.maximum(labels, 0)[..., None], axis=-1)[..., 0]\n"
        + "return -np.log2(p + 1e-12)[labels != -100].sum()",
        "caps what an improbable token costs",
    ),
    Mistake(
        "bits_of",
        "rows of one token",
        "assert labels.shape[1] > 1\n" + CHOSEN + "return -chosen.sum() / np.log(2)",
        "costs 0 bits",
    ),
    Mistake(
        "bits_of",
        "softmax, then log",
        SHIFTED
        + "counts = labels != -100\n"
        + "p = np.take_along_axis(np.exp(log_p), np.where(counts, labels, 0)[..., None], axis=-1)[..., 0]\n"
        + "with np.errstate(divide='ignore'):\n    return -np.log2(p[counts]).sum()",
        "probability came to 0",
    ),
    Mistake(
        "bits_of",
        "one maximum for all",
        "with np.errstate(all='ignore'):\n"
        + indent(CHOSEN.replace("max(axis=-1, keepdims=True)", "max()") + "return -chosen.sum() / np.log(2)", "    "),
        "own maximum",
    ),
    Mistake(
        "bits_of",
        "float16",
        "logits = logits.astype('float16')" + CHOSEN + "return -chosen.sum() / np.log(2)",
        "too few digits",
    ),
    # Task 2
    Mistake(
        "probe",
        "frozen in place of no_grad",
        """
        was_training = model.training
        model.eval().requires_grad_(False)
        bits = sum(bits_of(model(batch["input_ids"]).numpy(), batch["labels"]) for batch in batches)
        model.train(was_training).requires_grad_(True)
        return bits / characters
        """,
        "What is frozen and what trains",
    ),
    Mistake(
        "probe",
        "training mode",
        """
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        return bits / characters
        """,
        "training mode, with dropout",
    ),
    Mistake(
        "probe",
        "left in evaluation mode",
        """
        model.eval()
        with no_grad():
            return sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches) / characters
        """,
        "left in evaluation mode",
    ),
    Mistake(
        "probe",
        "always back into training mode",
        """
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train()
        return bits / characters
        """,
        "had not been in it",
    ),
    Mistake(
        "probe",
        "a graph",
        """
        was = model.training
        model.eval()
        bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        return bits / characters
        """,
        "graph was built",
    ),
    Mistake(
        "probe",
        "mean of the batches",
        """
        was = model.training
        model.eval()
        with no_grad():
            bits = [bits_of(model(b["input_ids"]).numpy(), b["labels"]) / characters for b in batches]
        model.train(was)
        return sum(bits) / len(bits)
        """,
        "averaged",
    ),
    Mistake(
        "probe",
        "last batch only",
        """
        was = model.training
        model.eval()
        with no_grad():
            for b in batches:
                bits = bits_of(model(b["input_ids"]).numpy(), b["labels"])
        model.train(was)
        return bits / characters
        """,
        "last batch",
    ),
    Mistake(
        "probe",
        "not divided",
        """
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        return bits
        """,
        "Not divided",
    ),
    Mistake(
        "probe",
        "a token",
        """
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        return bits / sum((b["labels"][:, 1:] != -100).sum() for b in batches)
        """,
        "bits per token",
    ),
    Mistake(
        "probe",
        "own flag alone",
        """
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.training = was
        return bits / characters
        """,
        "parts",
    ),
    Mistake(
        "probe",
        "kept for each model",
        """
        seen = vars(probe).setdefault("seen", {})
        if model in seen:
            return seen[model]
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        seen[model] = bits / characters
        return seen[model]
        """,
        "second probe",
    ),
    Mistake(
        "probe",
        "gradients cleared",
        """
        for p in model.parameters():
            p.grad = None
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        return bits / characters
        """,
        "gradient that a weight had",
    ),
    Mistake(
        "probe",
        "seeded",
        """
        nn.manual_seed(0)
        was = model.training
        model.eval()
        with no_grad():
            bits = sum(bits_of(model(b["input_ids"]).numpy(), b["labels"]) for b in batches)
        model.train(was)
        return bits / characters
        """,
        "leave the seed alone",
    ),
    # Task 3
    Mistake("learned_and_forgotten", "last", "return len(new) - 1, new[0] - new[-1], old[-1] - old[0]", "not always"),
    Mistake(
        "learned_and_forgotten",
        "best on the old",
        "k = int(np.argmin(old)); return k, new[0] - new[k], old[k] - old[0]",
        "best on the old",
    ),
    Mistake(
        "learned_and_forgotten",
        "both signs",
        "k = int(np.argmin(new)); return k, new[k] - new[0], old[0] - old[k]",
        "Both signs",
    ),
    Mistake(
        "learned_and_forgotten",
        "learned negative",
        "k = int(np.argmin(new)); return k, new[k] - new[0], old[k] - old[0]",
        "learned has the wrong sign",
    ),
    Mistake(
        "learned_and_forgotten",
        "forgotten negative",
        "k = int(np.argmin(new)); return k, new[0] - new[k], old[0] - old[k]",
        "forgotten has the wrong sign",
    ),
    Mistake(
        "learned_and_forgotten",
        "worst forgetting",
        "k = int(np.argmin(new)); return k, new[0] - new[k], max(old) - old[0]",
        "not where it is worst",
    ),
    Mistake(
        "learned_and_forgotten",
        "places changed",
        "k = int(np.argmin(new)); return k, old[k] - old[0], new[0] - new[k]",
        "changed places",
    ),
    Mistake(
        "learned_and_forgotten",
        "beside the probe before",
        "k = int(np.argmin(new)); return k, new[k - 1] - new[k], old[k] - old[k - 1]",
        "from before the training",
    ),
    Mistake(
        "learned_and_forgotten",
        "most bits",
        "k = int(np.argmax(new)); return k, new[0] - new[k], old[k] - old[0]",
        "fewest",
    ),
    Mistake(
        "learned_and_forgotten",
        "a margin",
        """
        kept = 0
        for i, bits in enumerate(new):
            kept = i if bits < new[kept] - 1e-3 else kept
        return kept, new[0] - new[kept], old[kept] - old[0]
        """,
        "however small",
    ),
    Mistake(
        "learned_and_forgotten",
        "both together",
        "kept = int(np.argmin(np.add(new, old)))\nreturn kept, new[0] - new[kept], old[kept] - old[0]",
        "best on both together",
    ),
    Mistake(
        "learned_and_forgotten",
        "of equal ones the last",
        """
        kept = len(new) - 1 - int(np.argmin(new[::-1]))
        return kept, new[0] - new[kept], old[kept] - old[0]
        """,
        "the first is kept",
    ),
    Mistake(
        "learned_and_forgotten",
        "of equal ones the one that forgets least",
        """
        kept = min(range(len(new)), key=lambda i: (new[i], old[i]))
        return kept, new[0] - new[kept], old[kept] - old[0]
        """,
        "the first is kept",
    ),
    Mistake(
        "learned_and_forgotten",
        "rounded",
        """
        kept = int(np.argmin(np.round(new, 4)))
        return kept, round(new[0] - new[kept], 4), round(old[kept] - old[0], 4)
        """,
        "however small",
    ),
    # Task 4
    Mistake(
        "Replay.next_batch",
        "counters of the class",
        """
        Replay.given += self.rows
        k = min(max(int(Replay.given * self.share) - Replay.replayed, 0), self.rows)
        Replay.replayed += k
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """,
        "Two Replays disturb each other",
        also=(("Replay.__init__", INIT + "Replay.given = Replay.replayed = 0"),),
    ),
    Mistake(
        "Replay.next_batch",
        "what is owed kept in the class",
        """
        Replay.owed += self.rows * self.share
        k = int(Replay.owed + 1e-9)
        Replay.owed -= k
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """,
        "Two Replays disturb each other",
        also=(("Replay.__init__", INIT + "Replay.owed = 0.0"),),
    ),
    Mistake(
        "Replay.next_batch",
        "every so many rows",
        """
        rows = []
        for _ in range(self.rows):
            self.all_rows += 1
            is_old = self.share > 0 and self.all_rows % round(1 / self.share) == 0
            rows.append(next(self.old if is_old else self.new))
        return np.stack(rows)
        """,
        "is rounded to a whole number",
        also=(("Replay.__init__", INIT),),
    ),
    Mistake(
        "Replay.next_batch",
        "whole percents",
        """
        self.all_rows += self.rows
        k = self.all_rows * round(100 * self.share) // 100 - self.old_rows
        self.old_rows += k
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """,
        "share is not met",
        also=(("Replay.__init__", INIT),),
    ),
    Mistake(
        name="rounded for each batch",
        hint="comes to nothing",
        **next_batch("""
        k = int(self.rows * self.share)
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """),
    ),
    Mistake(
        name="at least one",
        hint="At least one",
        **next_batch("""
        k = max(1, round(self.rows * self.share)) if self.share else 0
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """),
    ),
    Mistake(
        name="on top",
        hint="on top",
        **next_batch("""
        self.all_rows += self.rows
        k = int(self.all_rows * self.share) - self.old_rows
        self.old_rows += k
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows)])
        """),
    ),
    Mistake(
        name="share of the new",
        hint="not the part that is new",
        **next_batch("""
        self.all_rows += self.rows
        k = int(self.all_rows * self.share) - self.old_rows
        self.old_rows += k
        return np.stack([next(self.new) for _ in range(k)] + [next(self.old) for _ in range(self.rows - k)])
        """),
    ),
    Mistake(
        name="by chance",
        hint="share is not met",
        **next_batch("""
        import random
        draw = random.Random(self.old_rows)
        self.old_rows += 1
        return np.stack([next(self.old if draw.random() < self.share else self.new) for _ in range(self.rows)])
        """),
    ),
    Mistake(
        name="one old row, repeated",
        hint="old rows are not those of the iterator",
        **next_batch("""
        self.all_rows += self.rows
        k = int(self.all_rows * self.share) - self.old_rows
        self.old_rows += k
        old = [next(self.old)] * k if k else []
        return np.stack(old + [next(self.new) for _ in range(self.rows - k)])
        """),
    ),
    Mistake(
        name="new rows lost",
        hint="new rows are not those of the iterator",
        **next_batch("""
        self.all_rows += self.rows
        k = int(self.all_rows * self.share) - self.old_rows
        self.old_rows += k
        batch = [next(self.new) for _ in range(self.rows)]
        batch[:k] = [next(self.old) for _ in range(k)]
        return np.stack(batch)
        """),
    ),
    Mistake(
        "Replay.__init__",
        "any share",
        "self.new, self.old, self.share, self.rows, self.given, self.replayed = new, old, share, rows, 0, 0",
        "must be refused",
    ),
    Mistake(
        "Replay.__init__",
        "a share above a half refused",
        """
        if not 0 <= share <= 0.5:
            raise ValueError(share)
        self.new, self.old, self.share, self.rows, self.given, self.replayed = new, old, share, rows, 0, 0
        """,
        "Any share from 0 on",
    ),
    Mistake(
        "Replay.__init__",
        "share as a simple fraction",
        """
        from fractions import Fraction
        if not 0 <= share < 1:
            raise ValueError(share)
        self.new, self.old, self.share, self.rows = new, old, Fraction(share).limit_denominator(20), rows
        self.given = self.replayed = 0
        """,
        "share is not met",
    ),
    Mistake(
        "Replay.__init__",
        "nan accepted",
        """
        if share < 0 or share >= 1:
            raise ValueError(share)
        self.new, self.old, self.share, self.rows, self.given, self.replayed = new, old, share, rows, 0, 0
        """,
        "nan must be refused",
    ),
    Mistake(
        name="whole old batches",
        hint="share is not met",
        **next_batch("""
        self.all_rows += self.rows
        k = self.rows if int(self.all_rows * self.share) - self.old_rows >= self.rows else 0
        self.old_rows += k
        return np.stack([next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)])
        """),
    ),
    Mistake(
        name="uint8",
        hint="new rows are not those",
        **next_batch("""
        self.all_rows += self.rows
        k = int(self.all_rows * self.share) - self.old_rows
        self.old_rows += k
        rows = [next(self.old) for _ in range(k)] + [next(self.new) for _ in range(self.rows - k)]
        return np.stack(rows).astype("uint8")
        """),
    ),
    # Task 5
    Mistake(
        "replay_price",
        "nats",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 0] * np.log(p[p > 0] / m[p > 0])).sum() for p in (p_new, p_old))
        """,
        "nats",
    ),
    Mistake(
        "replay_price",
        "old first",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 0] * np.log2(p[p > 0] / m[p > 0])).sum() for p in (p_old, p_new))
        """,
        "comes first",
    ),
    Mistake(
        "replay_price",
        "share of the new",
        """
        m = share * p_new + (1 - share) * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 0] * np.log2(p[p > 0] / m[p > 0])).sum() for p in (p_new, p_old))
        """,
        "share is the part",
    ),
    Mistake(
        "replay_price",
        "zeros kept",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(all="ignore"):
            return tuple((p * np.log2(p / m)).sum() for p in (p_new, p_old))
        """,
        "nan",
    ),
    Mistake(
        "replay_price",
        "sign",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 0] * np.log2(m[p > 0] / p[p > 0])).sum() for p in (p_new, p_old))
        """,
        "sign",
    ),
    Mistake(
        "replay_price",
        "the whole cost",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple(-(p[p > 0] * np.log2(m[p > 0])).sum() for p in (p_new, p_old))
        """,
        "at all",
    ),
    Mistake(
        "replay_price",
        "weighed by the mixture",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((m[m > 0] * np.log2(m[m > 0] / p[m > 0])).sum() for p in (p_new, p_old))
        """,
        "weighed by the mixture",
    ),
    Mistake(
        "replay_price",
        "impossible tokens left out",
        """
        m = (1 - share) * p_new + share * p_old
        both = [(p > 0) & (m > 0) for p in (p_new, p_old)]
        return tuple((p[b] * np.log2(p[b] / m[b])).sum() for p, b in zip((p_new, p_old), both))
        """,
        "infinitely many",
    ),
    Mistake(
        "replay_price",
        "zeros in place",
        """
        mixture = (1 - share) * p_new + share * p_old
        prices = []
        for p in (p_new, p_old):
            absent = p == 0
            p[absent] = 1
            with np.errstate(divide="ignore"):
                prices.append((p * np.log2(p / mixture))[~absent].sum())
        return tuple(prices)
        """,
        "changed its argument",
    ),
    Mistake(
        "replay_price",
        "rare tokens left out",
        """
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 1e-6] * np.log2(p[p > 1e-6] / m[p > 1e-6])).sum() for p in (p_new, p_old))
        """,
        "however seldom",
    ),
    Mistake(
        "replay_price",
        "a share of 1 refused",
        """
        if not 0 <= share < 1:
            raise ValueError(share)
        m = (1 - share) * p_new + share * p_old
        with np.errstate(divide="ignore"):
            return tuple((p[p > 0] * np.log2(p[p > 0] / m[p > 0])).sum() for p in (p_new, p_old))
        """,
        "raises ValueError",
    ),
    # Task 6
    Mistake(
        "SideLayer.forward",
        "no gradient through the base",
        """
        with no_grad():
            y = self.base(x)
        return y + self.update(x) if self.is_on else y
        """,
        "gradient of x",
    ),
    Mistake(
        "adapter_off",
        "noted one by one",
        """
        before = []
        for _, module in model.named_modules():
            if isinstance(module, SideLayer):
                before.append((module, module.is_on))
                module.is_on = False
        try:
            yield
        finally:
            for layer, was_on in before:
                layer.is_on = was_on
        """,
        "stands at two paths",
    ),
    Mistake(
        "SideLayer.forward",
        "computed and thrown away",
        """
        y, update = self.base(x), self.update(x)
        return y + update if self.is_on else y
        """,
        "the update was computed all the same",
    ),
    Mistake(
        "SideLayer.forward",
        "off in evaluation mode",
        "return self.base(x) + self.update(x) if self.is_on and self.training else self.base(x)",
        "is_on alone decides",
    ),
    Mistake(
        "SideLayer.forward",
        "off without a graph",
        """
        if self.is_on:
            return self.base(x) + self.update(x)
        with no_grad():
            return self.base(x)
        """,
        "needs its graph",
    ),
    Mistake(
        "adapter_off", "no graph within", "with no_grad():\n" + indent(OFF + PUT_BACK, "    "), "no graph is built"
    ),
    Mistake(
        "adapter_off",
        "evaluation mode within",
        "mode = model.training\nmodel.eval()" + OFF + PUT_BACK + "    model.train(mode)",
        "in another mode",
    ),
    Mistake(
        "adapter_off",
        "lists of the model itself alone",
        OFF.replace("SideLayer)", 'SideLayer) and len(_.split(".")) < 3') + PUT_BACK,
        "deeper in the model",
    ),
    Mistake("SideLayer.forward", "always on", "return self.base(x) + self.update(x)", "was not looked at"),
    Mistake("SideLayer.forward", "times zero", "return self.base(x) + self.update(x) * float(self.is_on)", "nan"),
    Mistake(
        "SideLayer.forward",
        "taken off again",
        """
        y = self.base(x) + self.update(x)
        return y if self.is_on else y - self.update(x)
        """,
        "rounds",
    ),
    Mistake("SideLayer.forward", "no base", "return self.update(x) if self.is_on else self.base(x)", "base is missing"),
    Mistake(
        "SideLayer.forward",
        "one behind the other",
        """
        y = self.base(x)
        return y + self.update(y) if self.is_on else y
        """,
        "both look at x",
    ),
    Mistake(
        "SideLayer.forward",
        "the wrong way round",
        "return self.base(x) if self.is_on else self.base(x) + self.update(x)",
        "update is missing",
    ),
    Mistake("adapter_off", "stays off", OFF + "yield", "stay off"),
    Mistake(
        "adapter_off",
        "all on",
        OFF + "try:\n    yield\nfinally:\n    for m in layers:\n        m.is_on = True",
        "one was off",
    ),
    Mistake(
        "adapter_off",
        "no finally",
        OFF + "yield\nfor layer, was in zip(layers, before):\n    layer.is_on = was",
        "finally",
    ),
    Mistake(
        "adapter_off",
        "swallowed",
        OFF
        + "try:\n    yield\nexcept KeyError:\n    pass\nfor layer, was in zip(layers, before):\n    layer.is_on = was",
        "swallowed",
    ),
    Mistake(
        "adapter_off",
        "first only",
        """
        layer = next(m for _, m in model.named_modules() if isinstance(m, SideLayer))
        was, layer.is_on = layer.is_on, False
        try:
            yield
        finally:
            layer.is_on = was
        """,
        "Only a part",
    ),
    Mistake(
        "adapter_off",
        "toggled",
        """
        layers = [m for _, m in model.named_modules() if isinstance(m, SideLayer)]
        for layer in layers:
            layer.is_on = not layer.is_on
        try:
            yield
        finally:
            for layer in layers:
                layer.is_on = not layer.is_on
        """,
        "Only a part",
    ),
    Mistake(
        "adapter_off",
        "walk ends at a SideLayer",
        """
        def found(m):
            return [m] if isinstance(m, SideLayer) else [layer for _, c in m._parts(nn.Module) for layer in found(c)]

        layers = found(model)
        before = [layer.is_on for layer in layers]
        for layer in layers:
            layer.is_on = False
        """
        + indent(PUT_BACK, 8 * " "),
        "within another one",
    ),
    Mistake(
        "adapter_off",
        "those alone that are on",
        OFF.replace("SideLayer)]", "SideLayer) and m.is_on]") + PUT_BACK,
        "remember each one's own state",
    ),
    Mistake(
        "adapter_off",
        "all that has is_on",
        OFF.replace("isinstance(m, SideLayer)", 'hasattr(m, "is_on")') + PUT_BACK,
        "is no SideLayer",
    ),
    Mistake(
        "adapter_off",
        "not of a subclass",
        OFF.replace("isinstance(m, SideLayer)", "type(m) is SideLayer") + PUT_BACK,
        "of a subclass",
    ),
    Mistake("adapter_off", "no yield on one way", "if model.training:\n    return\nyield", "must reach a yield"),
]

RIGHT = [
    Right(
        "replay_price",
        "a difference of cross-entropies, token by token",
        """
        def bits(p, q):
            return sum(a * (np.inf if b == 0 else -np.log2(b)) for a, b in zip(p, q) if a > 0)

        mixed = [(1 - share) * a + share * b for a, b in zip(p_new, p_old)]
        return bits(p_new, mixed) - bits(p_new, p_new), bits(p_old, mixed) - bits(p_old, p_old)
        """,
    ),
    Right(
        "bits_of",
        "label by label, base 2",
        """
        total = 0.0
        for row, wanted in zip(logits, labels):
            for t in range(1, len(wanted)):
                if wanted[t] >= 0:
                    z = np.asarray(row[t - 1], dtype="longdouble")
                    total += np.logaddexp2.reduce(z / np.log(2)) - z[wanted[t]] / np.log(2)
        return np.float64(total)
        """,
    ),
    Right(
        "probe",
        "with try and finally, in float32",
        """
        mode = model.training
        model.eval()
        total = np.float32(0)
        try:
            for batch in batches:
                with no_grad():
                    logits = model(batch["input_ids"])
                print("looked at", logits.shape)
                total += np.float32(bits_of(logits.numpy(), batch["labels"]) / characters)
        finally:
            model.train(mode)
        return total
        """,
    ),
    Right(
        "learned_and_forgotten",
        "arrays, as a list",
        """
        new, old = np.array(new), np.array(old)
        best = new.argmin()
        return [best, (new[0] - new)[best], -(old[0] - old)[best]]
        """,
    ),
    Right(
        "Replay.next_batch",
        "rounded up, old rows last, as a list",
        """
        self.done += 1
        upto = -int(-self.done * self.rows * self.share // 1)
        k, self.old_rows = upto - self.old_rows, upto
        return [next(self.new) for _ in range(self.rows - k)] + [next(self.old) for _ in range(k)]
        """,
        also=(
            (
                "Replay.__init__",
                """
                assert rows > 0
                if not (share >= 0 and share < 1):
                    raise ValueError("share")
                self.new, self.old, self.share, self.rows, self.done, self.old_rows = new, old, share, rows, 0, 0
                """,
            ),
        ),
    ),
    Right(
        "Replay.next_batch",
        "what is owed added up in floats",
        """
        self.owed += self.rows * self.share
        k = min(int(self.owed), self.rows)
        self.owed -= k
        return np.stack([next(self.new) for _ in range(self.rows - k)] + [next(self.old) for _ in range(k)])
        """,
        also=(("Replay.__init__", INIT + "self.owed = 0.0"),),
    ),
    Right(
        "replay_price",
        "as cross-entropy less entropy, in loops",
        """
        from math import inf, log2
        both = []
        for p in (p_new, p_old):
            more = 0.0
            for i in range(len(p)):
                q = p_new[i] + share * (p_old[i] - p_new[i])
                if p[i]:
                    more += p[i] * (log2(p[i]) - (log2(q) if q else -inf))
            both.append(more)
        return both
        """,
    ),
    Right(
        "SideLayer.forward",
        "base first",
        """
        y = self.base(x)
        if self.is_on is True:
            y = self.update(x) + y
        return y
        """,
        also=(
            (
                "adapter_off",
                """
                states = {}
                for path, module in model.named_modules():
                    if isinstance(module, SideLayer):
                        states.setdefault(id(module), (module, module.is_on))
                        module.is_on = False
                try:
                    yield model
                finally:
                    for module, was_on in states.values():
                        module.is_on = was_on
                """,
            ),
        ),
    ),
]
