"""The whole story of transfer learning in one file of NumPy: python lessons/00_whole_story/story.py, about a minute.

A multilingual expert is hired, and taught the company's jargon. The expert is a language model that has read the
documentation in Python's standard library, character by character. The jargon is NumPy's documentation. There are two
ways to teach it: full fine-tuning changes every weight; LoRA leaves the weights as they are, and trains a thin glossary
beside them. What was learned, and what was forgotten? Read from top to bottom.

Shapes: B texts of T characters, C channels, H heads of D channels, F channels in the MLP, V kinds of characters.
"""

import ast
import os
import sysconfig
import time
import warnings
import zlib
from itertools import count
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads gain little here, and lose much on a busy machine
import numpy as np

# 1. A tensor that remembers (lesson 02). By how much would the loss grow if a weight grew a little? That is its
# gradient. Each operation computes an array, and keeps a rule for each input: from g, the gradient of the loss with
# respect to the output, to the gradient with respect to that input. `backward` follows the rules from the loss back.

clock = count()


class Tensor:
    """An array that remembers how it was made: from which inputs, and each input's rule."""

    def __init__(self, data, *edges, trains=False):
        self.data, self.grad, self.age = data, None, next(clock)
        self.edges = [(x, rule) for x, rule in edges if x.trains]  # a frozen input keeps no rule, and costs no work
        self.trains = trains or bool(self.edges)

    def backward(self):
        """Leave the gradient of this loss in .grad of every weight that trains."""
        nodes, todo = {self}, [self]
        while todo:
            new = {x for x, _ in todo.pop().edges} - nodes
            nodes |= new
            todo += new
        self.grad = np.ones_like(self.data)
        for y in sorted(nodes, key=lambda t: -t.age):  # outputs are younger than their inputs, and so come first
            for x, rule in y.edges:
                g = rule(y.grad)
                x.grad = g if x.grad is None else x.grad + g  # used twice: the gradients add up
            if y.edges:
                y.edges, y.grad = [], None  # frees the arrays that only the rules needed

    def __add__(self, other):  # of the same shape
        return Tensor(self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    def __mul__(self, number):
        return Tensor(self.data * number, (self, lambda g: g * number))

    def __matmul__(self, other):  # (..., M, K) (..., K, N) -> (..., M, N)
        a, b = self.data, other.data
        return Tensor(a @ b, (self, lambda g: g @ b.swapaxes(-1, -2)), (other, lambda g: a.swapaxes(-1, -2) @ g))

    def reshape(self, *shape):
        return Tensor(self.data.reshape(shape), (self, lambda g: g.reshape(self.data.shape)))

    def swapaxes(self, i, j):
        return Tensor(self.data.swapaxes(i, j), (self, lambda g: g.swapaxes(i, j)))


def flat(a):  # (..., C) -> (N, C)
    return a.reshape(-1, a.shape[-1])


def linear(x, w):
    """x Wᵀ, with x (..., C_in) and W (C_out, C_in) -> (..., C_out)."""
    return Tensor(
        (flat(x.data) @ w.data.T).reshape(*x.data.shape[:-1], -1),
        (x, lambda g: (flat(g) @ w.data).reshape(x.data.shape)),
        (w, lambda g: flat(g).T @ flat(x.data)),
    )


def embedding(table, ids):
    """The rows of a table (V, C) that ids (B, T) name -> (B, T, C)."""

    def rule(g):  # a row that was taken several times gets the sum
        one_hot = np.arange(len(table.data))[:, None] == ids.reshape(-1)  # (V, B·T): which row went where
        return one_hot.astype(g.dtype) @ flat(g)

    return Tensor(table.data[ids], (table, rule))


def rms_norm(x, w, eps=1e-6):
    """x / √(mean of x² + ε) · w: the channels of each character brought to one size. x (..., C), w (C,)."""
    inverse = 1 / np.sqrt((x.data * x.data).mean(axis=-1, keepdims=True) + eps)  # (..., 1)
    n = x.data * inverse

    def rule(g):  # a step along n only makes x longer, and the output stays: so that part of g is taken off
        g = g * w.data
        return inverse * (g - n * (g * n).mean(axis=-1, keepdims=True))

    return Tensor(n * w.data, (x, rule), (w, lambda g: flat(g * n).sum(axis=0)))


def swiglu(a, b):
    """silu(a) · b, with silu(a) = a σ(a): a says how far the gate is open for b (Shazeer 2020)."""
    sigma = (1 + np.tanh(a.data / 2)) / 2  # 1 / (1 + exp(-a)), without an overflow
    silu = a.data * sigma
    return Tensor(silu * b.data, (a, lambda g: g * b.data * (sigma + silu * (1 - sigma))), (b, lambda g: g * silu))


def rotary(x):
    """Turn pairs of channels by angles that grow with the position (Su et al. 2021, section 3.2). x (B, T, H, D)."""
    T, D = x.data.shape[1], x.data.shape[-1]
    angle = np.arange(T)[:, None, None] / 10000 ** (np.arange(0, D, 2) / D)  # (T, 1, D/2)
    cos, sin = np.cos(angle).astype(x.data.dtype), np.sin(angle).astype(x.data.dtype)

    def turn(a, sin):
        left, right = a[..., : D // 2], a[..., D // 2 :]
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)

    return Tensor(turn(x.data, sin), (x, lambda g: turn(g, -sin)))  # the gradient is turned back


def causal_softmax(scores):
    """Shares: row t is positive up to column t, zero after it, and adds up to 1. scores (..., T, T)."""
    later = np.triu(np.full(scores.data.shape[-2:], -np.inf, scores.data.dtype), k=1)  # exp(-∞) is 0
    y = scores.data + later
    y = np.exp(y - y.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return Tensor(y, (scores, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))))


