"""Answers to lesson 04 that the checks are tried on."""

from minilora.classroom import Mistake, Right


def norm(name: str, divisor: str, hint: str) -> Mistake:
    return Mistake("rms_norm", name, f"return x / {divisor} * weight", hint)


def angles(name: str, expression: str, hint: str) -> Mistake:
    code = f"t, i, D = np.arange(length)[:, None], np.arange(head_dim // 2), head_dim\nreturn {expression}"
    return Mistake("rotary_angles", name, code, hint)


def turn(name: str, first: str, second: str, hint: str) -> Mistake:
    code = f"""
        half = x.shape[-1] // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        a = {first}
        return ops.concatenate([a, {second}], axis=-1)
        """
    if "a" in second:  # of the old a
        code = code.replace("a = ", "new = ").replace("[a, ", "[new, ")
    return Mistake("rotate", name, code, hint)


def attention(name: str, hint: str, *, scores="", hide="", weights="", after="", result="") -> Mistake:
    code = f"""
        T, D = q.shape[-2:]
        past = np.tri(T, dtype=bool)
        scores = {scores or "q @ k.swapaxes(-1, -2) / D**0.5"}
        scores = {hide or "ops.where(past, scores, -np.inf)"}
        weights = {weights or "(scores - scores.logsumexp(axis=-1, keepdims=True)).exp()"}
        {after}
        return {result or "weights @ v"}
        """
    return Mistake("causal_attention", name, code, hint)


def gate(name: str, expression: str, hint: str) -> Mistake:
    code = f"""
        a, b = x @ gate.T, x @ up.T
        silu = lambda z: z * z.sigmoid()
        return {expression}
        """
    return Mistake("swiglu", name, code, hint)


BLOCK = """
    angles = rotary_angles(x.shape[1], self.head_dim)
    h = rms_norm(x, self.input_layernorm)
    q = rotate(split_heads(self.q_proj(h), self.heads), angles)
    k = rotate(split_heads(self.k_proj(h), self.kv_heads), angles)
    v = split_heads(self.v_proj(h), self.kv_heads)
    k, v = share_heads(k, self.heads), share_heads(v, self.heads)
    x = x + self.o_proj(join_heads(causal_attention(q, k, v)))
    h = rms_norm(x, self.post_attention_layernorm)
    return x + swiglu(h, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)
    """


def block(name: str, hint: str, *changes: tuple[str, str]) -> Mistake:
    code = BLOCK
    for old, new in changes:
        assert old in code, old
        code = code.replace(old, new)
    return Mistake("Block.forward", name, code, hint)


