"""Answers to lesson 09 that the checks are tried on."""

from minilora.classroom import Mistake, Right

START = """
bound = 1 / np.sqrt(d)
W1 = rng.uniform(-bound, bound, (m, d)).astype("float32")
b1, b2 = np.zeros(m, dtype="float32"), np.zeros(d, dtype="float32")
W2 = np.zeros((d, m), dtype="float32")
"""
LINEARS = """
self.down, self.up = nn.Linear.from_arrays(W1, b1), nn.Linear.from_arrays(W2, b2)
"""
PLACES = """
places = {"houlsby": ("self_attn", "mlp"), "pfeiffer": ("mlp",)}
if placement not in places:
    raise ValueError(placement)
names = places[placement]
"""
FIND = """
chosen = [(path, module) for path, module in model.named_modules() if path.split(".")[-1] in names]
if not chosen:
    raise ValueError("nothing to adapt")
"""
FREEZE = """
model.requires_grad_(False)
"""
REPLACE = """
for i, (path, module) in enumerate(chosen):
    model.replace(path, Behind(module, Adapter(d, m, seed + i)))
"""
RETURN = """
return [path for path, _ in chosen]
"""

MISTAKES = [
    # Task 1
    Mistake(
        "count_parameters",
        "no biases",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * 2 * d * m",
        "biases are missing",
    ),
    Mistake(
        "count_parameters",
        "one bias",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * (2 * d * m + d)",
        "two biases",
    ),
    Mistake(
        "count_parameters",
        "down alone",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * (d * m + m + d)",
        "one of the two weights",
    ),
    Mistake(
        "count_parameters",
        "one block",
        "return {'houlsby': 2, 'pfeiffer': 1}[placement] * (2 * d * m + m + d)",
        "of one block",
    ),
    Mistake("count_parameters", "one a block", "return blocks * (2 * d * m + m + d)", "two adapters per block"),
    Mistake(
        "count_parameters",
        "any other is Pfeiffer",
        "return blocks * (1 + (placement == 'houlsby')) * (2 * d * m + m + d)",
        "must be refused",
    ),
    Mistake(
        "count_parameters",
        "a table's KeyError",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * (2 * d * m + m + d)",
        "not KeyError",
    ),
    Mistake("count_parameters", "printed", "print(blocks * (2 * d * m + m + d))", "return missing"),
    Mistake(
        "count_parameters",
        "an assert",
        """
        assert placement in ("houlsby", "pfeiffer")
        return blocks * (1 + (placement == "houlsby")) * (2 * d * m + m + d)
        """,
        "raise ValueError",
    ),
    Mistake(
        "count_parameters",
        "brackets left out",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * d * m + m + m * d + d",
        "in brackets",
    ),
    Mistake(
        "count_parameters",
        "both biases of width m",
        "return blocks * {'houlsby': 2, 'pfeiffer': 1}[placement] * 2 * (d * m + m)",
        "b₁ with m numbers and b₂ with d",
    ),
    Mistake(
        "count_parameters",
        "a part of the word",
        """
        if placement not in "houlsby pfeiffer":
            raise ValueError(placement)
        return blocks * (1 if placement == "pfeiffer" else 2) * (2 * d * m + m + d)
        """,
        "parts of a word",
    ),
    # Task 2
    Mistake("adapter_forward", "no residual", "return np.maximum(h @ W1.T + b1, 0) @ W2.T + b2", "residual is missing"),
    Mistake("adapter_forward", "linear", "return h + (h @ W1.T + b1) @ W2.T + b2", "nonlinearity is missing"),
    Mistake("adapter_forward", "no b1", "return h + np.maximum(h @ W1.T, 0) @ W2.T + b2", "b₁ is missing"),
    Mistake("adapter_forward", "b1 late", "return h + (np.maximum(h @ W1.T, 0) + b1) @ W2.T + b2", "after the ReLU"),
    Mistake("adapter_forward", "no b2", "return h + np.maximum(h @ W1.T + b1, 0) @ W2.T", "b₂ is missing"),
    Mistake(
        "adapter_forward",
        "ReLU at the end",
        "return h + np.maximum((h @ W1.T + b1) @ W2.T + b2, 0)",
        "belongs inside",
    ),
    Mistake(
        "adapter_forward",
        "ReLU over the sum",
        "return np.maximum(h + np.maximum(h @ W1.T + b1, 0) @ W2.T + b2, 0)",
        "belongs inside",
    ),
    Mistake(
        "adapter_forward",
        "not transposed",
        "return h + np.maximum(h @ W1 + b1, 0) @ W2 + b2",
        "both are transposed",
    ),
    Mistake("adapter_forward", "minimum", "return h + np.minimum(h @ W1.T + b1, 0) @ W2.T + b2", "wrong way round"),
    Mistake(
        "adapter_forward",
        "np.max",
        "return h + np.max(h @ W1.T + b1, 0) @ W2.T + b2",
        "largest of each column",
    ),
    Mistake(
        "adapter_forward",
        "two ReLUs",
        "return h + np.maximum(np.maximum(h @ W1.T + b1, 0) @ W2.T + b2, 0)",
        "One ReLU is enough",
    ),
    Mistake("adapter_forward", "ReLU of h", "return h + (np.maximum(h, 0) @ W1.T + b1) @ W2.T + b2", "and not for h"),
    Mistake(
        "adapter_forward",
        "up before down",
        "return h + np.maximum(h @ W2 + b1, 0) @ W1 + b2",
        "changed places",
    ),
    Mistake(
        "adapter_forward",
        "into h itself",
        """
        h += np.maximum(h @ W1.T + b1, 0) @ W2.T + b2
        return h
        """,
        "changes h itself",
    ),
    Mistake(
        "adapter_forward",
        "into an array of h's dtype",
        "y = np.empty_like(h)\ny[...] = h + np.maximum(h @ W1.T + b1, 0) @ W2.T + b2\nreturn y",
        "an array has whole numbers",
    ),
    Mistake(
        "adapter_forward",
        "cut off at 6",
        "return h + np.clip(h @ W1.T + b1, 0, 6) @ W2.T + b2",
        "values are large",
    ),
    # Task 3
    Mistake(
        "change_at",
        "a shut adapter",
        """
        is_open = W1 @ h + b1 > 0
        return W2[:, is_open] @ W1[is_open] if is_open.any() else np.zeros_like(h)
        """,
        "all the same",
    ),
    Mistake("change_at", "into W1", "W1[W1 @ h + b1 <= 0] = 0\nreturn W2 @ W1", "changed its argument W1"),
    Mistake("change_at", "all open", "return W2 @ W1", "taken as open"),
    Mistake(
        "change_at",
        "residual in it",
        """
        is_open = W1 @ h + b1 > 0
        return np.eye(len(h)) + (W2 * is_open) @ W1
        """,
        "without the identity",
    ),
    Mistake("change_at", "transposed", "return W1.T @ ((W1 @ h + b1 > 0)[:, None] * W2.T)", "J is transposed"),
    Mistake("change_at", "bias forgotten", "return (W2 * (W1 @ h > 0)) @ W1", "bias decides too"),
    Mistake("change_at", "values for slopes", "return (W2 * np.maximum(W1 @ h + b1, 0)) @ W1", "not its own value"),
    Mistake("change_at", "closed ones", "return (W2 * (W1 @ h + b1 < 0)) @ W1", "closed entries"),
    Mistake("change_at", "what is added", "return W2 @ np.maximum(W1 @ h + b1, 0)", "a vector"),
    Mistake("change_at", "np.sign", "return W2 @ np.diag(np.sign(W1 @ h + b1)) @ W1", "np.sign"),
    Mistake("change_at", "entries of h", "return W2 @ W1 @ np.diag(h > 0)", "not the entries of h"),
    Mistake("change_at", "uncut values", "return W2 @ np.diag(W1 @ h + b1) @ W1", "not its own value"),
    Mistake("change_at", "diag first", "return np.diag(W1 @ h + b1 > 0) @ W2 @ W1", "wrong shape"),
    Mistake("change_at", "up before down", "return np.diag(W1 @ h + b1 > 0) @ W1 @ W2", "first down, then up"),
    # Task 4
    Mistake(
        "Adapter.__init__",
        "up random",
        START + "W2 = rng.uniform(-bound, bound, (d, m)).astype('float32')" + LINEARS,
        "up.weight and up.bias zero",
    ),
    Mistake("Adapter.__init__", "both zero", START + "W1 = np.zeros_like(W1)" + LINEARS, "Both weights are zero"),
    Mistake(
        "Adapter.__init__",
        "nn.Linear's own start",
        "self.down, self.up = nn.Linear(d, m, rng=rng), nn.Linear(m, d, rng=rng)",
        "up.weight and up.bias zero",
    ),
    Mistake(
        "Adapter.__init__",
        "no bias",
        START + "self.down, self.up = nn.Linear.from_arrays(W1), nn.Linear.from_arrays(W2)",
        "have a bias",
    ),
    Mistake("Adapter.__init__", "plain arrays", START + "self.down, self.up = W1, W2", "must be nn.Linear"),
    Mistake(
        "Adapter.__init__",
        "bound of m",
        START + "W1 = W1 * np.float32((d / m) ** 0.5)" + LINEARS,
        "between -1/√d",
    ),
    Mistake(
        "Adapter.__init__",
        "bound of m where m is larger",
        START + "W1 = W1 * np.float32((d / max(d, m)) ** 0.5)" + LINEARS,
        "not 1/√m",
    ),
    Mistake(
        "Adapter.__init__",
        "seed ignored",
        START + "W1 = np.random.default_rng(0).uniform(-bound, bound, (m, d)).astype('float32')" + LINEARS,
        "Every seed gives the same start",
    ),
    Mistake("Adapter.__init__", "frozen", START + LINEARS + "self.requires_grad_(False)", "All four arrays"),
    Mistake("Adapter.forward", "no residual", "return self.up(F.relu(self.down(h)))", "residual is missing"),
    Mistake("Adapter.forward", "linear", "return h + self.up(self.down(h))", "nonlinearity is missing"),
    Mistake(
        "Adapter.forward",
        "graph cut",
        "return h + Tensor(self.up(F.relu(self.down(h))).data)",
        "No gradient reaches",
    ),
    Mistake("Adapter.__init__", "W1 the wrong way", START + "W1 = W1.T.copy()" + LINEARS, "down.weight is (m, d)"),
    Mistake("Adapter.__init__", "a small normal", START + "W1 = W1 * np.float32(0.1)" + LINEARS, "reach its bounds"),
    Mistake("Adapter.forward", "ReLU at the end", "return h + F.relu(self.up(self.down(h)))", "behind up"),
    Mistake("Adapter.forward", "ReLU over the sum", "return F.relu(h + self.up(F.relu(self.down(h))))", "over the sum"),
    Mistake(
        "Adapter.forward", "NumPy's maximum", "return h + self.up(np.maximum(self.down(h), 0))", "do not take Tensors"
    ),
    Mistake(
        "Adapter.forward",
        "biases left out",
        "return h + F.relu(h @ self.down.weight.T) @ self.up.weight.T",
        "biases are missing",
    ),
    Mistake(
        "Adapter.forward",
        "residual cut off",
        "return Tensor(h.data) + self.up(F.relu(self.down(h)))",
        "the residual to",
    ),
    Mistake(
        "Adapter.forward", "input cut off", "return h + self.up(F.relu(self.down(Tensor(h.data))))", "passes none on"
    ),
    Mistake(
        "Adapter.forward",
        "two axes",
        """
        n, d = h.shape
        return h + self.up(F.relu(self.down(h)))
        """,
        "more axes than two",
    ),
    # Task 5
    Mistake("Behind.__init__", "not frozen", "self.module, self.adapter = module, adapter", "module is not frozen"),
    Mistake(
        "Behind.__init__",
        "all frozen",
        """
        self.module, self.adapter = module, adapter
        self.requires_grad_(False)
        """,
        "Nothing trains",
    ),
    Mistake("Behind.forward", "x alone", "return self.adapter(self.module(x))", "other arguments are lost"),
    Mistake("Behind.forward", "no kwargs", "return self.adapter(self.module(x, *args))", "by name are lost"),
    Mistake("Behind.forward", "no args", "return self.adapter(self.module(x, **kwargs))", "by place are lost"),
    Mistake(
        "Behind.forward",
        "residual twice",
        """
        h = self.module(x, *args, **kwargs)
        return h + self.adapter(h)
        """,
        "counted twice",
    ),
    Mistake(
        "Behind.forward",
        "in front",
        "return self.module(self.adapter(x), *args, **kwargs)",
        "in front of the module",
    ),
    Mistake(
        "Behind.forward",
        "beside",
        "return self.module(x, *args, **kwargs) + self.adapter(x) - x",
        "beside the module",
    ),
    Mistake("Behind.forward", "no adapter", "return self.module(x, *args, **kwargs)", "adapter is missing"),
    Mistake(
        "Behind.__init__",
        "weights and biases frozen",
        """
        for name, p in module.named_parameters():
            if "weight" in name or "bias" in name:
                p.requires_grad = False
        self.module, self.adapter = module, adapter
        """,
        "beside its weights and biases",
    ),
    Mistake(
        "Behind.__init__",
        "frozen at the first call",
        "self.module, self.adapter = module, adapter",
        "module is not frozen",
        also=(
            (
                "Behind.forward",
                """
                self.module.requires_grad_(False)
                return self.adapter(self.module(x, *args, **kwargs))
                """,
            ),
        ),
    ),
    Mistake(
        "Behind.__init__",
        "other names",
        "self.base, self.small = module.requires_grad_(False), adapter",
        "called module and adapter",
        also=(("Behind.forward", "return self.small(self.base(x, *args, **kwargs))"),),
    ),
    Mistake(
        "Behind.forward",
        "graph cut",
        "return self.adapter(Tensor(self.module(x, *args, **kwargs).data))",
        "not that none passes",
    ),
    Mistake(
        "Behind.forward",
        "arguments for both",
        "return self.adapter(self.module(x, *args, **kwargs), *args, **kwargs)",
        "for the module alone",
    ),
    Mistake("Behind.forward", "stars left out", "return self.adapter(self.module(x, args, kwargs))", "The stars"),
    Mistake("Behind.forward", "x added", "return x + self.adapter(self.module(x, *args, **kwargs))", "the block does"),
    Mistake(
        "Behind.forward",
        "by place",
        "return self.adapter(self.module(x, *args, *kwargs.values()))",
        "hand them on by name",
    ),
    # Task 6
    Mistake(
        "insert",
        "behind blocks",
        PLACES
        + 'chosen = [(p, b) for p, b in model.named_modules() if p.startswith("layers.") and p.count(".") == 1]'
        + FREEZE
        + REPLACE
        + RETURN,
        "behind whole blocks",
    ),
    Mistake(
        "insert",
        "substring",
        PLACES
        + "chosen = [(p, b) for p, b in model.named_modules() if any(n in p for n in names) and type(b) is nn.Linear]"
        + FREEZE
        + REPLACE
        + RETURN,
        "inside the mlp",
    ),
    Mistake(
        "insert",
        "anything with the name in it",
        PLACES + "chosen = [(p, b) for p, b in model.named_modules() if any(n in p for n in names)]" + FREEZE + REPLACE,
        "inside the mlp",
    ),
    Mistake(
        "insert",
        "ends in",
        PLACES + "chosen = [(p, b) for p, b in model.named_modules() if p.endswith(names)]" + FREEZE + REPLACE + RETURN,
        "not its end",
    ),
    Mistake(
        "insert",
        "begins with",
        PLACES
        + FIND.replace('path.split(".")[-1] in names', 'path.split(".")[-1].startswith(names)')
        + FREEZE
        + REPLACE
        + RETURN,
        "not its beginning",
    ),
    Mistake(
        "insert",
        "weights and biases frozen",
        PLACES
        + FIND
        + """
for name, p in model.named_parameters():
    if name.split(".")[-1] in ("weight", "bias"):
        p.requires_grad = False
"""
        + REPLACE
        + RETURN,
        "beside the weights and biases",
    ),
    Mistake(
        "insert",
        "always both",
        PLACES + 'names = ("self_attn", "mlp")' + FIND + FREEZE + REPLACE + RETURN,
        "Pfeiffer has one",
    ),
    Mistake("insert", "never both", PLACES + 'names = ("mlp",)' + FIND + FREEZE + REPLACE + RETURN, "Houlsby has two"),
    Mistake("insert", "rest trains", PLACES + FIND + REPLACE + RETURN, "rest of the model still trains"),
    Mistake("insert", "frozen too late", PLACES + FIND + REPLACE + FREEZE + RETURN, "Freeze first"),
    Mistake(
        "insert",
        "one adapter for all",
        PLACES
        + FIND
        + FREEZE
        + """
one = Adapter(d, m, seed)
for path, module in chosen:
    model.replace(path, Behind(module, one))
"""
        + RETURN,
        "share one adapter",
    ),
    Mistake("insert", "one seed", PLACES + FIND + FREEZE + REPLACE.replace("seed + i", "seed") + RETURN, "start alike"),
    Mistake(
        "insert",
        "first block",
        PLACES + FIND + FREEZE + "chosen = chosen[: len(names)]" + REPLACE + RETURN,
        "Only the first block",
    ),
    Mistake(
        "insert",
        "made and dropped",
        PLACES + FIND + FREEZE + "made = [Behind(b, Adapter(d, m, seed)) for _, b in chosen]" + RETURN,
        "Nothing was replaced",
    ),
    Mistake(
        "insert",
        "adapters in the modules' place",
        PLACES
        + FIND
        + FREEZE
        + REPLACE.replace("Behind(module, Adapter(d, m, seed + i))", "Adapter(d, m, seed + i)")
        + RETURN,
        "itself is gone",
    ),
    Mistake(
        "insert",
        "widths swapped",
        PLACES + FIND + FREEZE + REPLACE.replace("Adapter(d, m,", "Adapter(m, d,") + RETURN,
        "comes first",
    ),
    Mistake(
        "insert",
        "counted from 1",
        PLACES + FIND + FREEZE + REPLACE.replace("(chosen)", "(chosen, 1)") + RETURN,
        "from 0",
    ),
    Mistake(
        "insert",
        "a seed a block",
        PLACES + FIND + FREEZE + REPLACE.replace("seed + i", "seed + i // len(names)") + RETURN,
        "Other starts",
    ),
    Mistake(
        "insert",
        "the third name",
        PLACES
        + "chosen = [(p, b) for p, b in model.named_modules() if p.count('.') == 2 and p.split('.')[2] in names]"
        + "\nif not chosen:\n    raise ValueError('nothing')"
        + FREEZE
        + REPLACE
        + RETURN,
        "may lie deeper",
    ),
    Mistake(
        "insert",
        "sorted by name",
        PLACES + FIND + FREEZE + REPLACE + "return sorted(path for path, _ in chosen)",
        "in the model's order",
    ),
    Mistake("insert", "nothing returned", PLACES + FIND + FREEZE + REPLACE, "Return the paths"),
    Mistake(
        "insert",
        "nothing found, nothing said",
        PLACES + FIND.splitlines()[1] + FREEZE + REPLACE + RETURN,
        "no adapter was put in",
    ),
    Mistake(
        "insert",
        "any other is Pfeiffer",
        'names = ("self_attn", "mlp") if placement == "houlsby" else ("mlp",)' + FIND + FREEZE + REPLACE + RETURN,
        "must be refused",
    ),
    Mistake(
        "count_parameters",
        "in 32 bits",
        """
        number = {"houlsby": 2, "pfeiffer": 1}.get(placement)
        if number is None:
            raise ValueError(placement)
        one = np.prod([[m, d], [m, 1], [d, m], [d, 1]], axis=1, dtype="int32").sum(dtype="int32")
        return blocks * number * int(one)
        """,
        "too large for 32 bits",
    ),
    Mistake(
        "count_parameters",
        "products of 32 bits",
        """
        number = {"houlsby": 2, "pfeiffer": 1}.get(placement)
        if number is None:
            raise ValueError(placement)
        rows, columns = np.array([[m, m, d, d], [d, 1, m, 1]], dtype="int32")
        return blocks * number * int((rows * columns).sum())
        """,
        "too large for 32 bits",
    ),
    Mistake(
        "count_parameters",
        "in float32",
        """
        number = {"houlsby": 2, "pfeiffer": 1}.get(placement)
        if number is None:
            raise ValueError(placement)
        return int(blocks * number * np.float32(2 * d * m + m + d))
        """,
        "exact to its last digit",
    ),
    Mistake(
        "count_parameters",
        "any case",
        """
        number = {"houlsby": 2, "pfeiffer": 1}.get(placement.lower())
        if number is None:
            raise ValueError(placement)
        return blocks * number * (2 * d * m + m + d)
        """,
        "with a capital",
    ),
    Mistake(
        "adapter_forward",
        "row by row",
        "return np.array([row + W2 @ np.maximum(W1 @ row + b1, 0) + b2 for row in h])",
        "Where there are no rows",
    ),
    Mistake("Adapter.__init__", "in float64", START.replace("float32", "float64") + LINEARS, "is not float32"),
    Mistake(
        "Adapter.__init__",
        "a start that is kept",
        START + "W1 = vars(np.random).setdefault(f'start of {d}, {m}, {seed}', W1)" + LINEARS,
        "share an array",
    ),
    Mistake(
        "Adapter.forward",
        "off in evaluation",
        "return h + self.up(F.relu(self.down(h))) if self.training else h",
        "the same in both modes",
    ),
    Mistake(
        "Adapter.forward",
        "rows counted",
        """
        rows = h.reshape(-1, h.shape[-1])
        return (rows + self.up(F.relu(self.down(rows)))).reshape(*h.shape[:-1], -1)
        """,
        "where something is empty",
    ),
    Mistake(
        "Behind.__init__",
        "a copy of the module",
        """
        from copy import deepcopy
        self.module, self.adapter = deepcopy(module).requires_grad_(False), adapter
        """,
        "and no copies",
    ),
    Mistake(
        "Behind.forward",
        "without the adapter in evaluation",
        """
        y = self.module(x, *args, **kwargs)
        return self.adapter(y) if self.training else y
        """,
        "the same in both modes",
    ),
    Mistake(
        "Behind.forward",
        "arguments that are remembered",
        """
        self.given = {**getattr(self, "given", {}), **kwargs}
        return self.adapter(self.module(x, *args, **self.given))
        """,
        "An argument by name belongs to that name",
    ),
    Mistake(
        "Behind.forward",
        "arguments that are not 0",
        """
        args, kwargs = [a for a in args if a], {name: a for name, a in kwargs.items() if a}
        return self.adapter(self.module(x, *args, **kwargs))
        """,
        "An argument of 0",
    ),
    Mistake(
        "insert",
        "behind a dot",
        PLACES
        + "names = tuple(f'.{name}' for name in names)"
        + FIND.replace('path.split(".")[-1] in names', "path.endswith(names)")
        + FREEZE
        + REPLACE
        + RETURN,
        "A path may have no dot",
    ),
    Mistake(
        "insert",
        "set as an attribute",
        PLACES
        + FIND
        + FREEZE
        + """
for i, (path, module) in enumerate(chosen):
    holder, _, name = path.rpartition(".")
    setattr(model.get_submodule(holder), name, Behind(module, Adapter(d, m, seed + i)))
"""
        + RETURN,
        "in dictionaries",
    ),
    Mistake(
        "insert",
        "trains what is called adapter",
        PLACES
        + FIND
        + REPLACE
        + """
for name, p in model.named_parameters():
    p.requires_grad = ".adapter." in name
"""
        + RETURN,
        "whatever they are called",
    ),
    Mistake(
        "insert",
        "freezes what is not called adapter",
        PLACES
        + FIND
        + """
for name, p in model.named_parameters():
    if "adapter" not in name:
        p.requires_grad = False
"""
        + REPLACE
        + RETURN,
        "whatever they are called",
    ),
]