def cross_entropy(logits, targets):
    """The mean surprise, -ln p(target) with p = softmax(logits). logits (..., V), targets (...) -> a number."""
    a, target = flat(logits.data), (np.arange(targets.size), targets.reshape(-1))
    a = a - a.max(axis=-1, keepdims=True)
    p = np.exp(a)
    total = p.sum(axis=-1, keepdims=True)

    def rule(g):  # p, less 1 at the target
        d = p / total
        d[target] -= 1
        return (d * (g / len(d))).reshape(logits.data.shape)

    return Tensor((np.log(total[:, 0]) - a[target]).mean(), (logits, rule))


# 2. A transformer of the Llama family (lesson 04): a dictionary of weights by name, and a function. Each character has
# a vector of C channels. A block lets it look back (attention), then think by itself (MLP), and adds both to it.

V, C, F, H, LAYERS, RANK, SCALING = 128, 64, 176, 4, 2, 4, 2.0  # RANK, SCALING: LoRA's r and alpha / r
LINEAR = {"q": (C, C), "k": (C, C), "v": (C, C), "o": (C, C), "gate": (F, C), "up": (F, C), "down": (C, F)}


def newborn(rng):
    """Weights that have read nothing."""
    p = {"embed": rng.normal(0, 0.02, (V, C)), "norm": np.ones(C)}
    for i in range(LAYERS):
        p |= {f"{i}.{name}": rng.normal(0, 1 / np.sqrt(shape[1]), shape) for name, shape in LINEAR.items()}
        p |= {f"{i}.o": np.zeros((C, C)), f"{i}.down": np.zeros((C, F))}  # a block begins by adding nothing
        p |= {f"{i}.norm1": np.ones(C), f"{i}.norm2": np.ones(C)}
    return {name: Tensor(a.astype(np.float32), trains=True) for name, a in p.items()}


