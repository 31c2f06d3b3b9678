"""Answers to lesson 12 that the checks are tried on."""

from minilora.classroom import Mistake, Right

ARRAYS = """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias, self.scaling = linear.requires_grad_(False).bias, scaling
        self.A, self.B = A, B
"""
KEPT = """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.linear, self.bias, self.scaling = linear.requires_grad_(False), linear.bias, scaling
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
"""
ONCE = """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.weight = Tensor(dequantize_4bit(self.packed, self.state))
        self.bias, self.scaling = linear.requires_grad_(False).bias, scaling
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
"""
UPDATE = "F.linear(F.linear(x, self.A), self.B)"


def merged(original="W + update", dequantized="base + update", requantized="again", update="scaling * (B @ A)"):
    """An answer to task 4 from its parts."""
    return f"""
        update = {update}
        base = dequantize_4bit(*quantize_4bit(W))
        again = dequantize_4bit(*quantize_4bit(base + update))
        return dict(original={original}, dequantized={dequantized}, requantized={requantized})
    """


def counted(weights="frozen * bits / 8 + 4 * trained", gradients="4 * trained", optimizer="8 * trained"):
    """An answer to task 1 from its parts."""
    return f"return dict(weights={weights}, gradients={gradients}, optimizer={optimizer})"


