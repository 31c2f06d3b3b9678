"""Answers to lesson 06 that the checks are tried on."""

from minilora.classroom import Mistake, Right

GROUPS = """
        heads = {{id(p) for p in model.head.parameters()}}
        groups = []
        for p in model.parameters():
            if p.requires_grad:
                is_head, is_matrix = id(p) in heads, p.ndim > 1
                {}
        return groups
        """

MISTAKES = [
    # Task 1
    Mistake(
        "count_parameters",
        "frozen ones too",
        """
        total = sum(p.size for _, p in model.named_parameters())
        return total, total
        """,
        "look at requires_grad",
    ),
    Mistake(
        "count_parameters",
        "order",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        return sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)
        """,
        "comes first",
    ),
    Mistake(
        "count_parameters",
        "arrays",
        """
        flags = [p.requires_grad for p in model.parameters()]
        return sum(flags), len(flags)
        """,
        "Arrays were counted",
    ),
    Mistake(
        "count_parameters",
        "rows",
        """
        sizes = [(p.shape[0], p.requires_grad) for p in model.parameters()]
        return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
        """,
        "Rows were counted",
    ),
    Mistake(
        "count_parameters",
        "the frozen ones",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        return sum(n for n, trains in sizes if not trains), sum(n for n, _ in sizes)
        """,
        "how many are frozen",
    ),
    Mistake(
        "count_parameters",
        "trainable twice",
        """
        count = sum(p.size for p in model.parameters() if p.requires_grad)
        return count, count
        """,
        "frozen ones too",
    ),
    Mistake(
        "count_parameters",
        "shared counted twice",
        """
        found = []
        for _, module in model.named_modules():
            for value in vars(module).values():
                if isinstance(value, Tensor):
                    found.append((value.size, value.requires_grad))
        return sum(n for n, trains in found if trains), sum(n for n, _ in found)
        """,
        "counted twice",
    ),
    Mistake(
        "count_parameters",
        "and the frozen ones",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        return sum(n for n, trains in sizes if trains), sum(n for n, trains in sizes if not trains)
        """,
        "not of the frozen ones alone",
    ),
    Mistake(
        "count_parameters",
        "what has a gradient",
        """
        found = list(model.parameters())
        return sum(p.size for p in found if p.grad is not None), sum(p.size for p in found)
        """,
        "whatever its grad",
    ),
    Mistake(
        "count_parameters",
        "body and head",
        """
        found = [*model.body.parameters(), *model.head.parameters()]
        return sum(p.size for p in found if p.requires_grad), sum(p.size for p in found)
        """,
        "A part was left out",
    ),
    Mistake(
        "count_parameters",
        "matrices alone",
        """
        found = [p for p in model.parameters() if p.ndim == 2]
        return sum(p.size for p in found if p.requires_grad), sum(p.size for p in found)
        """,
        "vectors were left out",
    ),
    Mistake(
        "count_parameters",
        "pairs",
        "return sum(p.size for p in model.named_parameters() if p.requires_grad), 0",
        "gives pairs",
    ),
    Mistake(
        "count_parameters",
        "at most two axes",
        """
        sizes = [(p.shape[0] * (p.shape[1] if p.ndim > 1 else 1), p.requires_grad) for p in model.parameters()]
        return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
        """,
        "any number of axes",
    ),
    Mistake(
        "count_parameters",
        "equal ones once",
        """
        found = {(p.shape, p.numpy().tobytes()): p for p in model.parameters()}.values()
        return sum(p.size for p in found if p.requires_grad), sum(p.size for p in found)
        """,
        "equal numbers are still two",
    ),
    Mistake(
        "count_parameters",
        "all trains afterwards",
        """
        found = list(model.parameters())
        trains = sum(p.size for p in found if p.requires_grad)
        model.requires_grad_(True)
        return trains, sum(p.size for p in found)
        """,
        "Counting changed what trains",
    ),
    # Task 2
    Mistake(
        "freeze_all_but",
        "not frozen",
        """
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "freeze everything first",
    ),
    Mistake(
        "freeze_all_but",
        "frozen last",
        """
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        model.requires_grad_(False)
        return []
        """,
        "Nothing trains",
    ),
    Mistake(
        "freeze_all_but",
        "begins so",
        """
        known = [name for name, _ in model.named_modules()]
        if any(path not in known for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = any(name.startswith(path) for path in paths)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "begins the same way",
    ),
    Mistake(
        "freeze_all_but",
        "the other way round",
        """
        model.requires_grad_(True)
        for path in paths:
            model.get_submodule(path).requires_grad_(False)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "other way round",
    ),
    Mistake(
        "freeze_all_but",
        "never unfrozen",
        """
        keep = [id(p) for path in paths for p in model.get_submodule(path).parameters()]
        for p in model.parameters():
            if id(p) not in keep:
                p.requires_grad = False
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "set requires_grad to True",
    ),
    Mistake(
        "freeze_all_but",
        "nothing returned",
        """
        model.requires_grad_(False)
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        """,
        "Return the paths of the parameters",
    ),
    Mistake(
        "freeze_all_but",
        "modules returned",
        """
        model.requires_grad_(False)
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        return paths
        """,
        "not the modules'",
    ),
    Mistake(
        "freeze_all_but",
        "typo ignored",
        """
        model.requires_grad_(False)
        for name, module in model.named_modules():
            if name in paths:
                module.requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "is a typo",
    ),
    Mistake(
        "freeze_all_but",
        "the library's error",
        """
        model.requires_grad_(False)
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "Say it by a ValueError",
    ),
    Mistake(
        "freeze_all_but",
        "refused too late",
        """
        model.requires_grad_(False)
        modules = dict(model.named_modules())
        for path in paths:
            if path not in modules:
                raise ValueError(path)
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "check the paths first",
    ),
    Mistake(
        "freeze_all_but",
        "anywhere in the name",
        """
        known = [name for name, _ in model.named_modules()]
        if any(path not in known for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = any(f"{path}." in name for path in paths)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "A path counts from the model on",
    ),
    Mistake(
        "freeze_all_but",
        "a parameter's path",
        """
        names = [name for name, _ in model.named_parameters()]
        is_below = lambda name, path: not path or name == path or name.startswith(f"{path}.")
        if not all(any(is_below(name, path) for name in names) for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = any(is_below(name, path) for path in paths)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "head.weight is a parameter",
    ),
    Mistake(
        "freeze_all_but",
        "the whole model refused",
        """
        names = [name for name, _ in model.named_parameters()]
        if not all(any(name.startswith(f"{path}.") for name in names) for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = any(name.startswith(f"{path}.") for path in paths)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "path of the whole model",
    ),
    Mistake(
        "freeze_all_but",
        "the last path alone",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        for path in paths:
            model.requires_grad_(False)
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "Only the last of the paths",
    ),
    Mistake(
        "freeze_all_but",
        "what the module holds itself",
        """
        known = [name for name, _ in model.named_modules()]
        if any(path not in known for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = name.rpartition(".")[0] in paths
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "All that is below a path",
    ),
    Mistake(
        "freeze_all_but",
        "Tensors returned",
        """
        model.requires_grad_(False)
        for path in paths:
            model.get_submodule(path).requires_grad_(True)
        return [p for p in model.parameters() if p.requires_grad]
        """,
        "not the parameters",
    ),
    Mistake(
        "freeze_all_but",
        "a shared parameter's first path",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        for name, p in model.named_parameters():
            p.requires_grad = any(not path or name.startswith(path + ".") for path in paths)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "The head's weight is also a layer's",
    ),
    Mistake(
        "freeze_all_but",
        "nothing asked, nothing done",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        if paths:
            model.requires_grad_(False)
        for path in paths:
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "No path at all",
    ),
    Mistake(
        "freeze_all_but",
        "buffers train",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        chosen = {t for path in paths for _, t in modules[path].named_tensors()}
        for _, t in model.named_tensors():
            t.requires_grad = t in chosen
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "A buffer trains now",
    ),
    Mistake(
        "freeze_all_but",
        "the rest of the model left alone",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        model.body.requires_grad_(False)
        model.head.requires_grad_(False)
        for path in paths:
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "neither in body nor in head",
    ),
    Mistake(
        "freeze_all_but",
        "put back to all",
        """
        modules = dict(model.named_modules())
        model.requires_grad_(False)
        for path in paths:
            if path not in modules:
                model.requires_grad_(True)
                raise ValueError(path)
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "something else trains now than before",
    ),
    # Task 3
    Mistake(
        "new_head",
        "written into the old array",
        """
        width = model.head.in_features
        model.head.weight.data = (0.02 * rng.standard_normal((classes, width))).astype("float32")
        """,
        "own array was written to",
    ),
    Mistake(
        "new_head",
        "transposed",
        """
        weight = 0.02 * rng.standard_normal((model.head.in_features, classes))
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "transposed",
    ),
    Mistake(
        "new_head",
        "frozen",
        """
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        model.head = nn.Linear.from_arrays(weight.astype("float32")).requires_grad_(False)
        """,
        "new head is frozen",
    ),
    Mistake(
        "new_head",
        "not small",
        """
        weight = rng.standard_normal((classes, model.head.in_features))
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "too large",
    ),
    Mistake(
        "new_head",
        "zeros",
        'model.head = nn.Linear.from_arrays(np.zeros((classes, model.head.in_features), dtype="float32"))',
        "all zeros",
    ),
    Mistake(
        "new_head",
        "a Linear as it comes",
        "model.head = nn.Linear(model.head.in_features, classes, rng=rng)",
        "No bias",
    ),
    Mistake(
        "new_head",
        "float64",
        "model.head = nn.Linear.from_arrays(0.02 * rng.standard_normal((classes, model.head.in_features)))",
        "float64",
    ),
    Mistake(
        "new_head",
        "not put in",
        """
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "still the old one",
    ),
    Mistake(
        "new_head",
        "seed ignored",
        """
        weight = 0.02 * np.random.default_rng().standard_normal((classes, model.head.in_features))
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "Use the rng",
    ),
    Mistake(
        "new_head",
        "freezes the body",
        """
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        model.requires_grad_(False)
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "Something else was frozen",
    ),
    Mistake(
        "new_head",
        "another array for the old Linear",
        """
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        model.head.weight = Tensor(weight.astype("float32"), requires_grad=True)
        """,
        "Put a new Linear",
    ),
    Mistake(
        "new_head",
        "kept where it fits",
        """
        if model.head.out_features == classes and model.head.bias is None:
            return
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "The old head is still in place",
    ),
    Mistake(
        "new_head",
        "the old one kept aside",
        """
        weight = 0.02 * rng.standard_normal((classes, model.head.in_features))
        model.old_head = model.head
        model.head = nn.Linear.from_arrays(weight.astype("float32"))
        """,
        "something else in the model",
    ),
    # Task 4
    Mistake(
        "make_groups",
        "frozen ones too",
        """
        groups = []
        heads = {id(p) for p in model.head.parameters()}
        for p in model.parameters():
            lr = head_lr if id(p) in heads else body_lr
            groups.append({"params": [p], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0})
        return groups
        """,
        "What is frozen is in the groups",
    ),
    Mistake(
        "make_groups",
        "the head twice",
        """
        decay = lambda p: weight_decay if p.ndim > 1 else 0.0
        live = [p for p in model.parameters() if p.requires_grad]
        groups = [{"params": [p], "lr": body_lr, "weight_decay": decay(p)} for p in live]
        heads = [p for p in model.head.parameters() if p.requires_grad]
        return groups + [{"params": [p], "lr": head_lr, "weight_decay": decay(p)} for p in heads]
        """,
        "in two groups",
    ),
    Mistake(
        "make_groups",
        "vectors left out",
        GROUPS.format(
            "if is_matrix: groups.append("
            '{"params": [p], "lr": head_lr if is_head else body_lr, "weight_decay": weight_decay})'
        ),
        "vectors are missing",
    ),
    Mistake(
        "make_groups",
        "rates swapped",
        GROUPS.format(
            'groups.append({"params": [p], "lr": body_lr if is_head else head_lr, '
            '"weight_decay": weight_decay if is_matrix else 0.0})'
        ),
        "changed places",
    ),
    Mistake(
        "make_groups",
        "everything decays",
        GROUPS.format(
            'groups.append({"params": [p], "lr": head_lr if is_head else body_lr, "weight_decay": weight_decay})'
        ),
        "Vectors decay as well",
    ),
    Mistake(
        "make_groups",
        "by name",
        """
        groups = []
        for name, p in model.named_parameters():
            if p.requires_grad:
                decay = 0.0 if name.endswith("bias") else weight_decay
                lr = head_lr if name.startswith("head.") else body_lr
                groups.append({"params": [p], "lr": lr, "weight_decay": decay})
        return groups
        """,
        "norm's weight is a vector",
    ),
    Mistake(
        "make_groups",
        "begins like the head",
        """
        groups = []
        for name, p in model.named_parameters():
            if p.requires_grad:
                lr = head_lr if name.startswith("head") else body_lr
                groups.append({"params": [p], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0})
        return groups
        """,
        "head_scale is not the head",
    ),
    Mistake(
        "make_groups",
        "empty groups",
        """
        heads = {id(p) for p in model.head.parameters()}
        live = [p for p in model.parameters() if p.requires_grad]
        return [
            {
                "params": [p for p in live if (id(p) in heads) == is_head and (p.ndim > 1) == is_matrix],
                "lr": head_lr if is_head else body_lr,
                "weight_decay": weight_decay if is_matrix else 0.0,
            }
            for is_head in (True, False)
            for is_matrix in (True, False)
        ]
        """,
        "A group is empty",
    ),
    Mistake(
        "make_groups",
        "no decay named",
        GROUPS.format(
            'groups.append({"params": [p], "lr": head_lr if is_head else body_lr} | '
            '({"weight_decay": weight_decay} if is_matrix else {}))'
        ),
        "says nothing of weight_decay",
    ),
    Mistake(
        "make_groups",
        "names",
        """
        groups = []
        for name, p in model.named_parameters():
            if p.requires_grad:
                lr = head_lr if name.startswith("head.") else body_lr
                groups.append({"params": [name], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0})
        return groups
        """,
        "a list of Tensors",
    ),
    Mistake(
        "make_groups",
        "not in a list",
        GROUPS.format(
            'groups.append({"params": p, "lr": head_lr if is_head else body_lr, '
            '"weight_decay": weight_decay if is_matrix else 0.0})'
        ),
        "a list of Tensors",
    ),
    Mistake(
        "make_groups",
        "body and head",
        """
        groups = []
        for module, lr in ((model.body, body_lr), (model.head, head_lr)):
            for p in module.parameters():
                if p.requires_grad:
                    groups.append({"params": [p], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0})
        return groups
        """,
        "head_scale is missing",
    ),
    Mistake(
        "make_groups",
        "a tied head twice",
        """
        parts = [
            (body_lr, [p for name, p in model.named_parameters() if not name.startswith("head.")]),
            (head_lr, list(model.head.parameters())),
        ]
        return [
            {"params": [p], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0}
            for lr, found in parts
            for p in found
            if p.requires_grad
        ]
        """,
        "is in two groups",
    ),
    Mistake(
        "make_groups",
        "a dictionary by rate",
        """
        heads = {id(p) for p in model.head.parameters()}
        live = [p for p in model.parameters() if p.requires_grad]
        by_rate = {
            body_lr: [p for p in live if id(p) not in heads],
            head_lr: [p for p in live if id(p) in heads],
        }
        return [
            {"params": [p], "lr": lr, "weight_decay": weight_decay if p.ndim > 1 else 0.0}
            for lr, found in by_rate.items()
            for p in found
        ]
        """,
        "Where both rates are equal",
    ),
    Mistake(
        "make_groups",
        "one row is no matrix",
        GROUPS.format(
            'groups.append({"params": [p], "lr": head_lr if is_head else body_lr, '
            '"weight_decay": weight_decay if is_matrix and len(p) > 1 else 0.0})'
        ),
        "however short",
    ),
    # Task 5
    Mistake(
        "train_step",
        "old gradients kept",
        """
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "zero_grad() first",
    ),
    Mistake(
        "train_step",
        "forgotten at the end alone",
        """
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()
        """,
        "left from before",
    ),
    Mistake(
        "train_step",
        "the loss of another run",
        """
        optimizer.zero_grad()
        F.cross_entropy(model(Tensor(x)), labels).backward()
        with no_grad():
            loss = F.cross_entropy(model(Tensor(x)), labels).item()
        optimizer.step()
        return loss
        """,
        "runs more than once",
    ),
    Mistake(
        "train_step",
        "labels of 8 bits",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels.astype("int8"))
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "many classes",
    ),
    Mistake(
        "train_step",
        "no step",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels)
        loss.backward()
        return loss.item()
        """,
        "Nothing moved",
    ),
    Mistake(
        "train_step",
        "forgotten before the step",
        """
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        return loss.item()
        """,
        "Nothing moved",
    ),
    Mistake(
        "train_step",
        "the loss after",
        """
        optimizer.zero_grad()
        F.cross_entropy(model.head(model.body(Tensor(x))), labels).backward()
        optimizer.step()
        return F.cross_entropy(model.head(model.body(Tensor(x))), labels).item()
        """,
        "loss after the step",
    ),
    Mistake(
        "train_step",
        "a sum",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels) * len(labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "The loss is a sum",
    ),
    Mistake(
        "train_step",
        "nothing returned",
        """
        optimizer.zero_grad()
        F.cross_entropy(model.head(model.body(Tensor(x))), labels).backward()
        optimizer.step()
        """,
        "Return the loss",
    ),
    Mistake(
        "train_step",
        "the body cut off",
        """
        optimizer.zero_grad()
        with no_grad():
            hidden = model.body(Tensor(x))
        loss = F.cross_entropy(model.head(hidden), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "last layer should move",
    ),
    Mistake(
        "train_step",
        "weight decay by hand",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels)
        loss.backward()
        optimizer.step()
        for p in model.parameters():
            p.data = p.data - 0.01 * p.data
        return loss.item()
        """,
        "frozen moved",
    ),
    Mistake(
        "train_step",
        "the head left out",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model.body(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "is the head left out",
    ),
    Mistake(
        "train_step",
        "unfrozen",
        """
        model.requires_grad_(True)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "leaves requires_grad alone",
    ),
    Mistake(
        "train_step",
        "a Tensor",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss
        """,
        "Return a number",
    ),
    Mistake(
        "train_step",
        "without dropout",
        """
        model.eval()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(Tensor(x)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "Dropout was off while the model trained",
    ),
    Mistake(
        "train_step",
        "gradients of zeros",
        """
        for p in model.parameters():
            p.grad = np.zeros_like(p.data)
        loss = F.cross_entropy(model(Tensor(x)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "no part in the loss moved",
    ),
    Mistake(
        "train_step",
        "by hand",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = p.data - group["lr"] * p.grad
        return loss.item()
        """,
        "optimizer.step() makes",
    ),
    Mistake(
        "train_step",
        "the softmax twice",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(F.softmax(model(x)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "The softmax is taken twice",
    ),
    Mistake(
        "train_step",
        "x as floats",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(model(Tensor(x.astype("float32"))), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "not as floats",
    ),
    # Task 6
    Mistake(
        "extract_features",
        "batches as floats",
        """
        model.eval()
        with no_grad():
            return np.concatenate([model.body(Tensor(np.asarray(x, "float32"))).numpy() for x in batches])
        """,
        "not as floats",
    ),
    Mistake(
        "extract_features",
        "a graph",
        """
        model.eval()
        return np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        """,
        "A graph was recorded",
    ),
    Mistake(
        "extract_features",
        "dropout on",
        """
        with no_grad():
            return np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        """,
        "Dropout was on while",
    ),
    Mistake(
        "extract_features",
        "scores",
        """
        model.eval()
        with no_grad():
            return np.concatenate([model.head(model.body(Tensor(x))).numpy() for x in batches])
        """,
        "head's scores",
    ),
    Mistake(
        "extract_features",
        "not joined",
        """
        model.eval()
        with no_grad():
            return [model.body(Tensor(x)).numpy() for x in batches]
        """,
        "Join the batches",
    ),
    Mistake(
        "extract_features",
        "the first batch",
        """
        model.eval()
        with no_grad():
            return model.body(Tensor(batches[0])).numpy()
        """,
        "Not all batches",
    ),
    Mistake(
        "extract_features",
        "the body alone in eval mode",
        """
        model.body.eval()
        with no_grad():
            return np.concatenate([model.body(x).numpy() for x in batches])
        """,
        "all of it, and leave it so",
    ),
    Mistake(
        "extract_features",
        "no parentheses",
        """
        model.eval()
        with no_grad:
            return np.concatenate([model.body(x).numpy() for x in batches])
        """,
        "with its parentheses",
    ),
    Mistake(
        "extract_features",
        "back to training",
        """
        model.eval()
        with no_grad():
            found = np.concatenate([model.body(x).numpy() for x in batches])
        model.train()
        return found
        """,
        "all of it, and leave it so",
    ),
    Mistake(
        "extract_features",
        "stacked",
        """
        model.eval()
        with no_grad():
            return np.stack([model.body(x).numpy() for x in batches])
        """,
        "Join the batches",
    ),
    Mistake(
        "extract_features",
        "Tensors",
        """
        model.eval()
        with no_grad():
            return np.concatenate([np.array(list(model.body(x)), dtype=object) for x in batches])
        """,
        "These are Tensors",
    ),
    Mistake(
        "extract_features",
        "another order",
        """
        model.eval()
        with no_grad():
            return np.concatenate([model.body(Tensor(x)).numpy() for x in reversed(batches)])
        """,
        "another order",
    ),
    Mistake(
        "extract_features",
        "eval too late",
        """
        with no_grad():
            found = np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        model.eval()
        return found
        """,
        "Dropout was on while",
    ),
    Mistake(
        "extract_features",
        "run twice",
        """
        model.eval()
        with no_grad():
            width = model.body(Tensor(batches[0])).shape[1]
            found = [model.body(Tensor(x)).numpy() for x in batches]
        return np.concatenate(found).reshape(-1, width)
        """,
        "runs twice",
    ),
    Mistake(
        "extract_features",
        "half precision",
        """
        model.eval()
        with no_grad():
            return np.concatenate([model.body(Tensor(x)).numpy().astype("float16") for x in batches])
        """,
        "not in half precision",
    ),
    Mistake(
        "extract_features",
        "frozen on leaving",
        """
        model.eval().requires_grad_(False)
        with no_grad():
            return np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        """,
        "What trains has changed",
    ),
    Mistake(
        "extract_features",
        "never switched on again",
        """
        model.eval()
        switch = no_grad()
        switch.__enter__()
        model.body.switch = switch
        return np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        """,
        "no_grad() is still on",
    ),
    # Kept between calls
    Mistake(
        "count_parameters",
        "kept for each model",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        counts = sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
        return vars(new_head).setdefault(model, counts)
        """,
        "count anew in each call",
    ),
    Mistake(
        "count_parameters",
        "the sum kept for each model",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        total = vars(new_head).setdefault(model, sum(n for n, _ in sizes))
        return sum(n for n, trains in sizes if trains), total
        """,
        "count anew in each call",
    ),
    Mistake(
        "count_parameters",
        "kept at the class",
        """
        sizes = [(p.size, p.requires_grad) for p in model.parameters()]
        counts = sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
        return vars(new_head).setdefault(type(model), counts)
        """,
        "count anew in each call",
    ),
    Mistake(
        "count_parameters",
        "gradients forgotten",
        """
        sizes = []
        for p in model.parameters():
            sizes.append((p.size, p.requires_grad))
            p.grad = None
        return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
        """,
        "Counting changed gradients",
    ),
    Mistake(
        "freeze_all_but",
        "modules of the old head",
        """
        modules = vars(new_head).setdefault(model, dict(model.named_modules()))
        if any(path not in modules for path in paths):
            raise ValueError
        model.requires_grad_(False)
        for path in paths:
            modules[path].requires_grad_(True)
        return [name for name, p in model.named_parameters() if p.requires_grad]
        """,
        "ask it for its modules",
    ),
    Mistake(
        "freeze_all_but",
        "one list for all calls",
        """
        modules = dict(model.named_modules())
        if any(path not in modules for path in paths):
            raise ValueError
        model.requires_grad_(False)
        for path in paths:
            modules[path].requires_grad_(True)
        names = vars(new_head).setdefault("names", [])
        names[:] = [name for name, p in model.named_parameters() if p.requires_grad]
        return names
        """,
        "make a new list in each call",
    ),
    Mistake(
        "new_head",
        "one array for each seed",
        """
        start = (0.02 * rng.standard_normal((classes, model.head.in_features))).astype("float32")
        start = vars(make_groups).setdefault((seed, start.shape), start)
        model.head = nn.Linear.from_arrays(start)
        """,
        "share one array",
    ),
    Mistake(
        "new_head",
        "one array for all",
        """
        start = (0.02 * rng.standard_normal((classes, model.head.in_features))).astype("float32")
        held = vars(make_groups).setdefault(start.shape, np.zeros_like(start))
        held[:] = start
        model.head = nn.Linear.from_arrays(held)
        """,
        "share one array",
    ),
    Mistake(
        "new_head",
        "one Linear for each seed",
        """
        start = (0.02 * rng.standard_normal((classes, model.head.in_features))).astype("float32")
        heads = vars(make_groups)
        model.head = heads.setdefault((seed, start.shape), nn.Linear.from_arrays(start))
        """,
        "share one array",
    ),
    Mistake(
        "make_groups",
        "kept for each model",
        GROUPS.format(
            'groups += [{"params": [p], "lr": [body_lr, head_lr][is_head], "weight_decay": weight_decay * is_matrix}]'
        ).replace("return groups", "return vars(new_head).setdefault(model, groups)"),
        "when other parameters train",
    ),
    Mistake(
        "make_groups",
        "one list for all calls",
        GROUPS.format(
            'groups += [{"params": [p], "lr": [body_lr, head_lr][is_head], "weight_decay": weight_decay * is_matrix}]'
        ).replace("groups = []", 'groups = vars(new_head).setdefault("groups", []); groups.clear()'),
        "make new lists",
    ),
    Mistake(
        "make_groups",
        "the head's by its numbers",
        """
        heads = {p.numpy().tobytes() for p in model.head.parameters()}
        return [
            {
                "params": [p],
                "lr": head_lr if p.numpy().tobytes() in heads else body_lr,
                "weight_decay": weight_decay * (p.ndim > 1),
            }
            for p in model.parameters()
            if p.requires_grad
        ]
        """,
        "only the same object is",
    ),
    Mistake(
        "train_step",
        "the first optimizer",
        """
        optimizer = vars(new_head).setdefault(model, optimizer)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(Tensor(x)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "the one that is handed over",
    ),
    Mistake(
        "train_step",
        "the softmax by hand",
        """
        optimizer.zero_grad()
        shares = model(Tensor(x)).exp()
        shares = shares / shares.sum(axis=-1, keepdims=True)
        loss = -shares[np.arange(len(labels)), labels].log().mean()
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
        "takes the largest off",
    ),
    Mistake(
        "extract_features",
        "kept for each model",
        """
        model.eval()
        with no_grad():
            found = np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        return vars(new_head).setdefault(model, found).copy()
        """,
        "the body runs anew",
    ),
    Mistake(
        "extract_features",
        "kept for each batch",
        """
        model.eval()
        with no_grad():
            found = [model.body(Tensor(x)).numpy() for x in batches]
        kept = vars(new_head)
        return np.concatenate([kept.setdefault((model, x.tobytes()), h) for x, h in zip(batches, found)])
        """,
        "the body runs anew",
    ),
    Mistake(
        "extract_features",
        "gradients forgotten",
        """
        model.eval()
        for p in model.parameters():
            p.grad = None
        with no_grad():
            return np.concatenate([model.body(Tensor(x)).numpy() for x in batches])
        """,
        "The model's gradients changed",
    ),
]

RIGHT = [
    Right(
        "count_parameters",
        "in a loop, as a list",
        """
        print("counting")
        counts = [0, 0]
        for parameter in model.parameters():
            count = int(np.prod(parameter.shape))
            counts[0] += count * int(parameter.requires_grad)
            counts[1] += count
        return counts
        """,
    ),
    Right(
        "freeze_all_but",
        "parameter by parameter",
        """
        chosen = set()
        for path in paths:
            try:
                chosen |= set(model.get_submodule(path).parameters())
            except AttributeError as error:
                raise ValueError(str(error)) from error
        names = []
        for name, p in model.named_parameters():
            p.requires_grad = p in chosen
            names += [name] * p.requires_grad
        return names
        """,
    ),
    Right(
        "freeze_all_but",
        "by identity, as a tuple",
        """
        modules = dict(model.named_modules())
        unknown = set(paths) - set(modules)
        if unknown:
            raise ValueError(f"no such modules: {unknown}")
        kept = {id(p) for path in paths for p in modules[path].parameters()}
        for p in model.parameters():
            p.requires_grad = id(p) in kept
        return tuple(name for name, p in model.named_parameters() if id(p) in kept)
        """,
    ),
    Right(
        "new_head",
        "a Linear filled by hand",
        """
        head = nn.Linear(model.head.weight.shape[1], classes, bias=False)
        head.weight.data = rng.normal(0, 0.02, head.weight.shape).astype(np.float32)
        model.replace("head", head)
        """,
    ),
    Right(
        "make_groups",
        "a group for each parameter",
        """
        heads = [id(p) for p in model.head.parameters()]
        return [
            {"lr": [body_lr, head_lr][id(p) in heads], "weight_decay": weight_decay * (p.ndim == 2), "params": [p]}
            for _, p in model.named_parameters()
            if p.requires_grad
        ]
        """,
    ),
    Right(
        "train_step",
        "forgotten at the end, too",
        """
        optimizer.zero_grad()
        hidden = model.body(Tensor(np.asarray(x)))
        loss = F.cross_entropy(model.head(hidden), labels)
        before = loss.item()
        loss.backward()
        optimizer.step()
        for p in model.parameters():
            p.grad = None
        return before
        """,
    ),
    Right(
        "train_step",
        "the model called, on the array itself",
        """
        for p in model.parameters():
            p.grad = None
        model.train()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.numpy()
        """,
    ),
    Right(
        "train_step",
        "log_softmax of the scores, which a second one leaves as they are",
        """
        optimizer.zero_grad()
        loss = F.cross_entropy(F.log_softmax(model(x)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
    ),
    Right(
        "train_step",
        "log_softmax, and picked by hand",
        """
        optimizer.zero_grad()
        loss = -F.log_softmax(model(x), axis=-1)[np.arange(len(labels)), labels.astype("int64")].mean()
        loss.backward()
        optimizer.step()
        return loss.item()
        """,
    ),
    Right(
        "extract_features",
        "all batches at once",
        """
        model.eval()
        with no_grad():
            return model.body(np.concatenate(batches)).numpy()
        """,
    ),
    Right(
        "extract_features",
        "a place for each row",
        """
        model.train(False)
        found, start = None, 0
        for x in batches:
            with no_grad():
                hidden = model.body(Tensor(x)).detach().numpy()
            if found is None:
                found = np.zeros((sum(map(len, batches)), hidden.shape[1]))
            found[start : start + len(x)] = hidden
            start += len(x)
        return found
        """,
    ),
]