MISTAKES = [
    # Task 1
    norm("no root", "((x * x).mean(axis=-1, keepdims=True) + eps)", "root is missing"),
    norm("sum", "((x * x).sum(axis=-1, keepdims=True) + eps).sqrt()", "not averaged"),
    norm("standard deviation", "(x.var(axis=-1, keepdims=True) + eps).sqrt()", "standard deviation"),
    norm("over tokens", "((x * x).mean(axis=0, keepdims=True) + eps).sqrt()", "runs over the tokens"),
    norm("over everything", "((x * x).mean() + eps).sqrt()", "runs over"),
    norm("mean of x", "(x.mean(axis=-1, keepdims=True) + eps)", "not of its squares"),
    norm("eps outside", "((x * x).mean(axis=-1, keepdims=True).sqrt() + eps)", "outside the root"),
    norm("eps squared", "((x * x).mean(axis=-1, keepdims=True) + eps**2).sqrt()", "eps is squared"),
    norm("no eps", "(x * x).mean(axis=-1, keepdims=True).sqrt()", "eps is left out"),
    norm("axis lost", "((x * x).mean(axis=-1) + eps).sqrt()", "keepdims"),
    Mistake("rms_norm", "no weight", "return x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt()", "weight is"),
    Mistake(
        "rms_norm",
        "LayerNorm",
        """
        x = x - x.mean(axis=-1, keepdims=True)
        return x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight
        """,
        "as in LayerNorm",
    ),
    norm("NumPy's root", "np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)", "NumPy function"),
    Mistake(
        "rms_norm",
        "graph broken",
        """
        rms = np.sqrt((x.data**2).mean(axis=-1, keepdims=True) + eps)
        return Tensor(x.data / rms * weight.data)
        """,
        "without Tensors",
    ),
    norm(
        "the weight first", "((x * weight * x * weight).mean(axis=-1, keepdims=True) + eps).sqrt()", "before the norm"
    ),
    norm("eps as usual", "((x * x).mean(axis=-1, keepdims=True) + 1e-6).sqrt()", "value of eps makes no difference"),
    norm("divided by T", "((x * x).sum(axis=-1, keepdims=True) / x.shape[x.ndim > 1] + eps).sqrt()", "further axes"),
    norm("the size without a graph", "np.sqrt((x.numpy() ** 2).mean(-1, keepdims=True) + eps)", "gradient of x is not"),
    # Task 2
    angles("positions from 1", "(t + 1) * theta ** (-2 * i / D)", "Positions count from 0"),
    angles("pairs from 1", "t * theta ** (-2 * (i + 1) / D)", "Pairs count from 0"),
    angles("no minus", "t * theta ** (2 * i / D)", "lacks its minus"),
    angles("i over D", "t * theta ** (-i / D)", "The exponent is"),
    angles("transposed", "(t * theta ** (-2 * i / D)).T", "one row per position"),
    angles("no position", "theta ** (-2 * i / D)", "missing its position"),
    angles("each channel", "t * theta ** (-2 * np.arange(D) / D)", "one for each pair"),
    angles("positions of 16 bits", "t.astype('int16') * theta ** (-2 * i / D)", "wrong for a long one"),
    angles("a table of 2048 rows", "(np.arange(2048)[:, None] * theta ** (-2 * i / D))[:length]", "long text raises"),
    angles(
        "added up in float32",
        "np.cumsum(np.tile(theta ** (-2 * i / D), (length, 1)), axis=0, dtype='float32') - theta ** (-2 * i / D)",
        "drift",
    ),
    angles("half precision", "(t * theta ** (-2 * i / D)).astype('float16')", "three digits"),
    turn("backwards", "a * cos + b * sin", "b * cos - a * sin", "wrong way"),
    turn("two pluses", "a * cos + b * sin", "a * sin + b * cos", "One sign"),
    turn("two minuses", "a * cos - b * sin", "a * sin - b * cos", "One sign"),
    turn("halves exchanged", "a * sin + b * cos", "a * cos - b * sin", "changed places"),
    turn("second half still", "a * cos - b * sin", "b", "second half"),
    turn("sine for cosine", "a * sin - b * cos", "a * cos + b * sin", "exchanged"),
    Mistake(
        "rotate",
        "neighbours",
        """
        a, b, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angles), np.sin(angles)
        first, second = a * cos - b * sin, a * sin + b * cos
        parts = []
        for i in range(angles.shape[-1]):
            parts += [first[..., i : i + 1], second[..., i : i + 1]]
        return ops.concatenate(parts, axis=-1)
        """,
        "Neighbours",
    ),
    Mistake(
        "rotate",
        "neighbours, put apart",
        """
        a, b, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angles), np.sin(angles)
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
        """,
        "Neighbours",
    ),
    Mistake(
        "rotate",
        "a overwritten",
        """
        half = x.shape[-1] // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        a = a * cos - b * sin
        b = a * sin + b * cos
        return ops.concatenate([a, b], axis=-1)
        """,
        "before it was used",
    ),
    Mistake(
        "rotate",
        "a single token is not turned",
        """
        half = x.shape[-1] // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1) if x.shape[2] > 1 else x
        """,
        "a single row in angles",
    ),
    # Task 3
    attention("not scaled", "not scaled", scores="q @ k.swapaxes(-1, -2)"),
    attention("over D", "divided by D", scores="q @ k.swapaxes(-1, -2) / D"),
    attention("times root D", "divide", scores="q @ k.swapaxes(-1, -2) * D**0.5"),
    attention("root of T", "√T", scores="q @ k.swapaxes(-1, -2) / T**0.5"),
    attention("nothing hidden", "Nothing is hidden", hide="scores"),
    attention("not itself", "does not see itself", hide="ops.where(np.tri(T, k=-1, dtype=bool), scores, -np.inf)"),
    attention("the future only", "wrong way round", hide="ops.where(np.triu(np.ones((T, T))) > 0, scores, -np.inf)"),
    attention("zeros for hidden", "exp(0) is 1", hide="ops.where(past, scores, 0)"),
    attention("cut after softmax", "cut after", hide="scores", after="weights = ops.where(past, weights, 0)"),
    attention("over queries", "over the queries", weights="(scores - scores.logsumexp(axis=-2, keepdims=True)).exp()"),
    attention("exchanged", "exchanged", scores="k @ q.swapaxes(-1, -2) / D**0.5"),
    attention("no softmax", "softmax", hide="scores", weights="ops.where(past, scores, 0.0)"),
    attention("not divided", "divided by their sum", weights="scores.exp()"),
    attention("overflow", "overflow", weights="scores.exp() / scores.exp().sum(axis=-1, keepdims=True)"),
    attention("all axes swapped", "not all of them", scores="q @ k.T / D**0.5"),
    Mistake(
        "causal_attention",
        "graph broken",
        """
        s = np.where(np.tri(q.shape[-2]), q.data @ k.data.swapaxes(-1, -2) / q.shape[-1] ** 0.5, -np.inf)
        w = np.exp(s - s.max(axis=-1, keepdims=True))
        return Tensor(w / w.sum(axis=-1, keepdims=True)) @ v
        """,
        "without Tensors",
    ),
    attention(
        "hidden scores 30 below the largest",
        "exactly 0",
        hide="ops.where(past, scores - ops.where(past, scores, -np.inf).max(axis=-1, keepdims=True), -30.0)",
    ),
    attention(
        "weights of 1e-9",
        "exactly 0",
        after="weights = ops.where(past, weights, 1e-9)",
    ),
    attention(
        "a little added to the sum",
        "nothing is added",
        weights="(scores - scores.max(axis=-1, keepdims=True)).exp()",
        after="weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-6)",
    ),
    attention("hidden by -100", "far below zero", hide="ops.where(past, scores, -100.0)"),
    attention("hidden by -10000", "far below zero", hide="ops.where(past, scores, -1e4)"),
    attention("lowered by a million", "far below zero", hide="scores - 1e6 * ~past"),
    attention(
        "a mask for 512 tokens",
        "wrong for a long one",
        hide="ops.where(past, scores, -np.inf) if T <= 512 else scores",
    ),
    attention(
        "a mask of 512 rows", "A long text raises", hide="scores + np.triu(np.full((512, 512), -1e9), 1)[:T, :T]"
    ),
    attention(
        "a mask of the first length", "kept", hide="ops.where(vars(rotate).setdefault(0, past), scores, -np.inf)"
    ),
    # Task 4
    Mistake(
        "split_heads",
        "no swapaxes, reshaped",
        "return x.reshape(x.shape[0], heads, x.shape[1], -1)",
        "axes are mixed up",
    ),
    Mistake(
        "split_heads",
        "axis not moved",
        "return x.reshape(x.shape[0], x.shape[1], heads, -1)",
        "swap axes 1 and 2",
    ),
    Mistake(
        "split_heads",
        "channels in turns",
        "return x.reshape(x.shape[0], x.shape[1], -1, heads).swapaxes(1, 3).swapaxes(2, 3)",
        "D is the last axis",
    ),
    Mistake(
        "join_heads",
        "no swapaxes",
        "return x.reshape(x.shape[0], x.shape[2], -1)",
        "axes are mixed up",
    ),
    Mistake(
        "join_heads",
        "channels in turns",
        "return x.swapaxes(1, 2).swapaxes(2, 3).reshape(x.shape[0], x.shape[2], -1)",
        "alternate",
    ),
    Mistake(
        "share_heads",
        "in turns",
        """
        if heads % x.shape[1]:
            raise ValueError
        return ops.concatenate([x] * (heads // x.shape[1]), axis=1)
        """,
        "neighbours share",
    ),
    Mistake(
        "share_heads",
        "divided by the other count",
        """
        if heads % x.shape[1]:
            raise ValueError
        return x[:, np.arange(heads) // x.shape[1] % x.shape[1]]
        """,
        "look into key heads 0 0 1 1 2 2",
    ),
    Mistake("share_heads", "not repeated", "return x", "as many as they were"),
    Mistake(
        "share_heads",
        "the first for all",
        "return ops.concatenate([x[:, :1]] * heads, axis=1)",
        "first key head",
    ),
    Mistake(
        "share_heads",
        "tokens shared out",
        """
        if heads % x.shape[1]:
            raise ValueError
        batch, kv_heads, length, size = x.shape
        x = x.reshape(batch, kv_heads, length, 1, size).broadcast_to(
            (batch, kv_heads, length, heads // kv_heads, size)
        )
        return x.reshape(batch, heads, length, size)
        """,
        "shared out over the tokens",
    ),
    Mistake(
        "share_heads",
        "uneven allowed",
        "return ops.concatenate([x[:, i : i + 1] for i in range(x.shape[1]) for _ in range(heads // x.shape[1])], 1)",
        "raise ValueError",
    ),
    Mistake(
        "share_heads",
        "graph broken",
        """
        if heads % x.shape[1]:
            raise ValueError
        return Tensor(np.repeat(x.numpy(), heads // x.shape[1], axis=1))
        """,
        "without Tensors",
    ),
    # Task 5
    gate("exchanged", "a * silu(b) @ down.T", "exchanged"),
    gate("sigmoid alone", "a.sigmoid() * b @ down.T", "sigmoid alone"),
    gate("no activation", "a * b @ down.T", "no activation"),
    gate("no up", "silu(a) @ down.T", "up is missing"),
    gate("added", "(silu(a) + b) @ down.T", "The two are added"),
    gate("product activated", "silu(a * b) @ down.T", "product is activated"),
    gate("both activated", "silu(a) * silu(b) @ down.T", "Both are activated"),
    gate("ReLU", "ops.maximum(a, 0) * b @ down.T", "ReLU"),
    gate("tanh", "a.tanh() * b @ down.T", "tanh"),
    gate("GELU", "a * (1.702 * a).sigmoid() * b @ down.T", "GELU"),
    gate("exp over exp", "a * (a.exp() / (1 + a.exp())) * b @ down.T", "exp overflows"),
    gate("z over 1 + exp(-z)", "a / (1 + (-a).exp()) * b @ down.T", "and the gradient with it"),
    gate("1 over 1 + exp(-z)", "a * (1 / (1 + (-a).exp())) * b @ down.T", "and the gradient with it"),
    gate(
        "both branches of where",
        "ops.where(a.data < 0, a * a.exp() / (1 + a.exp()), a / (1 + (-a).exp())) * b @ down.T",
        "and the gradient with it",
    ),
    gate("shut below -6", "ops.where(a.data < -6, 0.0, a * a.sigmoid()) * b @ down.T", "no silu somewhere"),
    gate("open above 6", "ops.where(a.data > 6, a, a * a.sigmoid()) * b @ down.T", "no silu somewhere"),
    gate("down reshaped", "silu(a) * b @ down.reshape(down.shape[1], down.shape[0])", "reshaped"),
    gate("no down", "silu(a) * b", "down is missing"),
    gate("down not transposed", "silu(a) * b @ down", "transposed"),
    Mistake(
        "swiglu",
        "three axes",
        """
        batch, length, channels = x.shape
        z = x @ gate.T
        return z * z.sigmoid() * (x @ up.T) @ down.T
        """,
        "any number of axes",
    ),
    # Task 6
    block("no residual", "Nothing is added", ("x = x + self", "x = self"), ("return x + swi", "return swi")),
    block("second residual missing", "replaces the stream", ("return x + swi", "return swi")),
    block(
        "norm after",
        "norm comes after",
        ("h = rms_norm(x, self.input_layernorm)", "h = x"),
        (
            "x = x + self.o_proj(join_heads(causal_attention(q, k, v)))",
            "y = self.o_proj(join_heads(causal_attention(q, k, v)))",
        ),
        ("h = rms_norm(x, self.post_attention_layernorm)", "h = rms_norm(x + y, self.input_layernorm)"),
        (
            "return x + swiglu(h, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)",
            "h = h + swiglu(h, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)\n"
            "    return rms_norm(h, self.post_attention_layernorm)",
        ),
    ),
    block(
        "no norm",
        "norms are missing",
        ("rms_norm(x, self.input_layernorm)", "x"),
        ("rms_norm(x, self.post_attention_layernorm)", "x"),
    ),
    block("one norm", "as it is", ("rms_norm(x, self.post_attention_layernorm)", "x")),
    block(
        "norms exchanged",
        "two norms' weights",
        ("self.input_layernorm", "self.first"),
        ("self.post_attention_layernorm", "self.input_layernorm"),
        ("self.first", "self.post_attention_layernorm"),
    ),
    block("one norm twice", "post_attention_layernorm's", ("self.post_attention_layernorm", "self.input_layernorm")),
    block(
        "angles of the first text",
        "something is kept",
        ("angles = rotary_angles(x.shape[1], self.head_dim)", "angles = vars(self).setdefault('angles', "),
        (
            "\n    h = rms_norm(x, self.input",
            "rotary_angles(x.shape[1], self.head_dim))\n    h = rms_norm(x, self.input",
        ),
    ),
    block(
        "normalized stream",
        "normalized copy itself",
        ("h = rms_norm(x, self.input_layernorm)", "h = x = rms_norm(x, self.input_layernorm)"),
        ("h = rms_norm(x, self.post", "h = x = rms_norm(x, self.post"),
    ),
    block(
        "beside",
        "from before the attention",
        ("h = rms_norm(x, self.input_layernorm)", "old, h = x, rms_norm(x, self.input_layernorm)"),
        ("h = rms_norm(x, self.post", "h = rms_norm(old, self.post"),
    ),
    block(
        "not rotated",
        "Nothing is rotated",
        ("q = rotate(split_heads(self.q_proj(h), self.heads), angles)", "q = split_heads(self.q_proj(h), self.heads)"),
        (
            "k = rotate(split_heads(self.k_proj(h), self.kv_heads), angles)",
            "k = split_heads(self.k_proj(h), self.kv_heads)",
        ),
    ),
    block(
        "keys not rotated",
        "keys are not rotated",
        (
            "k = rotate(split_heads(self.k_proj(h), self.kv_heads), angles)",
            "k = split_heads(self.k_proj(h), self.kv_heads)",
        ),
    ),
    block("values rotated", "values are rotated", ("k, v =", "v = rotate(v, angles)\n    k, v =")),
    block(
        "no o_proj",
        "o_proj is missing",
        ("self.o_proj(join_heads(causal_attention(q, k, v)))", "join_heads(causal_attention(q, k, v))"),
    ),
    block(
        "heads in turns",
        "in turns",
        (
            "share_heads(k, self.heads), share_heads(v, self.heads)",
            "(ops.concatenate([y] * (self.heads // self.kv_heads), axis=1) for y in (k, v))",
        ),
    ),
    block(
        "weights of the first step",
        "something of them is kept",
        ("self.gate_proj.weight, self", "vars(rms_norm).setdefault(self, self.gate_proj.weight * 1), self"),
    ),
    block(
        "angles for 512 tokens",
        "A long text raises",
        ("rotary_angles(x.shape[1], self.head_dim)", "rotary_angles(512, self.head_dim)[: x.shape[1]]"),
    ),
    block(
        "a copy without a graph",
        "without Tensors",
        ("return x + swi", "return Tensor(x.numpy()) + swi"),
    ),
]