MISTAKES = [
    # Task 1
    Mistake("training_bytes", "bits", counted("frozen * bits + 4 * trained"), "a byte has 8"),
    Mistake("training_bytes", "adapter forgotten", counted("frozen * bits / 8"), "are weights too"),
    Mistake("training_bytes", "adapter in 4 bits", counted("(frozen + trained) * bits / 8"), "float32, whatever"),
    Mistake("training_bytes", "base in 32 bits", counted("4 * (frozen + trained)"), "not 32"),
    Mistake("training_bytes", "base forgotten", counted("4 * trained"), "frozen numbers are missing"),
    Mistake("training_bytes", "gradients for all", counted(gradients="4 * (frozen + trained)"), "get no gradient"),
    Mistake("training_bytes", "one moment", counted(optimizer="4 * trained"), "two moments"),
    Mistake("training_bytes", "gradient counted twice", counted(optimizer="12 * trained"), "counted already"),
    Mistake("training_bytes", "moments for all", counted(optimizer="8 * (frozen + trained)"), "keeps nothing"),
    Mistake(
        "training_bytes", "whole bits", counted("frozen * int(bits) / 8 + 4 * trained"), "need not be a whole number"
    ),
    Mistake(
        "training_bytes",
        "a total",
        f"kinds = {counted()[7:]}\nreturn kinds | {{'total': sum(kinds.values())}}",
        "no others",
    ),
    Mistake("training_bytes", "rounded", counted("frozen * bits // 8 + 4 * trained"), "not rounded"),
    # Task 2
    Mistake("product", "codes for weights", "return x @ packed", "packed holds codes"),
    Mistake("product", "not transposed", "return x @ dequantize_4bit(packed, state)", "y = x Wᵀ"),
    Mistake("product", "result transposed", "return dequantize_4bit(packed, state) @ x.T", "result is transposed"),
    Mistake("product_gradient", "transposed", "return g @ dequantize_4bit(packed, state).T", "dx = g W"),
    Mistake(
        "product_gradient",
        "none, for rounding",
        "return np.zeros((len(g), state.shape[1]))",
        "Rounding has no gradient",
    ),
    Mistake("product_gradient", "straight through", "return g", "passes through the weight"),
    Mistake(
        "product_gradient", "result transposed", "return dequantize_4bit(packed, state).T @ g.T", "result is transposed"
    ),
    Mistake("product_gradient", "a mean", "return g @ dequantize_4bit(packed, state) / len(g)", "mean over the inputs"),
    Mistake("product", "reshaped", "return x @ dequantize_4bit(packed, state).reshape(x.shape[1], -1)", "weight.T"),
    Mistake(
        "product",
        "scales that are codes",
        """
        codes = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1)
        n = int(np.prod(state.shape))
        return x @ (state.code[codes[:n]] * np.repeat(state.absmax, state.blocksize)[:n]).reshape(state.shape).T
        """,
        "double quantization",
    ),
    Mistake(
        "product",
        "the weight kept",
        """
        product.kept = getattr(product, "kept", []) + [dequantize_4bit(packed, state)]
        return x @ product.kept[-1].T
        """,
        "keeps the float weight",
    ),
    Mistake(
        "product_gradient",
        "scales changed",
        """
        state.absmax *= 2
        return g @ dequantize_4bit(packed, state) / 2
        """,
        "changed its argument state.absmax",
    ),
    # Task 3
    Mistake("QLoraLayer.__init__", "plain arrays", ARRAYS, "nn.Parameter"),
    Mistake("QLoraLayer.__init__", "the Linear kept", KEPT, "still holds the float weight"),
    Mistake(
        "QLoraLayer.__init__",
        "dequantized once",
        ONCE,
        "still holds the float weight",
        also=(("QLoraLayer.forward", f"return F.linear(x, self.weight, self.bias) + {UPDATE} * self.scaling"),),
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the original weight used",
        KEPT,
        "original weight's answer",
        also=(("QLoraLayer.forward", f"return self.linear(x) + {UPDATE} * self.scaling"),),
    ),
    Mistake(
        "QLoraLayer.__init__",
        "bias left trainable",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias, self.scaling = linear.bias, scaling
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        """,
        "bias is not frozen",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the Linear's own bias, frozen",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias, self.scaling = linear.bias, scaling
        if self.bias is not None:
            self.bias.requires_grad = False
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        """,
        "the Linear's own Tensor",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the Linear frozen",
        """
        linear.requires_grad_(False)
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias = None if linear.bias is None else Tensor(linear.bias.data)
        self.A, self.B, self.scaling = nn.Parameter(A), nn.Parameter(B), scaling
        """,
        "was frozen, and stays so",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "update frozen",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias, self.scaling = linear.bias, scaling
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        self.requires_grad_(False)
        """,
        "A and B must train",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the weight trains",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.weight = nn.Parameter(dequantize_4bit(self.packed, self.state))
        self.bias, self.scaling = linear.requires_grad_(False).bias, scaling
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        """,
        "base is not frozen",
        also=(("QLoraLayer.forward", f"return F.linear(x, self.weight, self.bias) + {UPDATE} * self.scaling"),),
    ),
    Mistake(
        "QLoraLayer.forward",
        "an array for F.linear",
        f"""
        weight = dequantize_4bit(self.packed, self.state)
        return F.linear(x, weight, self.bias) + {UPDATE} * self.scaling
        """,
        "kept until backward",
    ),
    Mistake(
        "QLoraLayer.forward",
        "a function that gives what was made before",
        f"""
        weight = dequantize_4bit(self.packed, self.state)
        return F.linear(x, lambda: weight, self.bias) + {UPDATE} * self.scaling
        """,
        "kept until backward",
    ),
    Mistake(
        "QLoraLayer.forward",
        "graph cut",
        f"""
        base = Tensor(x.data @ dequantize_4bit(self.packed, self.state).T)
        return base + self.bias + {UPDATE} * self.scaling if self.bias is not None else base + {UPDATE} * self.scaling
        """,
        "No gradient reaches the input",
    ),
    Mistake(
        "QLoraLayer.forward",
        "update's graph cut",
        """
        low = x.data @ self.A.data.T @ self.B.data.T
        return F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias) + low * self.scaling
        """,
        "No gradient reaches A and B",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the scale put into B",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias = None if linear.bias is None else Tensor(linear.bias.data)
        self.A, self.B, self.scaling = nn.Parameter(A), nn.Parameter(scaling * B), scaling
        """,
        "B must hold the array that was given",
        also=(
            (
                "QLoraLayer.forward",
                f"return F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias) + {UPDATE}",
            ),
        ),
    ),
    Mistake(
        "QLoraLayer.__init__",
        "the Linear emptied",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias = None if linear.bias is None else Tensor(linear.bias.data)
        linear.weight = None
        self.A, self.B, self.scaling = nn.Parameter(A), nn.Parameter(B), scaling
        """,
        "whoever called may still need it",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "no Linear without a bias",
        """
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias = Tensor(linear.bias.data)
        self.A, self.B, self.scaling = nn.Parameter(A), nn.Parameter(B), scaling
        """,
        "may have no bias",
    ),
    Mistake(
        "QLoraLayer.forward",
        "rows alone",
        f"""
        x = x.reshape(-1, x.shape[-1])
        return F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias) + {UPDATE} * self.scaling
        """,
        "further axes in front",
    ),
    Mistake(
        "QLoraLayer.forward",
        "the update from the start",
        """
        if not hasattr(self, "update"):
            self.update = self.scaling * (self.B.detach() @ self.A.detach())
        y = F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias)
        update = F.linear(F.linear(x, self.A), self.B) * self.scaling
        return y + update + (F.linear(x, self.update) - update.detach())
        """,
        "differ",
    ),
    Mistake(
        "QLoraLayer.forward",
        "no scale",
        f"return F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias) + {UPDATE}",
        "not scaled",
    ),
    Mistake(
        "QLoraLayer.forward",
        "bias lost",
        f"return F.linear(x, lambda: dequantize_4bit(self.packed, self.state)) + {UPDATE} * self.scaling",
        "bias is lost",
    ),
    Mistake(
        "QLoraLayer.forward",
        "update missing",
        "return F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias)",
        "update is missing",
    ),
    Mistake(
        "QLoraLayer.forward",
        "what was learned put into the codes",
        f"""
        packed, state = self.packed, self.state
        y = F.linear(x, lambda: dequantize_4bit(packed, state), self.bias) + {UPDATE} * self.scaling
        merged = dequantize_4bit(packed, state) + self.scaling * (self.B.data @ self.A.data)
        self.packed, self.state = quantize_4bit(merged)
        return y
        """,
        "A call changed the codes",
    ),
    # Task 4
    Mistake("three_merges", "no scale", merged(update="B @ A"), "without its scale"),
    Mistake("three_merges", "A B for B A", merged(update="scaling * (A @ B)"), "wrong way round"),
    Mistake("three_merges", "the original rounded", merged(original="base + update"), "was rounded"),
    Mistake("three_merges", "never dequantized", merged(dequantized="W + update"), "trained on the rounded weight"),
    Mistake("three_merges", "update missing", merged(dequantized="base"), "update is missing"),
    Mistake("three_merges", "subtracted", merged(original="W - update"), "subtracted"),
    Mistake("three_merges", "rounded too early", merged(dequantized="again"), "the third way"),
    Mistake("three_merges", "not rounded again", merged(requantized="base + update"), "second way"),
    Mistake(
        "three_merges",
        "the original merged and rounded",
        merged(requantized="dequantize_4bit(*quantize_4bit(W + update))"),
        "here it is the dequantized one",
    ),
    Mistake(
        "three_merges",
        "the update rounded by itself",
        merged(requantized="base + dequantize_4bit(*quantize_4bit(update))"),
        "the sum must be",
    ),
    Mistake(
        "three_merges",
        "codes for weights",
        merged(requantized="quantize_4bit(base + update)[0]"),
        "These are codes",
    ),
    Mistake(
        "three_merges",
        "row by row",
        """
        def rounded(weight):
            return np.stack([dequantize_4bit(*quantize_4bit(row)) for row in weight])

        second = rounded(W) + scaling * (B @ A)
        return dict(original=W + scaling * (B @ A), dequantized=second, requantized=rounded(second))
        """,
        "blocks of 64 go on",
    ),
    Mistake(
        "three_merges",
        "the old state",
        merged(requantized="dequantize_4bit(quantize_4bit(base + update)[0], quantize_4bit(W)[1])"),
        "read with the old state",
    ),
    Mistake(
        "three_merges",
        "W for an update of zeros",
        f"""
        if not B.any():
            return dict(original=W.copy(), dequantized=W.copy(), requantized=W.copy())
        {merged()}
        """,
        "still the rounded weight",
    ),
    Mistake(
        "three_merges",
        "into W",
        f"""
        {merged().replace("return dict", "merged = dict")}
        W += update
        return merged | {{"original": W}}
        """,
        "changed its argument W",
    ),
    # Task 5
    Mistake(
        "survives",
        "the size of the change",
        "return np.linalg.norm(after - before) / np.linalg.norm(update)",
        "project it",
    ),
    Mistake(
        "survives",
        "its square",
        "return ((after - before) ** 2).sum() / (update**2).sum()",
        "project it",
    ),
    Mistake(
        "survives", "before not subtracted", "return (after * update).sum() / (update**2).sum()", "subtract before"
    ),
    Mistake(
        "survives",
        "a cosine",
        """
        change = after - before
        return (change * update).sum() / (np.linalg.norm(change) * np.linalg.norm(update) + 1e-12)
        """,
        "a cosine",
    ),
    Mistake(
        "survives",
        "what is lost",
        "return ((before + update - after) * update).sum() / (update**2).sum()",
        "share that is lost",
    ),
    Mistake("survives", "np.dot", "return np.dot(after - before, update) / np.dot(update, update)", "np.vdot"),
    Mistake("survives", "not divided", "return ((after - before) * update).sum()", "sum of its squares"),
    Mistake(
        "survives", "not squared", "return ((after - before) * update).sum() / np.sqrt((update**2).sum())", "squares"
    ),
    Mistake("survives", "sums", "return (after - before).sum() / update.sum()", "cancel"),
    Mistake(
        "survives",
        "cut off",
        "return np.clip(((after - before) * update).sum() / (update**2).sum(), 0, 1)",
        "do not cut it off",
    ),
    Mistake(
        "survives",
        "the largest singular value",
        "return ((after - before) * update).sum() / np.linalg.norm(update, 2) ** 2",
        "largest singular value",
    ),
    Mistake(
        "survives",
        "a mean of rows",
        "return (((after - before) * update).sum(axis=-1) / (update * update).sum(axis=-1)).mean()",
        "a mean of the rows",
    ),
    Mistake("survives", "a share an element", "return (after - before) / update", "One share"),
    Mistake(
        "training_bytes",
        "in 32 bits",
        """
        trained = np.int32(trained)
        return {"weights": frozen * bits / 8 + 4 * trained, "gradients": 4 * trained, "optimizer": 8 * trained}
        """,
        "too large for 32 bits",
    ),
    Mistake(
        "training_bytes",
        "in float32",
        """
        trained = np.float32(trained)
        return {"weights": frozen * bits / 8 + 4 * trained, "gradients": 4 * trained, "optimizer": 8 * trained}
        """,
        "to the last digit",
    ),
    Mistake(
        "product",
        "row by row",
        "return np.array([dequantize_4bit(packed, state) @ row for row in x])",
        "Where there are no rows",
    ),
    Mistake(
        "QLoraLayer.__init__",
        "kept in the class",
        """
        QLoraLayer.scaling = scaling
        self.packed, self.state = quantize_4bit(linear.weight.data)
        self.bias = None if linear.bias is None else Tensor(linear.bias.data)
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        """,
        "also when another layer is made",
    ),
    Mistake(
        "QLoraLayer.forward",
        "off in evaluation",
        """
        y = F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias)
        return y + self.scaling * F.linear(F.linear(x, self.A), self.B) if self.training else y
        """,
        "In evaluation mode",
    ),
    Mistake(
        "QLoraLayer.forward",
        "the weight kept for evaluation",
        """
        weight = lambda: dequantize_4bit(self.packed, self.state)
        if not self.training:
            self.weight = getattr(self, "weight", None) or (weight(),)
            weight = lambda: self.weight[0]
        return F.linear(x, weight, self.bias) + self.scaling * F.linear(F.linear(x, self.A), self.B)
        """,
        "kept in evaluation mode",
    ),
    Mistake(
        "QLoraLayer.forward",
        "the update kept for evaluation",
        """
        y = F.linear(x, lambda: dequantize_4bit(self.packed, self.state), self.bias)
        if self.training:
            return y + self.scaling * F.linear(F.linear(x, self.A), self.B)
        if not hasattr(self, "update"):
            update = self.scaling * self.B @ self.A
            self.update = lambda: update
        return y + F.linear(x, self.update())
        """,
        "an update of its size, is kept in evaluation mode",
    ),
    Mistake(
        "survives",
        "a difference of products",
        "return (np.vdot(after, update) - np.vdot(before, update)) / np.vdot(update, update)",
        "after - before comes first",
    ),
    Mistake(
        "survives",
        "nearly equal is equal",
        """
        if np.allclose(before, after):
            return 0.0
        return ((after - before) * update).sum() / (update * update).sum()
        """,
        "np.allclose",
    ),
    Mistake(
        "survives",
        "nearly there is there",
        """
        change = np.where(np.isclose(after, before + update), update, after - before)
        return (change * update).sum() / (update * update).sum()
        """,
        "np.isclose",
    ),
    Mistake(
        "survives",
        "a change that is nearly 0",
        """
        change = after - before
        return 0.0 if np.allclose(change, 0) else (change * update).sum() / (update * update).sum()
        """,
        "np.allclose",
    ),
]

