"""Answers to lesson 08 that the checks are tried on."""

from minilora.classroom import Mistake, Right

MISTAKES = [
    # Task 1
    Mistake("count_parameters", "W counted too", "return r * (d_in + d_out) + d_in * d_out, d_in * d_out", "on top"),
    Mistake("count_parameters", "one matrix", "return r * d_in, d_in * d_out", "two matrices"),
    Mistake("count_parameters", "sizes multiplied", "return (r * d_in) * (d_out * r), d_in * d_out", "do not multiply"),
    Mistake("count_parameters", "square", "return 2 * r * d_in, d_in * d_out", "need not be equal"),
    Mistake("count_parameters", "order", "return d_in * d_out, r * (d_in + d_out)", "comes first"),
    Mistake("count_parameters", "one number", "return r * (d_in + d_out)", "2 results"),
    Mistake(
        "count_parameters",
        "in 32 bits",
        """
        sizes = np.array([d_in, d_out], dtype="int32")
        return int(r * sizes.sum()), int(np.prod(sizes, dtype="int32"))
        """,
        "wraps around",
    ),
    Mistake(
        "count_parameters",
        "never more than full",
        "return min(r * (d_in + d_out), d_in * d_out), d_in * d_out",
        "A large rank",
    ),
    # Task 2
    Mistake(
        "start_matrices",
        "one row for all",
        """
        bound = 1 / np.sqrt(d_in)
        return np.tile(rng.uniform(-bound, bound, d_in), (r, 1)), np.zeros((d_out, r))
        """,
        "numbers of A repeat",
    ),
    Mistake(
        "start_matrices",
        "kept for the next call",
        """
        kept = start_matrices.__dict__.setdefault("kept", {})
        bound = 1 / np.sqrt(d_in)
        fresh = rng.uniform(-bound, bound, (r, d_in)), np.zeros((d_out, r))
        return kept.setdefault((d_in, d_out, r, seed), fresh)
        """,
        "shares memory with an earlier result",
    ),
    Mistake(
        "start_matrices",
        "both zero",
        "return np.zeros((r, d_in)), np.zeros((d_out, r))",
        "Both are zero",
    ),
    Mistake(
        "start_matrices",
        "both random",
        """
        bound = 1 / np.sqrt(d_in)
        return rng.uniform(-bound, bound, (r, d_in)), rng.uniform(-bound, bound, (d_out, r))
        """,
        "does not start at zero",
    ),
    Mistake(
        "start_matrices",
        "places changed",
        """
        bound = 1 / np.sqrt(d_in)
        return np.zeros((r, d_in)), rng.uniform(-bound, bound, (d_out, r))
        """,
        "changed places",
    ),
    Mistake(
        "start_matrices",
        "transposed",
        """
        bound = 1 / np.sqrt(d_in)
        return rng.uniform(-bound, bound, (d_in, r)), np.zeros((r, d_out))
        """,
        "another shape",
    ),
    Mistake(
        "start_matrices",
        "bound of r",
        "return rng.uniform(-1 / np.sqrt(r), 1 / np.sqrt(r), (r, d_in)), np.zeros((d_out, r))",
        "not 1/√r",
    ),
    Mistake(
        "start_matrices",
        "no root",
        "return rng.uniform(-1 / d_in, 1 / d_in, (r, d_in)), np.zeros((d_out, r))",
        "not 1/d_in",
    ),
    Mistake(
        "start_matrices",
        "only positive",
        "return rng.uniform(0, 1 / np.sqrt(d_in), (r, d_in)), np.zeros((d_out, r))",
        "never negative",
    ),
    Mistake(
        "start_matrices",
        "normal",
        "return rng.standard_normal((r, d_in)) / np.sqrt(d_in), np.zeros((d_out, r))",
        "uniformly",
    ),
    Mistake(
        "start_matrices",
        "seed ignored",
        """
        bound = 1 / np.sqrt(d_in)
        return np.random.uniform(-bound, bound, (r, d_in)), np.zeros((d_out, r))
        """,
        "global generator",
    ),
    Mistake(
        "start_matrices",
        "a generator without the seed",
        """
        bound = 1 / np.sqrt(d_in)
        return np.random.default_rng().uniform(-bound, bound, (r, d_in)), np.zeros((d_out, r))
        """,
        "same seed",
    ),
    Mistake(
        "start_matrices",
        "bound of r where r is larger",
        """
        bound = 1 / np.sqrt(max(d_in, r))
        return rng.uniform(-bound, bound, (r, d_in)).astype("float32"), np.zeros((d_out, r), "float32")
        """,
        "not 1/√r",
    ),
    # Task 3
    Mistake("lora_forward", "no scale", "return x @ W.T + x @ A.T @ B.T", "not scaled"),
    Mistake("lora_forward", "alpha alone", "return x @ W.T + alpha * (x @ A.T @ B.T)", "divide by r"),
    Mistake("lora_forward", "r / alpha", "return x @ W.T + r / alpha * (x @ A.T @ B.T)", "wrong way round"),
    Mistake("lora_forward", "all scaled", "return alpha / r * (x @ W.T + x @ A.T @ B.T)", "only the update"),
    Mistake("lora_forward", "no base", "return alpha / r * (x @ A.T @ B.T)", "base is missing"),
    Mistake("lora_forward", "no update", "return x @ W.T", "update is missing"),
    Mistake("lora_forward", "root of r", "return x @ W.T + alpha / np.sqrt(r) * (x @ A.T @ B.T)", "rank-stabilized"),
    Mistake("lora_forward", "not transposed", "return x @ W.T + alpha / r * (x @ A @ B)", "both are transposed"),
    Mistake("lora_forward", "into W", "W += alpha / r * (B @ A)\nreturn x @ W.T", "changed its argument W"),
    Mistake("lora_forward", "a whole scale", "return x @ W.T + alpha // r * (x @ A.T @ B.T)", "cuts it off"),
    Mistake(
        "lora_forward",
        "root of a large r",
        "return x @ W.T + alpha / (r if r <= 32 else r**0.5) * (x @ A.T @ B.T)",
        "rank-stabilized",
    ),
    # Task 4
    Mistake(
        "LoraLayer.__init__",
        "the base's weight copied",
        """
        A, B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base, self.A, self.B, self.scaling = linear, nn.Parameter(A), nn.Parameter(B), alpha / r
        self.weight = linear.requires_grad_(False).weight.data.copy()
        """,
        "that of a copy",
        also=(
            (
                "LoraLayer.forward",
                """
                update = F.linear(F.linear(x, self.A), self.B) * self.scaling
                return F.linear(x, Tensor(self.weight), self.base.bias) + update
                """,
            ),
        ),
    ),
    Mistake(
        "LoraLayer.forward",
        "off in evaluation",
        """
        y = self.base(x)
        return y + F.linear(F.linear(x, self.A), self.B) * self.scaling if self.training else y
        """,
        "After layer.eval()",
    ),
    Mistake(
        "LoraLayer.forward",
        "two axes alone",
        """
        rows = x.reshape(-1, x.shape[-1])
        return self.base(rows) + F.linear(F.linear(rows, self.A), self.B) * self.scaling
        """,
        "any leading axes",
    ),
    Mistake(
        "LoraLayer.forward",
        "x detached",
        "return self.base(x) + F.linear(F.linear(x.detach(), self.A), self.B) * self.scaling",
        "gradient of x",
    ),
    Mistake(
        "LoraLayer.__init__",
        "base left trainable",
        """
        A, B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base, self.A, self.B, self.scaling = linear, nn.Parameter(A), nn.Parameter(B), alpha / r
        """,
        "base is not frozen",
    ),
    Mistake(
        "LoraLayer.__init__",
        "plain arrays",
        """
        self.A, self.B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base, self.scaling = linear.requires_grad_(False), alpha / r
        """,
        "nn.Parameter",
    ),
    Mistake(
        "LoraLayer.__init__",
        "frozen update",
        """
        A, B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base, self.A, self.B, self.scaling = linear, Tensor(A), Tensor(B), alpha / r
        self.requires_grad_(False)
        """,
        "A and B must train",
    ),
    Mistake(
        "LoraLayer.__init__",
        "both random",
        """
        A, _ = start_matrices(linear.in_features, linear.out_features, r, seed)
        B, _ = start_matrices(r, linear.out_features, linear.out_features, seed)
        self.base, self.A, self.B, self.scaling = linear, nn.Parameter(A), nn.Parameter(B), alpha / r
        linear.requires_grad_(False)
        """,
        "is B zero?",
    ),
    Mistake(
        "LoraLayer.forward",
        "no scale",
        "return self.base(x) + F.linear(F.linear(x, self.A), self.B)",
        "not scaled",
    ),
    Mistake(
        "LoraLayer.forward",
        "bias lost",
        "return F.linear(x, self.base.weight) + F.linear(F.linear(x, self.A), self.B) * self.scaling",
        "bias is lost",
    ),
    Mistake(
        "LoraLayer.forward",
        "base missing",
        "return F.linear(F.linear(x, self.A), self.B) * self.scaling",
        "base is missing",
    ),
    Mistake("LoraLayer.forward", "update missing", "return self.base(x)", "No gradient reaches"),
    Mistake(
        "LoraLayer.forward",
        "graph cut",
        "return self.base(x) + Tensor((x.data @ self.A.data.T @ self.B.data.T) * self.scaling)",
        "No gradient reaches",
    ),
    # Task 5
    Mistake(
        "inject",
        "substring",
        """
        model.requires_grad_(False)
        pairs = list(model.named_modules())
        paths = [p for p, m in pairs if isinstance(m, nn.Linear) and any(p.endswith(t) for t in targets)]
        for path in paths:
            model.replace(path, LoraLayer(model.get_submodule(path), r, alpha, seed))
        return paths
        """,
        "whole last name",
    ),
    Mistake(
        "inject",
        "rest left trainable",
        """
        paths = [p for p, m in model.named_modules() if isinstance(m, nn.Linear) and p.split(".")[-1] in targets]
        for path in paths:
            model.replace(path, LoraLayer(model.get_submodule(path), r, alpha, seed))
        return paths
        """,
        "rest of the model still trains",
    ),
    Mistake(
        "inject",
        "frozen too late",
        """
        paths = [p for p, m in model.named_modules() if isinstance(m, nn.Linear) and p.split(".")[-1] in targets]
        for path in paths:
            model.replace(path, LoraLayer(model.get_submodule(path), r, alpha, seed))
        model.requires_grad_(False)
        return paths
        """,
        "Freeze first",
    ),
    Mistake(
        "inject",
        "made and dropped",
        """
        model.requires_grad_(False)
        paths = [p for p, m in model.named_modules() if isinstance(m, nn.Linear) and p.split(".")[-1] in targets]
        for path in paths:
            layer = LoraLayer(model.get_submodule(path), r, alpha, seed)
        return paths
        """,
        "Nothing was replaced",
    ),
    Mistake(
        "inject",
        "first only",
        """
        model.requires_grad_(False)
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and path.split(".")[-1] in targets:
                model.replace(path, LoraLayer(module, r, alpha, seed))
                return [path]
        """,
        "Only the first",
    ),
    Mistake(
        "inject",
        "nothing returned",
        """
        model.requires_grad_(False)
        for path, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and path.split(".")[-1] in targets:
                model.replace(path, LoraLayer(module, r, alpha, seed))
        """,
        "Return the paths",
    ),
    Mistake(
        "inject",
        "unmatched target ignored",
        """
        model.requires_grad_(False)
        paths = [p for p, m in model.named_modules() if isinstance(m, nn.Linear) and p.split(".")[-1] in targets]
        for path in paths:
            model.replace(path, LoraLayer(model.get_submodule(path), r, alpha, seed))
        return paths
        """,
        "matches no Linear",
    ),
    Mistake(
        "inject",
        "targets crossed off",
        """
        linears = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)]
        chosen = [(p, m) for p, m in linears if p.split(".")[-1] in targets]
        for path, _ in chosen:
            if path.split(".")[-1] in targets:
                targets.remove(path.split(".")[-1])
        if targets:
            raise ValueError(targets)
        model.requires_grad_(False)
        for path, linear in chosen:
            model.replace(path, LoraLayer(linear, r, alpha, seed))
        return [path for path, _ in chosen]
        """,
        "changed its argument targets",
    ),
    Mistake(
        "inject",
        "a letter of the path",
        """
        linears = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)]
        chosen = [(p, m) for p, m in linears if p.split(".")[-1] in targets]
        if set(targets) - {p.split(".")[-1] for p, _ in chosen}:
            raise ValueError(targets)
        for path, linear in chosen:
            model.replace(path, LoraLayer(linear, r, alpha, seed))
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "A" in name or "B" in name
        return [path for path, _ in chosen]
        """,
        "whole name A or B",
    ),
    Mistake(
        "inject",
        "what is called A or B",
        """
        linears = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)]
        chosen = [(p, m) for p, m in linears if p.split(".")[-1] in targets]
        if set(targets) - {p.split(".")[-1] for p, _ in chosen}:
            raise ValueError(targets)
        for path, linear in chosen:
            model.replace(path, LoraLayer(linear, r, alpha, seed))
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.split(".")[-1] in ("A", "B")
        return [path for path, _ in chosen]
        """,
        "parameter of its own that is called A",
    ),
    Mistake(
        "inject",
        "any name on the path",
        """
        linears = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)]
        chosen = [(p, m) for p, m in linears if set(p.split(".")) & set(targets)]
        if set(targets) - {name for p, _ in chosen for name in p.split(".")}:
            raise ValueError(targets)
        model.requires_grad_(False)
        for path, linear in chosen:
            model.replace(path, LoraLayer(linear, r, alpha, seed))
        return [path for path, _ in chosen]
        """,
        "has another last name",
    ),
    # Task 6
    Mistake(
        "merge",
        "a flag",
        """
        if getattr(model, "is_merged", False):
            raise ValueError("merged")
        model.is_merged = True
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias
            model.replace(path, nn.Linear.from_arrays(weight, None if bias is None else bias.data))
        return [path for path, _ in layers]
        """,
        "never had a LoraLayer",
    ),
    Mistake(
        "merge",
        "float64",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data.astype("float64") + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias
            model.replace(path, nn.Linear.from_arrays(weight, None if bias is None else bias.data))
        return [path for path, _ in layers]
        """,
        "another dtype",
    ),
    Mistake(
        "merge",
        "no scale",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.B.data @ layer.A.data
            bias = None if layer.base.bias is None else layer.base.bias.data
            model.replace(path, nn.Linear.from_arrays(weight, bias))
        return [path for path, _ in layers]
        """,
        "without its scale",
    ),
    Mistake(
        "merge",
        "a product of transposes",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.A.data.T @ layer.B.data.T)
            bias = None if layer.base.bias is None else layer.base.bias.data
            model.replace(path, nn.Linear.from_arrays(weight, bias))
        return [path for path, _ in layers]
        """,
        "without a transpose",
    ),
    Mistake(
        "merge",
        "no bias forgotten",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias.data
            model.replace(path, nn.Linear.from_arrays(weight, bias))
        return [path for path, _ in layers]
        """,
        "may have no bias",
    ),
    Mistake(
        "merge",
        "merged, and still added",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        for path, layer in layers:
            layer.base.weight.data = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
        return [path for path, _ in layers]
        """,
        "counted twice",
    ),
    Mistake(
        "merge",
        "bias lost",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            model.replace(path, nn.Linear.from_arrays(weight, None))
        return [path for path, _ in layers]
        """,
        "bias is lost",
    ),
    Mistake(
        "merge",
        "update lost",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            model.replace(path, layer.base)
        return [path for path, _ in layers]
        """,
        "update is lost",
    ),
    Mistake(
        "merge",
        "into the base's array",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            layer.base.weight.data = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            model.replace(path, layer.base)
        return [path for path, _ in layers]
        """,
        "own array was changed",
    ),
    Mistake(
        "merge",
        "layer kept",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias
            layer.base = nn.Linear.from_arrays(weight, None if bias is None else bias.data)
            layer.B.data = np.zeros_like(layer.B.data)
        return [path for path, _ in layers]
        """,
        "still there",
    ),
    Mistake(
        "merge",
        "double merge",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias
            model.replace(path, nn.Linear.from_arrays(weight, None if bias is None else bias.data))
        return [path for path, _ in layers]
        """,
        "second merge must be refused",
    ),
    Mistake(
        "merge",
        "A B for B A",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.A.data @ layer.B.data)
            model.replace(path, nn.Linear.from_arrays(weight, layer.base.bias.data))
        return [path for path, _ in layers]
        """,
        "wrong way round",
    ),
    Mistake(
        "count_parameters",
        "in float32",
        """
        down, up, out = np.float32(r * d_in), np.float32(r * d_out), np.float32(d_out)
        return int(down + up), int(out * np.float32(d_in))
        """,
        "exact to its last digit",
    ),
    Mistake(
        "start_matrices",
        "float64",
        """
        bound = 1 / np.sqrt(d_in)
        return rng.uniform(-bound, bound, (r, d_in)), np.zeros((d_out, r))
        """,
        "not both float32",
    ),
    Mistake(
        "lora_forward",
        "row by row",
        "return np.stack([W @ row + alpha / r * (B @ (A @ row)) for row in x])",
        "Where there are no rows",
    ),
    Mistake(
        "LoraLayer.__init__",
        "float64 beside float32",
        """
        A, B = start_matrices(linear.in_features, linear.out_features, r, seed)
        self.base, self.scaling = linear.requires_grad_(False), alpha / r
        self.A, self.B = (nn.Parameter(m.astype("float64")) for m in (A, B))
        """,
        "The linear is float32, and A and B are not",
    ),
    Mistake(
        "LoraLayer.forward",
        "the update kept by id",
        """
        known = LoraLayer.known = LoraLayer.__dict__.get("known", {})
        if id(self) not in known:
            known[id(self)] = self.B @ self.A
        return self.base(x) + F.linear(x, known[id(self)]) * self.scaling
        """,
        "kept from one call to the next",
    ),
    Mistake(
        "LoraLayer.forward",
        "the update kept for evaluation",
        """
        if self.training:
            return self.base(x) + F.linear(F.linear(x, self.A), self.B) * self.scaling
        if not hasattr(self, "update"):
            update = self.B @ self.A
            self.update = lambda: update
        return self.base(x) + F.linear(x, self.update()) * self.scaling
        """,
        "update of an earlier call",
    ),
    Mistake(
        "LoraLayer.forward",
        "rows counted",
        """
        y = self.base(x)
        rows = x.reshape(-1, x.shape[-1])
        update = F.linear(F.linear(rows, self.A), self.B).reshape(*x.shape[:-1], -1)
        return y + update * self.scaling
        """,
        "where something is empty",
    ),
    Mistake(
        "inject",
        "set as an attribute",
        """
        chosen = [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear) and p.split(".")[-1] in targets]
        if set(targets) - {p.split(".")[-1] for p, _ in chosen}:
            raise ValueError(targets)
        model.requires_grad_(False)
        for path, linear in chosen:
            holder, _, name = path.rpartition(".")
            setattr(model.get_submodule(holder), name, LoraLayer(linear, r, alpha, seed))
        return [path for path, _ in chosen]
        """,
        "is not a module",
    ),
    Mistake(
        "merge",
        "the update kept by id",
        """
        known = merge.__dict__
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            _, update = known.setdefault(str(id(layer)), (layer, layer.scaling * (layer.B.data @ layer.A.data)))
            bias = None if layer.base.bias is None else layer.base.bias.data
            model.replace(path, nn.Linear.from_arrays(layer.base.weight.data + update, bias))
        return [path for path, _ in layers]
        """,
        "of an earlier merge",
    ),
    Mistake(
        "merge",
        "each layer once",
        """
        layers = {module: path for path, module in model.named_modules() if isinstance(module, LoraLayer)}
        if not layers:
            raise ValueError
        for layer, path in layers.items():
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = None if layer.base.bias is None else layer.base.bias.data
            model.replace(path, nn.Linear.from_arrays(weight, bias))
        return list(layers.values())
        """,
        "was not found",
    ),
]

RIGHT = [
    Right(
        "count_parameters",
        "counted from arrays, as a list",
        """
        down, up = np.zeros((r, d_in), dtype="int8"), np.zeros((d_out, r), dtype="int8")
        return [down.size + up.size, np.int64(d_in) * d_out]
        """,
    ),
    Right(
        "start_matrices",
        "drawn between 0 and 1",
        """
        print("start", d_in, d_out)
        return np.float32((2 * rng.random((r, d_in)) - 1) * d_in**-0.5), np.zeros([d_out, r], np.single)
        """,
    ),
    Right(
        "lora_forward",
        "the weight first",
        """
        scale = alpha / r
        changed_weight = W + scale * B.dot(A)
        return np.einsum("ni,oi->no", x, changed_weight)
        """,
    ),
    Right(
        "lora_forward",
        "the scale on x, in float32, as lists",
        """
        x, W, A, B = (np.asarray(a, dtype="float32") for a in (x, W, A, B))
        return (x @ W.T + (x * (alpha / r)) @ A.T @ B.T).tolist()
        """,
    ),
    Right(
        "LoraLayer.__init__",
        "other names, of the linear's dtype",
        """
        down, up = start_matrices(linear.in_features, linear.out_features, r, seed)
        for p in linear.parameters():
            p.requires_grad = False
        dtype = linear.weight.dtype
        self.A, self.B = (Tensor(m.astype(dtype), requires_grad=True) for m in (down, up))
        self.base, self.scaling = linear, alpha / r
        """,
        also=(("LoraLayer.forward", "return x @ self.A.T @ (self.B.T * self.scaling) + self.base(x)"),),
    ),
    Right(
        "inject",
        "while walking",
        """
        names = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, nn.Linear)}
        for name in targets:
            if name not in names:
                raise ValueError(name)
        for parameter in model.parameters():
            parameter.requires_grad = False
        done = []
        for path, module in list(model.named_modules()):
            if path.rpartition(".")[2] in targets and isinstance(module, nn.Linear):
                model.replace(path, LoraLayer(module, r=r, alpha=alpha, seed=seed))
                done.append(path)
        return done
        """,
    ),
    Right(
        "merge",
        "a Linear filled by hand",
        """
        paths = []
        for path, layer in list(model.named_modules()):
            if type(layer) is LoraLayer:
                out, width = layer.base.weight.shape
                plain = nn.Linear(width, out, bias=layer.base.bias is not None)
                plain.weight.data = layer.base.weight.data + layer.B.data.dot(layer.A.data) * layer.scaling
                if layer.base.bias is not None:
                    plain.bias.data = layer.base.bias.data
                model.replace(path, plain)
                paths.append(path)
        if paths:
            return paths
        raise ValueError("no LoraLayer")
        """,
    ),
    Right(
        "merge",
        "a Tensor as bias",
        """
        layers = [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]
        if not layers:
            raise ValueError
        for path, layer in layers:
            weight = layer.base.weight.data + layer.scaling * (layer.B.data @ layer.A.data)
            bias = layer.base.bias
            model.replace(path, nn.Linear.from_arrays(weight, bias))
        return [path for path, _ in layers]
        """,
    ),
]