RIGHT = [
    Right("insert", "a tuple", PLACES + FIND + FREEZE + REPLACE + "return tuple(path for path, _ in chosen)"),
    Right(
        "count_parameters",
        "counted from shapes",
        """
        if placement == "houlsby":
            each = 2
        elif placement == "pfeiffer":
            each = 1
        else:
            raise ValueError
        shapes = np.array([(m, d + 1), (d, m + 1)])
        return np.int64(blocks) * shapes.prod(axis=1).sum() * each
        """,
    ),
    Right(
        "adapter_forward",
        "float32, as lists, by a mask",
        """
        low = np.einsum("nd,md->nm", h, W1) + b1
        low[low < 0] = 0
        print(low.shape)
        return (b2 + low.dot(W2.T) + h).astype("float32").tolist()
        """,
    ),
    Right(
        "change_at",
        "by wiggling",
        """
        def f(h):
            return W2 @ np.maximum(W1 @ h + b1, 0)

        eps = 1e-6
        return np.stack([(f(h + eps * e) - f(h - eps * e)) / (2 * eps) for e in np.eye(len(h))], axis=1)
        """,
    ),
    Right(
        "change_at",
        "a diagonal matrix",
        "return np.linalg.multi_dot([W2, np.diag(np.heaviside(W1.dot(h) + b1, 0.0)), W1])",
    ),
    Right(
        "change_at",
        "entry by entry",
        """
        J = 0.0
        for row, bias, column in zip(W1, b1, W2.T):
            J = J + (row @ h + bias > 0) * np.outer(column, row)
        return J
        """,
    ),
    Right(
        "Adapter.forward",
        "ReLU by a mask",
        """
        low = h @ self.down.weight.T + self.down.bias
        return (low * (low.data > 0)) @ self.up.weight.T + self.up.bias + h
        """,
    ),
    Right(
        "Adapter.__init__",
        "Linears filled by hand",
        """
        self.up = nn.Linear(m, d)
        self.up.weight.data = self.up.weight.data * 0
        self.up.bias.data = self.up.bias.data * 0
        self.down = nn.Linear(d, m, rng=rng)
        self.down.bias.data = np.zeros(m, dtype="float32")
        """,
        also=(("Adapter.forward", "return self.up(F.relu(F.linear(h, self.down.weight, self.down.bias))) + h"),),
    ),
    Right(
        "Behind.__init__",
        "parameter by parameter",
        """
        for parameter in module.parameters():
            parameter.requires_grad = False
        self.adapter = adapter
        self.module = module
        """,
        also=(
            (
                "Behind.forward",
                """
                h = self.module.forward(x, *args, **kwargs)
                return self.adapter(h)
                """,
            ),
        ),
    ),
    Right(
        "insert",
        "while walking",
        """
        if placement not in ("houlsby", "pfeiffer"):
            raise ValueError(placement)
        for parameter in model.parameters():
            parameter.requires_grad = False
        done = []
        for path, module in list(model.named_modules()):
            name = path.rpartition(".")[2]
            if name == "mlp" or (name == "self_attn" and placement == "houlsby"):
                adapter = Adapter(d, m, seed=seed + len(done))
                model.replace(path, Behind(module=module, adapter=adapter))
                done.append(path)
        if not done:
            raise ValueError("nothing there")
        return done
        """,
    ),
]