def glossary(rng):
    """A (r, C_in) and B (C_out, r) for each linear layer. B begins at zero: an empty glossary changes nothing."""
    p = {}
    for i in range(LAYERS):
        for name, (c_out, c_in) in LINEAR.items():
            p[f"{i}.{name}.A"] = rng.uniform(-1, 1, (RANK, c_in)) / np.sqrt(c_in)
            p[f"{i}.{name}.B"] = np.zeros((c_out, RANK))
    return {name: Tensor(a.astype(np.float32), trains=True) for name, a in p.items()}


def copy(p, trains):
    return {name: Tensor(w.data.copy(), trains=trains) for name, w in p.items()}


def layer(p, name, x):
    """x Wᵀ and, where there is a glossary, (alpha / r) (x Aᵀ) Bᵀ (Hu et al. 2021, section 4.1)."""
    y = linear(x, p[name])
    if f"{name}.A" in p:
        y += linear(linear(x, p[f"{name}.A"]), p[f"{name}.B"]) * SCALING  # (..., C_in) -> (..., r) -> (..., C_out)
    return y


def attention(p, i, x):
    """Let each character collect from those before it: softmax(q kᵀ / √D) v (Vaswani et al. 2017). x (B, T, C)."""
    B, T, D = *x.data.shape[:2], C // H
    q, k, v = (layer(p, f"{i}.{name}", x).reshape(B, T, H, D) for name in "qkv")  # (B, T, C) -> (B, T, H, D)
    q, k, v = (t.swapaxes(1, 2) for t in (rotary(q), rotary(k), v))  # -> (B, H, T, D)
    shares = causal_softmax((q * D**-0.5) @ k.swapaxes(2, 3))  # (B, H, T, T): how much t looks at each s
    return layer(p, f"{i}.o", (shares @ v).swapaxes(1, 2).reshape(B, T, C))  # (B, H, T, D) -> (B, T, C)


def model(p, ids):
    """ids (B, T) -> for each place, the logits of the character that comes next (B, T, V)."""
    x = embedding(p["embed"], ids)  # (B, T, C)
    for i in range(LAYERS):
        x += attention(p, i, rms_norm(x, p[f"{i}.norm1"]))
        n = rms_norm(x, p[f"{i}.norm2"])
        x += layer(p, f"{i}.down", swiglu(layer(p, f"{i}.gate", n), layer(p, f"{i}.up", n)))
    return linear(rms_norm(x, p["norm"]), p["embed"])  # the table again, as the head


# 3. Text, training, measuring (lessons 05 and 07). A token is a character, by its ASCII code.