RIGHT = [
    Right(
        "rms_norm",
        "by a power, the weight first",
        """
        print("norm of", x.shape)
        scale = ((x**2).sum(axis=-1, keepdims=True) / x.shape[-1] + eps) ** -0.5
        return weight * x * scale
        """,
    ),
    Right(
        "rotary_angles",
        "by loops, as a list",
        """
        rows = []
        for t in range(length):
            rows.append([t / theta ** (2 * i / head_dim) for i in range(head_dim // 2)])
        return rows
        """,
        also=(
            (
                "rotate",
                """
                size, angles = x.shape[-1], np.asarray(angles)
                swapped = ops.concatenate([-x[..., size // 2 :], x[..., : size // 2]], axis=-1)
                both = np.concatenate([angles, angles], axis=-1)
                return x * np.cos(both) + swapped * np.sin(both)
                """,
            ),
        ),
    ),
    Right(
        "causal_attention",
        "a large negative number, by logsumexp",
        """
        hidden = np.triu(np.full((q.shape[-2],) * 2, -1e9), 1)
        scores = (q / np.sqrt(q.shape[-1])) @ k.swapaxes(2, 3) + hidden
        return (scores - scores.logsumexp(axis=-1, keepdims=True)).exp() @ v
        """,
    ),
    Right(
        "causal_attention",
        "query by query",
        """
        rows = []
        for t in range(q.shape[2]):
            s = (q[:, :, t : t + 1] * k[:, :, : t + 1]).sum(axis=-1) * q.shape[-1] ** -0.5
            w = (s - s.max(axis=-1, keepdims=True)).exp()
            w = w / w.sum(axis=-1, keepdims=True)
            rows.append((w.expand_dims(-1) * v[:, :, : t + 1]).sum(axis=2))
        return ops.stack(rows, axis=2)
        """,
    ),
    Right(
        "share_heads",
        "by indexing",
        """
        kv = x.shape[1]
        if heads / kv != heads // kv:
            raise ValueError("uneven")
        return x[:, [h // (heads // kv) for h in range(heads)]]
        """,
        also=(
            (
                "split_heads",
                """
                size = x.shape[-1] // heads
                return ops.stack([x[..., h * size : (h + 1) * size] for h in range(heads)], axis=1)
                """,
            ),
            ("join_heads", "return ops.concatenate([x[:, h] for h in range(x.shape[1])], axis=-1)"),
        ),
    ),
    Right(
        "swiglu",
        "by tanh",
        """
        half = x @ gate.T / 2
        return ((x @ up.T) * (half + half * half.tanh())) @ down.T
        """,
    ),
    Right(
        "swiglu",
        "by exp of limited numbers",
        """
        z = x @ gate.T
        return ((x @ up.T) * (z / (1 + (-ops.clip(z, -50, 50)).exp()))) @ down.T
        """,
    ),
    Right(
        "Block.forward",
        "split after sharing, in one expression",
        """
        n, turn = rms_norm(x, self.input_layernorm), rotary_angles(x.shape[-2], self.head_dim)
        look = lambda layer, heads: share_heads(split_heads(layer(n), heads), self.heads)
        x = x + self.o_proj(
            join_heads(
                causal_attention(
                    rotate(look(self.q_proj, self.heads), turn),
                    rotate(look(self.k_proj, self.kv_heads), turn),
                    look(self.v_proj, self.kv_heads),
                )
            )
        )
        mlp = (self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)
        return swiglu(rms_norm(x, self.post_attention_layernorm), *mlp) + x
        """,
    ),
    Right(
        "rotate",
        "joined by NumPy",
        """
        half = x.shape[-1] // 2
        a, b, cos, sin = x[..., :half], x[..., half:], np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
        """,
    ),
]