RIGHT = [
    Right(
        "QLoraLayer.forward",
        "an operation of its own, by task 2",
        """
        from minilora.tensor import record

        rows = x.data.reshape(-1, x.shape[-1])
        y = product(rows, self.packed, self.state).reshape(*x.shape[:-1], len(self.B.data))
        rule = lambda g: product_gradient(g.reshape(-1, g.shape[-1]), self.packed, self.state).reshape(x.shape)
        y = record(y, (x, rule)) + self.scaling * F.linear(F.linear(x, self.A), self.B)
        return y if self.bias is None else y + self.bias
        """,
    ),
    Right(
        "training_bytes",
        "from bits",
        """
        one = np.float32(0).nbytes
        of_trained = {"gradients": trained * one, "optimizer": trained * one + trained * one}
        return {**of_trained, "weights": (bits * frozen + 32 * trained) / 8}
        """,
    ),
    Right(
        "training_bytes",
        "a Counter of NumPy numbers",
        """
        from collections import Counter

        kinds = Counter(weights=np.float64(frozen) * bits / 8)
        for kind in ("weights", "gradients", "optimizer", "optimizer"):
            kinds[kind] += np.float64(4) * trained
        return kinds
        """,
    ),
    Right(
        "product",
        "in float64, by einsum",
        """
        weight = dequantize_4bit(packed, state).astype("float64")
        print("product", weight.shape)
        return np.einsum("ni,oi->no", x, weight)
        """,
        also=(
            ("product_gradient", 'return np.einsum("no,oi->ni", g, dequantize_4bit(packed, state).astype("float64"))'),
        ),
    ),
    Right(
        "QLoraLayer.__init__",
        "a detached bias, a method for the weight",
        """
        packed, state = quantize_4bit(linear.weight)
        bias = None if linear.bias is None else linear.bias.detach()
        self.A, self.B = Tensor(A, requires_grad=True), Tensor(B, requires_grad=True)
        self.state, self.packed, self.scaling, self.bias = state, packed, scaling, bias
        """,
        also=(
            (
                "QLoraLayer.forward",
                """
                packed, state = self.packed, self.state

                def weight():
                    return dequantize_4bit(packed, state)

                y = F.linear(x, weight) + x @ self.A.T @ (self.B.T * self.scaling)
                return y if self.bias is None else y + self.bias
                """,
            ),
        ),
    ),
    Right(
        "three_merges",
        "step by step",
        """
        packed, state = quantize_4bit(W)
        merged = {"dequantized": dequantize_4bit(packed, state) + (B * scaling).dot(A)}
        merged["original"] = W + (B * scaling).dot(A)
        packed, state = quantize_4bit(merged["dequantized"])
        merged["requantized"] = dequantize_4bit(packed, state)
        return merged
        """,
    ),
    Right(
        "survives",
        "by lstsq",
        """
        direction = update.reshape(-1, 1)
        found = np.linalg.lstsq(direction, (after - before).reshape(-1), rcond=None)[0]
        return found[0]
        """,
    ),
    Right("survives", "by a dot product", "return np.vdot(after - before, update) / np.vdot(update, update)"),
]