def docstrings(root, pattern):
    """(to train on, held out): the docstrings of Python files as arrays of codes. One file in five is held out."""
    parts = [], []
    for path in sorted(root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        if "tests/" not in name:
            with warnings.catch_warnings(action="ignore"):  # about old escapes in strings
                nodes = ast.walk(ast.parse(path.read_bytes()))
            texts = [ast.get_docstring(x) for x in nodes if isinstance(x, ast.Module | ast.ClassDef | ast.FunctionDef)]
            parts[zlib.crc32(name.encode()) % 5 == 0].extend(f"{text}\n\n" for text in texts if text)
    return [np.frombuffer("".join(part).encode("ascii", "ignore"), np.uint8) for part in parts]


def surprise(p, text, starts, T=64):
    """The mean surprise at the T characters after each of these places (B,)."""
    ids = text[starts[:, None] + np.arange(T + 1)]  # (B, T + 1)
    return cross_entropy(model(p, ids[:, :-1]), ids[:, 1:])


def train(p, text, steps, rate, tell=False, B=16, betas=(0.9, 0.99), decay=0.01):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) on what trains in p. Returns the seconds that it took."""
    start, rng = time.perf_counter(), np.random.default_rng(1)  # the same batches for everyone
    state = [(w, np.zeros_like(w.data), np.zeros_like(w.data)) for w in p.values() if w.trains]
    for step in range(1, steps + 1):
        loss = surprise(p, text, rng.integers(len(text) - 64, size=B))
        loss.backward()
        now = rate * min(step / 20, 1 - (step - 1) / steps)  # up over 20 steps, then down to zero
        for w, m, v in state:  # m and v: running means of the gradient and of its square
            m += (1 - betas[0]) * (w.grad - m)
            v += (1 - betas[1]) * (w.grad * w.grad - v)
            m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)  # both begin at 0, so too small
            w.data -= now * (m_hat / (np.sqrt(v_hat) + 1e-8) + decay * w.data)
            w.grad = None
        if tell and step % (steps // 5) == 0:
            print(f"  step {step:5}: {loss.data / np.log(2):.2f} bits per character", flush=True)
    return time.perf_counter() - start


def bits(p, text, places):
    """Bits per character: the mean surprise to the base 2, at places that are spread over a text."""
    starts = np.linspace(0, len(text) - 65, places).astype(int)
    return surprise(copy(p, trains=False), text, starts).data.item() / np.log(2)


def write(p, text, letters, temperature=0.5):
    """Go on with a text: draw each next character from what the model expects after the last 64."""
    p, ids, rng = copy(p, trains=False), list(text.encode()), np.random.default_rng(2)
    for _ in range(letters):
        logits = model(p, np.array([ids[-64:]])).data[0, -1]  # (V,)
        ids.append(np.argmax(logits / temperature + rng.gumbel(size=V)).item())  # a draw from their softmax
    return bytes(ids).decode()


# 4. The story (lessons 01, 06, 07 and 08)


def main(school=1200, course=300, places=500, letters=50):
    python, python_held_out = docstrings(Path(sysconfig.get_path("stdlib")), "*.py")
    numpy, numpy_held_out = docstrings(Path(np.__file__).parent, "**/*.py")
    print(f"Documentation to read: {len(python):,} characters of Python's, {len(numpy):,} of NumPy's.")

    def measured(name, p, seconds):
        scores = [bits(p, text, places) for text in (python_held_out, numpy_held_out)]
        trained = sum(w.data.size for w in p.values() if w.trains)
        print(f"{name:42}{scores[0]:8.3f}{scores[1]:8.3f}{trained:11,}{seconds:9.1f}", flush=True)
        return scores  # Python, NumPy

    print("The expert goes to school, and learns to predict Python's documentation:")
    expert = newborn(np.random.default_rng(0))
    seconds = train(expert, python, school, rate=7e-3, tell=True)
    print(f"\n{'bits per character of held-out text':42}{'Python':>8}{'NumPy':>8}{'trained':>11}{'seconds':>9}")
    hired = measured("the expert, from school", expert, seconds)
    # Each way has the best of the rates that were tried. LoRA's is several times as high as full fine-tuning's.
    full = copy(expert, trains=True)  # every weight goes on learning, and nothing says: keep the old
    by_full = measured("taught NumPy by full fine-tuning", full, train(full, numpy, course, rate=4e-3))
    lora = copy(expert, trains=False) | glossary(np.random.default_rng(3))  # the expert is frozen
    by_lora = measured("taught NumPy by LoRA", lora, train(lora, numpy, course, rate=2e-2))
    away = measured("LoRA's glossary taken away", {name: lora[name] for name in expert}, 0)
    beginner = newborn(np.random.default_rng(0))  # the same course without the school
    alone = measured("taught NumPy, never at school", beginner, train(beginner, numpy, course, rate=5e-3))

    print(f"\nSchool pays: after one course, the expert is {alone[1] - by_full[1]:.3f} bits ahead of the beginner.")
    for name, (old, new) in {"Full fine-tuning": by_full, "LoRA": by_lora, "LoRA, taken away,": away}.items():
        print(f"{name} learned {hired[1] - new:.3f} bits of NumPy, and forgot {old - hired[0]:.3f} of Python.")
    print("\nEach goes on from the word Returns:")
    for name, p in {"from school": expert, "full fine-tuning": full, "LoRA": lora}.items():
        print(f"{name:20}{' '.join(write(p, 'Returns', letters).split())}")


if __name__ == "__main__":
    main()
