"""The checks of lesson 06. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, promise, raised, task

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.nn", "minilora.functional.cross_entropy")
PROMISES = {"extract_features": promise(switches=True)}

EMBED, LAYER, NORM, SCALE, HEAD = 4 * 3, 4 * 4 + 4, 4 + 4, 4, 2 * 4 + 2  # numbers in the driver's model
ALL = EMBED + 2 * LAYER + NORM + SCALE + HEAD
MATRICES = EMBED + 2 * 16 + SCALE + 8
PAIRS = "named_parameters() gives pairs: for path, parameter in model.named_parameters()."
WHOLE = '"" is the path of the whole model, which named_modules() gives first: everything trains then.'


@task(
    1,
    hints=(
        "How many numbers are in one parameter, and when does it train?",
        "Go through model.named_parameters(): each has size and requires_grad.",
        "sum(p.size for _, p in model.named_parameters() if p.requires_grad), and the same without the if.",
    ),
)
def counting(student):
    for frozen, is_tied in ((["body.layers.0"], False), (["body", "head"], False), ([], False), (["body"], True)):
        total = ALL - (HEAD if is_tied else 0)
        sizes = {"body": EMBED + 2 * LAYER + NORM, "body.layers.0": LAYER, "head": HEAD}
        trains = total - sum(sizes[path] for path in frozen)
        answer = student.driver.counted(frozen, is_tied)
        answer.returns({PAIRS: raised("AttributeError", "'tuple' object")})
        answer.equals(
            (trains, total),
            instead={
                "What trains comes first, then all.": (total, trains),
                "The second number is of all parameters, not of the frozen ones alone.": (trains, total - trains),
                "Nothing is counted as training: a parameter trains if its requires_grad is True, whatever its grad "
                "is.": (0, total),
                "A part was left out: there are modules beside body and head. named_parameters() has them all.": (
                    lambda got: got[1] == total - SCALE
                ),
                "The vectors were left out: biases and norms are parameters too.": lambda got: (
                    got[1] in (MATRICES, MATRICES - 8)
                ),
                "What is frozen is counted as if it trained: look at requires_grad.": (total, total),
                "That is how many are frozen: count those whose requires_grad is True.": (total - trains, total),
                "The second number is of all parameters, frozen ones too.": lambda got: got[0] == got[1] == trains,
                "Arrays were counted, not the numbers in them: add up their size.": lambda got: 0 < got[1] < 15,
                "Rows were counted: a matrix has rows times columns, which is its size.": lambda got: 15 < got[1] < 45,
                "A shared parameter was counted twice: named_parameters() gives it once.": lambda got: (
                    is_tied and got[1] == total + EMBED
                ),
            },
        )


NAMES = [f"body.layers.{i}.{name}" for i in range(11) for name in ("weight", "bias")]
NAMES = ["body.embed.weight", *NAMES, "body.norm.weight", "body.norm.bias", "body.head.weight"]
NAMES += ["head_scale.weight", "head.weight", "head.bias"]


def below(paths):
    return [name for name in NAMES if any(path == "" or name.startswith(f"{path}.") for path in paths)]


@task(
    2,
    hints=(
        "In which order do you freeze and unfreeze, and what do you check before both?",
        "Every path must be a name of model.named_modules(). Then freeze all, then unfreeze the modules there.",
        "model.requires_grad_(False); for each path: model.get_submodule(path).requires_grad_(True); return the names "
        "of named_parameters() whose requires_grad is True.",
    ),
)
def freezing(student):
    cases = [(["head"], [""]), (["body.layers.1"], [""]), (["head"], []), (["body.layers.0", "head"], ["body.norm"])]
    for paths, before in [*cases, (["head", "body.layers.10"], ["head_scale"]), ([""], [])]:
        wanted = below(paths)
        answer = student.driver.frozen(paths, before)
        answer.returns(
            {PAIRS: raised("AttributeError", "'tuple' object")} | ({WHOLE: raised("ValueError")} if "" in paths else {})
        )
        answer["trains"].equals(
            wanted,
            instead={
                "What trained before still trains: freeze everything first.": lambda names: (
                    set(below(before)) - set(wanted) and set(names) == set(wanted) | set(below(before))
                ),
                "Nothing trains: unfreeze after everything was frozen.": lambda names: before and len(names) == 0,
                "It is the other way round: the modules at the paths are what trains.": (
                    lambda names: len(names) > 0 and set(names).isdisjoint(wanted)
                ),
                "Another path begins the same way: compare whole names, so that layers.1 is not layers.10.": (
                    lambda names: (
                        set(names) > set(wanted) and all(any(name.startswith(path) for path in paths) for name in names)
                    )
                ),
                "A path counts from the model on: body.head is not head, though head is in its name.": lambda names: (
                    set(names) - set(wanted) == {"body.head.weight"}
                ),
                "Only the last of the paths trains: freeze once, before you go through them.": lambda names: (
                    len(paths) > 1 and set(names) == set(below(paths[-1:]))
                ),
                "All that is below a path trains, and not only what the module there holds itself.": lambda names: (
                    not before and set(names) < set(wanted) and "" in paths
                ),
                "What was frozen stays frozen: set requires_grad to True for what is to train.": lambda names: (
                    set(names) < set(wanted)
                ),
            },
        )
        answer["names"].equals(
            wanted,
            instead={
                "Return the paths of the parameters that train.": None,
                "Return the parameters' paths, not the modules'.": paths,
                "Return the paths of the parameters, not the parameters.": lambda names: (
                    not all(isinstance(name, str) for name in names)
                ),
                "Return them in the model's order.": lambda names: sorted(names) == sorted(wanted),
                "Return a list.": lambda names: not isinstance(names, (list, tuple)),
            },
        )
    for paths in (["haed"], ["head", "body.layers.2"], ["head.weight"]):
        answer = student.driver.refused(paths)
        answer["raised"].equals(
            "ValueError",
            instead={
                "head.weight is a parameter and no module: raise ValueError.": lambda kind: (
                    kind == "nothing" and paths == ["head.weight"]
                ),
                "A path that is no module is a typo: raise ValueError, or nothing would train, without a word.": (
                    "nothing"
                ),
                "Say it by a ValueError: here the library's own error came through.": lambda kind: True,
            },
        )
        answer["unchanged"].equals(
            True, instead={"It was refused after the model had been changed: check the paths first.": False}
        )


STILL_OLD = "The head is still the old one: set model.head."


@task(
    3,
    hints=(
        "Which of the two sizes does the new head take from the old one?",
        "weight: (classes, model.head.in_features), normal times 0.02, from rng. nn.Linear.from_arrays(weight).",
        "model.head = nn.Linear.from_arrays((0.02 * rng.standard_normal((classes, model.head.in_features))).astype("
        '"float32"))',
    ),
)
def heading(student):
    for classes, seed, is_frozen in ((2, 0, False), (3, 1, True), (200, 2, True)):
        answer = student.driver.headed(classes, seed, is_frozen)
        answer.returns({"from_arrays takes an array of shape (classes, hidden size).": raised("ValueError", "shape")})
        answer["other"].equals(
            np.ones((7, 4)),
            instead={
                "The old head's own array was written to. It is tied to another layer, which has now changed too: "
                "make a new Linear.": lambda weight: True
            },
        )
        answer["is_new"].equals(
            True,
            instead={
                STILL_OLD: lambda is_new: answer["weight"].value.shape == (7, 4),
                "The old Linear was given another array: it keeps its bias and its sizes. Put a new Linear in its "
                "place.": False,
            },
        )
        answer["kind"].equals("Linear", instead={"model.head must be an nn.Linear.": lambda kind: True})
        answer["weight"].holds(
            lambda weight: np.shape(weight) == (classes, 4),
            f"a weight of shape ({classes}, 4)",
            "The new weight has another shape: a row for each class, a column for each number of the hidden state.",
            instead={
                "The weight is transposed: it is (classes, hidden size).": lambda w: np.shape(w) == (4, classes),
            },
        )
        answer["has_bias"].equals(False, instead={"No bias: at first no class is preferred.": True})
        answer["trains"].equals(True, instead={"The new head is frozen: it is the one thing that must train.": False})
        answer["same"].equals(
            True, instead={"Something else was frozen or unfrozen: leave that to freeze_all_but.": False}
        )
        answer["weight"].holds(
            lambda weight: weight.dtype == np.float32,
            "a weight in float32",
            "The weight is in float64: all that follows would be, at twice the memory. .astype('float32')",
        )
    answer["weight"].holds(
        lambda weight: 0.017 < np.std(weight) < 0.023 and abs(np.mean(weight)) < 0.005,
        "numbers around 0 with a standard deviation of 0.02",
        "The start has another spread: normal numbers times 0.02.",
        instead={
            "The head is all zeros: allowed in theory, but here normal numbers times 0.02 are asked for.": (
                lambda weight: not np.any(weight)
            ),
            "The start is too large: 0.02 times normal numbers.": lambda weight: np.std(weight) > 0.1,
        },
    )
    answer["weight"].holds(
        lambda weight: np.abs(weight).max() > 0.045,
        "normal numbers",
        "They are not normal: rng.standard_normal.",
    )
    again = student.driver.headed(classes, seed, is_frozen)
    again["weight"].equals(
        answer["weight"].value, instead={"Use the rng that `seed` made, so that a seed gives one head.": lambda w: True}
    )
    student.driver.headed(classes, seed + 1, is_frozen)["weight"].holds(
        lambda weight: not np.array_equal(weight, answer["weight"].value),
        "another head for another seed",
        "Every seed gives the same head: use the rng that `seed` made.",
    )


@task(
    4,
    hints=(
        "Two questions for each parameter that trains: is it the head's, and how many axes has it?",
        "Up to four groups: (head or body) × (matrix or vector). Leave out those that stay empty.",
        "lr = head_lr if it is one of model.head.parameters() else body_lr; weight_decay = weight_decay if "
        "parameter.ndim > 1 else 0.0.",
    ),
)
def grouping(student):
    for paths in (["head"], ["head", "body.layers.1"], ["body.norm", "head"], ["head_scale"], [""]):
        answer = student.driver.grouped(below(paths))
        answer.returns(
            {
                PAIRS: raised("AttributeError", "'tuple' object"),
                'A group is a dictionary with "params", "lr" and "weight_decay".': raised("Exception"),
            }
        )
        names = ["body.embed.weight", *(f"body.layers.{i}.{n}" for i in range(2) for n in ("weight", "bias"))]
        names += ["body.norm.weight", "body.norm.bias", "head_scale.weight", "head.weight", "head.bias"]
        names = [name for name in names if any(path == "" or name.startswith(f"{path}.") for path in paths)]
        is_vector = {name: name.endswith("bias") or "norm" in name for name in names}
        rows = answer["rows"]
        rows.holds(
            lambda got: sorted(name for name, _, _ in got) == sorted(names),
            f"{', '.join(names)}, each once",
            "The groups hold other parameters than those that train.",
            instead={
                '"params" is a list of Tensors, the parameters themselves: [parameter], not a name or one Tensor.': (
                    lambda got: any(name == "unknown" for name, _, _ in got)
                ),
                "A parameter is in two groups: the optimizer would step it twice.": lambda got: (
                    len({name for name, _, _ in got}) < len(got)
                ),
                "What is frozen is in the groups: take only what has requires_grad.": lambda got: (
                    {name for name, _, _ in got} > set(names)
                ),
                "The vectors are missing: they train as well, without decay.": lambda got: (
                    {name for name, _, _ in got} == {name for name in names if not is_vector[name]}
                ),
                "head_scale is missing: it trains, and is neither in body nor in head. Go through all parameters.": (
                    lambda got: set(names) - {name for name, _, _ in got} == {"head_scale.weight"}
                ),
                "The head is missing.": lambda got: (
                    "head.weight" in names and not any(name.startswith("head.") for name, _, _ in got)
                ),
                "The body is missing.": lambda got: (
                    names[0].startswith("body") and all(name.startswith("head.") for name, _, _ in got)
                ),
            },
        )
        rates = {name: 0.5 if name.startswith("head.") else 0.1 for name in names}
        rows.holds(
            lambda got: all(abs(lr - rates[name]) < 1e-9 for name, lr, _ in got),
            "0.5 for the head, 0.1 for all others",
            "A learning rate is wrong: head_lr for the head, body_lr for the rest.",
            instead={
                "head_scale is not the head, though its name begins so.": lambda got: any(
                    name == "head_scale.weight" and lr == 0.5 for name, lr, _ in got
                ),
                "Both rates have changed places: the head learns at head_lr.": lambda got: all(
                    abs(lr - (0.6 - rates[name])) < 1e-9 for name, lr, _ in got
                ),
                "A group has no lr.": lambda got: any(lr == -1 for _, lr, _ in got),
            },
        )
        decays = {name: 0.0 if is_vector[name] else 0.01 for name in names}
        rows.holds(
            lambda got: all(abs(decay - decays[name]) < 1e-9 for name, _, decay in got),
            "0.01 for matrices, 0 for vectors",
            "The weight decay is wrong: matrices have it, vectors have 0.",
            instead={
                "A group says nothing of weight_decay: the optimizer would take its own.": lambda got: any(
                    decay == -1 for _, _, decay in got
                ),
                "Vectors decay as well: biases and the scales of norms are to be left alone.": lambda got: all(
                    abs(decay - 0.01) < 1e-9 for _, _, decay in got
                ),
                "A norm's weight is a vector, though it is called weight: look at its axes.": lambda got: any(
                    "norm.weight" in name and decay for name, _, decay in got
                ),
                "It is the other way round: matrices decay.": lambda got: all(
                    abs(decay - (0.01 - decays[name])) < 1e-9 for name, _, decay in got
                ),
            },
        )
        answer["sizes"].holds(lambda sizes: 0 not in sizes, "no empty group", "A group is empty: leave it out.")


def loss_and_step(head, hidden, labels):
    """Loss, and the head after a step of 0.5."""
    scores = hidden @ head["head.weight"].T + head["head.bias"]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
    shares[np.arange(len(labels)), labels] -= 1
    g = shares / len(labels)
    changes = {"head.weight": g.T @ hidden, "head.bias": g.sum(axis=0)}
    return float(loss), {name: head[name] - 0.5 * changes[name] for name in head}


NO_GRAPH = "The loss depends on nothing that trains: is the head left out, or is all of it under no_grad()?"


@task(
    5,
    hints=(
        "Four things happen in a step. Which comes first, and which number is returned?",
        "Forget the old gradients, forward to the loss, backward, step. The loss is a Tensor: .item() is its number.",
        "optimizer.zero_grad(); loss = F.cross_entropy(model.head(model.body(Tensor(x))), labels); loss.backward(); "
        "optimizer.step(); return loss.item()",
    ),
)
def stepping(student):
    rng = np.random.default_rng(5)
    for n, steps in ((1, 1), (3, 1), (4, 3)):
        x, labels = draw(rng, n, 3).astype("float32"), rng.integers(0, 2, n)
        answer = student.driver.stepped(below(["head"]), x, labels, steps)
        answer.returns({NO_GRAPH: raised("RuntimeError", "no graph")})
        hidden = answer["features"].value
        head = {name: answer["start"].value[name].astype("float64") for name in ("head.weight", "head.bias")}
        losses = []
        for _ in range(steps):
            loss, head = loss_and_step(head, hidden, labels)
            losses.append(loss)
        after = loss_and_step(head, hidden, labels)[0]
        answer["trains"].equals(
            ["head.weight", "head.bias"],
            instead={"What was frozen trains now: a step leaves requires_grad alone.": lambda names: len(names) > 2},
        )
        answer["is_tensor"].equals(
            False, instead={"Return a number, loss.item(): a Tensor holds on to what it was computed from.": True}
        )
        answer["moved"].equals(
            ["head.weight", "head.bias"],
            instead={
                "Nothing moved: backward makes gradients, and optimizer.step() uses them.": [],
                "Something that is frozen moved: only what the optimizer holds may.": lambda moved: len(moved) > 2,
            },
        )
        answer["losses"].equals(
            losses,
            instead={
                "Return the loss.": lambda got: got[0] is None,
                "That is the loss after the step: return the one that the gradients came from.": lambda got: (
                    abs(float(got[0]) - (losses[1] if steps > 1 else after)) < 1e-5
                ),
                "The loss is a sum: take the mean over the batch.": lambda got: (
                    abs(got[0] - n * losses[0]) < 1e-5 < n - 1
                ),
                "Gradients of earlier steps are still there: zero_grad() first.": lambda got: (
                    steps > 1 and abs(got[0] - losses[0]) < 1e-5
                ),
            },
        )
        answer["head"].equals(
            head,
            instead={
                "The step is another than -lr times the gradient: one backward and one step.": lambda got: True,
            },
            tolerance=1e-4,
        )
    answer = student.driver.stepped(below(["head", "body.layers.1"]), x, labels, 1)
    answer["moved"].equals(
        ["body.layers.1.weight", "body.layers.1.bias", "head.weight", "head.bias"],
        instead={
            "The body's last layer should move as well: let gradients flow through model.body.": [
                "head.weight",
                "head.bias",
            ]
        },
    )


@task(
    6,
    hints=(
        "What must be off, what need not be recorded, and what comes out?",
        "model.eval(), then with no_grad(): model.body of each batch, as an array. Join them in order.",
        "np.concatenate([model.body(Tensor(x)).numpy() for x in batches]), under no_grad and after model.eval()",
    ),
)
def extracting(student):
    rng = np.random.default_rng(6)
    for sizes in ((1,), (2,), (3, 2), (4, 4, 1)):
        batches = [draw(rng, n, 3).astype("float32") for n in sizes]
        answer = student.driver.extracted(batches)
        answer.returns(
            {
                "Write no_grad() with its parentheses.": raised("TypeError", "context manager"),
                "Join along the first axis, the examples: np.concatenate(found).": raised("ValueError", "concatenat"),
                "Batches may have different lengths: join them by np.concatenate.": raised("ValueError", "shape"),
            }
        )
        hidden = answer["hidden"].value
        right = np.concatenate(hidden)
        answer["rows"].holds(
            lambda rows: sum(rows) == sum(sizes),
            f"the body to see each of {sum(sizes)} rows once",
            "The body runs more or less often than once for each row.",
            instead={
                "The body runs twice for a row: call it once and keep the result.": lambda rows: sum(rows) > sum(sizes),
                "Not all batches were run.": lambda rows: 0 < sum(rows) < sum(sizes),
            },
        )
        answer["dropped"].equals(
            False, instead={"Dropout was on while the body ran, so that features are random: model.eval() first.": True}
        )
        answer["training"].equals(
            False, instead={"The model is in training mode afterwards: model.eval(), all of it, and leave it so.": True}
        )
        answer["form"].equals(
            "ndarray",
            instead={
                "Join the batches into one array: np.concatenate.": "list",
                "These are Tensors: .numpy() of each, then join them.": "ndarray of objects",
                "Return an array: tensor.numpy() is one, and np.concatenate joins several.": lambda form: True,
            },
        )
        answer["found"].equals(
            right,
            instead={
                "That is the head's scores: features are what the body gives.": np.concatenate(answer["scores"].value),
                "Join the batches into one array: np.concatenate.": lambda got: np.ndim(got) == 3,
                "The batches come in another order.": lambda got: (
                    np.shape(got) == right.shape
                    and np.allclose(np.sort(got, axis=0), np.sort(right, axis=0), atol=1e-5)
                ),
                "One row for each example: were the hidden states averaged?": lambda got: (
                    np.shape(got)[0] == len(sizes) != len(right)
                ),
            },
        )
        answer["recorded"].equals(
            False,
            instead={
                "A graph was recorded, and keeps all the arrays of the forward pass: put it under no_grad().": True
            },
        )
