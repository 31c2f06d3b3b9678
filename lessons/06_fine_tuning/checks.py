"""The checks of lesson 06. They run in the checker's process; driver.py runs beside the student's code."""

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = ("minilora.Tensor", "minilora.no_grad", "minilora.nn")
USES += tuple(f"minilora.functional.{name}" for name in ("cross_entropy", "log_softmax", "softmax"))
PROMISES = {"extract_features": promise(switches=True)}

EMBED, LAYER, NORM, SCALE, HEAD = 4 * 3, 4 * 4 + 4, 4 + 4, 4, 2 * 4 + 2  # numbers in the driver's model
SHELF = HEAD
ALL = EMBED + 2 * LAYER + NORM + SCALE + HEAD
MATRICES = EMBED + 2 * 16 + SCALE + 8
PAIRS = "named_parameters() gives pairs: for path, parameter in model.named_parameters()."
WHOLE = '"" is the path of the whole model, which named_modules() gives first: everything trains then.'


@task(1)
def counting(student):
    """How many numbers are in one parameter, and when does it train?

    Go through model.named_parameters(): each has size and requires_grad.

    A Linear from 3 to 2, frozen, with weight (2, 3) and bias (2,): 8 numbers, none of which train. A norm of 2 beside
    it, with scale (2,) and shift (2,), trains: 4 numbers. Together: (4, 12).
    """
    search(student.driver.counts, count_inputs, 30, hints=COUNTS)
    sizes = {"body": EMBED + 2 * LAYER + NORM, "body.layers.0": LAYER, "head": HEAD, "twin": NORM, "shelf.one": SHELF}
    for kind, frozen in (
        ("", ["body.layers.0"]),
        ("", ["body", "head"]),
        ("", []),
        ("tied", ["body"]),
        ("twin", ["twin"]),
        ("shelf", ["shelf.one"]),
        ("odd", ["body"]),
    ):
        total = ALL + {"tied": -HEAD, "twin": NORM, "odd": 25, "shelf": SHELF}.get(kind, 0)
        trains = total - sum(sizes[path] for path in frozen)
        answer = student.driver.counted([kind], frozen)
        if kind == "odd":
            answer.equals((trains, total), hint=ODD)
            break
        answer.returns({PAIRS: raised("AttributeError", "'tuple' object")})
        mistakes = {
            "What trains comes first, then all.": (total, trains),
            "The second number is of all parameters, not of the frozen ones alone.": (trains, total - trains),
            "Nothing is counted as training: a parameter trains if its requires_grad is True, whatever its grad is.": (
                0,
                total,
            ),
            "The second number is of how many there are, not a share.": lambda got: 0 < got[1] <= 1,
            "A part was left out: there are modules beside body and head. named_parameters() has them all.": (
                lambda got: got[1] == total - SCALE
            ),
            "The vectors were left out: biases and norms are parameters too.": lambda got: (
                got[1] in (MATRICES, MATRICES - 8)
            ),
            "What is frozen is counted as if it trained: look at requires_grad.": (total, total),
            "That is how many are frozen: count those whose requires_grad is True.": (total - trains, total),
            "The second number is of all parameters, frozen ones too.": lambda got: got[0] == got[1] == trains,
            "Arrays were counted, not the numbers in them: add up their size.": lambda got: got[1] == 10,
            "Rows were counted: a matrix has rows times columns, which is its size.": lambda got: got[1] in (33, 37),
            "A shared parameter was counted twice: named_parameters() gives it once.": lambda got: (
                kind == "tied" and got[1] == total + 16
            ),
            "The norm was left out: go through all parameters, whatever module they are in.": lambda got: (
                kind == "" and got[1] == total - NORM
            ),
            "Two parameters with equal numbers are still two: only the same object is shared.": lambda got: (
                kind == "twin" and 0 < total - got[1] <= NORM
            ),
            "Modules in a dictionary were left out: named_parameters() finds them, too.": lambda got: (
                kind == "shelf" and got[1] == ALL
            ),
        }
        answer.equals((trains, total), mistakes)


ODD = fine("A parameter may have three axes, or none: its size says how many numbers are in it.")
BUFFER = fine("A buffer, a Tensor that never trains, is not a parameter: named_parameters() has none.")
TIED = fine("It goes wrong for a parameter that two modules share: named_parameters() gives it once, under one path.")
ANEW = "Right at first, wrong when the model has changed: count anew in each call, and keep nothing."
COUNTS = {
    "what trains afterwards": "Counting changed what trains: only look at requires_grad.",
    "gradients": "Counting changed gradients: only look at the model.",
    "all frozen": ANEW,
    "a larger head": ANEW,
}


def some_kinds(d):
    odd, table, tied = d.fine(ODD, "", "odd"), d.fine(BUFFER, "", "table"), d.fine(TIED, "", "tied")
    return [odd, table, tied, d.choice("", "twin", "inner", "shelf")]


def count_inputs(d):
    frozen = d.number(["body.layers.0"], [], ["body"], ["head", "body.norm"], ["head_scale"])
    return some_kinds(d), d.number(2, 1, 3), frozen


NAMES = [f"body.layers.{i}.{name}" for i in range(11) for name in ("weight", "bias")]
NAMES = ["body.embed.weight", *NAMES, "body.norm.weight", "body.norm.bias", "body.head.weight"]
NAMES += ["head_scale.weight", "head.weight", "head.bias"]


def below(paths):
    return [name for name in NAMES if any(path == "" or name.startswith(f"{path}.") for path in paths)]


@task(2)
def freezing(student):
    """In which order do you freeze and unfreeze, and what do you check before both?

    Every path must be a name of model.named_modules(). Then freeze all, then unfreeze the modules there.

    Paths ["norm", "head"], where only an embedding trained: both are modules, so go on. Freeze embedding, norm and
    head; let the norm train, then the head. Of the four parameters, ["norm.weight", "norm.bias", "head.weight"] train.
    Had one path been "haed", the embedding would still be the one that trains.
    """
    search(student.driver.frozen, freeze_inputs, 30, hints=FROZEN)
    search(student.driver.refused, refuse_inputs, 20, hints=REFUSED)
    cases = [(["body.layers.1"], [""]), (["head"], [""]), (["head"], []), (["body.layers.0", "head"], ["body.norm"])]
    for paths, before in [
        *cases,
        (["head", "body.layers.10"], ["head_scale"]),
        (["body"], []),
        ([""], []),
        ([], ["head"]),
        (["head"] * 2, []),
    ]:
        wanted = below(paths)
        answer = student.driver.frozen(paths, before, ["inner"])
        answer.returns(
            {PAIRS: raised("AttributeError", "'tuple' object")}
            | ({WHOLE: raised("ValueError")} if "" in paths else {})
            | ({NO_PATHS: raised("ValueError")} if not paths else {})
        )
        mistakes = {
            NO_PATHS: lambda names: not paths and len(names) > 0,
            WHOLE: lambda names: "" in paths and len(names) == 0,
            "A path may come twice, or be within another: the module trains all the same.": lambda names: (
                paths == ["head"] * 2 and len(names) == 0
            ),
            "head_scale is neither in body nor in head, and still trains: freeze the whole model.": lambda names: (
                paths == ["body.layers.1"] and set(names) - set(wanted) == {"head_scale.weight"}
            ),
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
                paths == ["body"] and len(names) == 0
            ),
            "What was frozen stays frozen: set requires_grad to True for what is to train.": lambda names: (
                set(names) < set(wanted)
            ),
        }
        answer["trains"].equals(wanted, mistakes)
        mistakes = {
            "Return the paths of the parameters that train.": None,
            "Return the parameters' paths, not the modules'.": paths,
            "Return the paths of the parameters, not the parameters.": lambda names: (
                not all(isinstance(name, str) for name in names)
            ),
            "Return them in the model's order.": lambda names: sorted(names) == sorted(wanted),
            "Return a list.": lambda names: not isinstance(names, (list, tuple)),
        }
        answer["names"].equals(wanted, mistakes)
    for paths in (["haed"], ["head", "body.layers.2"]):
        answer = student.driver.refused(paths, [""])
        mistakes = {
            "A path that is not a module is a typo: raise ValueError, or nothing would train, and silently.": "nothing",
        }
        answer["raised"].equals(
            "ValueError", mistakes, hint="Say it by a ValueError: here the library's own error came through."
        )
        answer["unchanged"].equals(True, hint=REFUSED["unchanged"])


NO_PATHS = "An empty list of paths is not a mistake: it means that nothing trains, so freeze everything."
NEW = "no new parameter"
FROZEN = {
    NEW: fine("A buffer trains now: only parameters may. named_tensors() has buffers, too; parameters() has none."),
    "trains": "What trains afterwards is not what the modules at the paths have.",
    "names": "What trains is right, but other paths were returned.",
    "with a new head": "Right at first, wrong when the model has another head: ask it for its modules in each call.",
    "the first names": fine("A second call changed the list of the first one: make a new list in each call."),
}


REFUSED = {
    "raised": "A path that is not a module must raise a ValueError.",
    "unchanged": fine("It raised ValueError after it had changed the model: check the paths first."),
}


def freeze_inputs(d):
    paths = ["head"], [], ["body.layers.1"], ["body.layers.10", "head"], ["head", "head"], ["body", "body.norm"]
    plain = d.number(*paths, ["head_scale", "body.layers.1"], [""], ["", "head"])
    paths = d.fine("A module without parameters, such as body.dropout, is a module as well.", plain, ["body.dropout"])
    return paths, d.number([], [""], ["body.norm"], ["head_scale", "head"]), some_kinds(d)


def refuse_inputs(d):
    paths = d.number(["haed"], ["head", "body.layers.2"], ["head", "Body"])
    odd = d.number(["body.layers", "head"], ["head.weight"], ["body."])
    is_odd = d.fine("A parameter, a list or a path that ends in a dot is not a module either: raise ValueError.", 0, 1)
    return odd if is_odd else paths, d.number([""], [], ["head_scale", "body.norm"])


STILL_OLD = "The head is still the old one: set model.head."


@task(3)
def heading(student):
    """Which of the two sizes does the new head take from the old one?

    Its width is model.head.in_features, its height is classes. Draw from rng, make it small, then a Linear.

    An old head (7, 4), for 5 classes: draw (5, 4) numbers, say 0.3, -1.2, …, which become 0.006, -0.024, …, in float32.
    A Linear of them has 4 in_features and 5 out_features. The old Linear still has its 7 rows.
    """
    search(student.driver.replaced, head_inputs, 30, facts=facts_of_head, hints=HEADED)
    search(
        student.driver.seeded, lambda d: (d.number(2, 1, 3), d.number(0, 1, 7)), 10, facts=facts_of_seeds, hints=HEADED
    )
    for classes, seed, is_frozen in ((2, 0, False), (3, 1, True), (200, 2, True)):
        answer = student.driver.headed(classes, seed, is_frozen)
        answer.returns({"from_arrays takes an array of shape (classes, hidden size).": raised("ValueError", "shape")})
        mistakes = {
            "The old head's own array was written to. It is tied to another layer, which has now changed too: "
            "make a new Linear.": lambda weight: np.shape(weight) != (7, 4) or np.any(weight != 1)
        }
        answer["other"].equals(np.ones((7, 4)), mistakes)
        mistakes = {
            STILL_OLD: lambda is_new: answer["weight"].value.shape == (7, 4),
            "The old Linear was given another array: it keeps its bias and its sizes. Put a new Linear in its "
            "place.": False,
        }
        answer["is_new"].equals(True, mistakes)
        answer["weight"].holds(
            lambda weight: np.shape(weight) == (classes, 4),
            f"a weight of shape ({classes}, 4)",
            "The new weight has another shape: a row for each class, a column for each number of the hidden state.",
            instead={
                "The weight is transposed: it is (classes, hidden size).": lambda w: np.shape(w) == (4, classes),
            },
        )
        answer["has_bias"].equals(False, hint="No bias: at first no class is preferred.")
        answer["trains"].equals(True, hint="The new head is frozen: it is the one thing that must train.")
        answer["same"].equals(True, hint="Something else was frozen or unfrozen: leave that to freeze_all_but.")
        answer["weight"].holds(lambda weight: weight.dtype == np.float32, "a weight in float32", HEADED["float32"])
    answer["weight"].holds(
        lambda weight: 0.017 < np.std(weight) < 0.023 and abs(np.mean(weight)) < 0.005,
        "numbers around 0 with a standard deviation of 0.02",
        "The start has another spread: normal numbers times 0.02.",
        instead={
            "The head is all zeros: allowed in theory, but here normal numbers times 0.02 are asked for.": (
                lambda weight: not np.any(weight)
            ),
            "The rows are all the same: draw classes times the width.": lambda weight: np.all(weight == weight[0]),
            "Rows of the old head were kept: they speak about other classes.": lambda weight: np.any(weight == 1),
            "0.02 is the standard deviation, not the variance: no square root.": lambda weight: (
                abs(np.std(weight) - 0.02**0.5) < 0.01
            ),
            "They are uniform: rng.standard_normal.": lambda weight: (
                0.01 < np.std(weight) < np.abs(weight).max() < 0.021
            ),
            "The start is too large: 0.02 times normal numbers.": lambda weight: np.std(weight) > 0.1,
        },
    )
    answer["weight"].holds(
        lambda weight: np.abs(weight).max() > 0.045,
        "normal numbers",
        "They are not normal: rng.standard_normal.",
    )


HEADED = {
    "a new Linear": "The old head is still in place: it is replaced whatever its form, also where it would fit.",
    "the old one unchanged": "The old Linear was changed: leave it as it is, and put a new one in its place.",
    "shape": "The new head has another shape: from the old one's in_features to the classes.",
    "names": "The new head has a bias, or something else in the model was added or lost.",
    "what trains": "What trains beside the head has changed, or the new head is frozen.",
    "float32": fine("The weight is not in float32: all that follows is in its dtype, too. .astype('float32')"),
    "numbers that differ": "The numbers of the new weight repeat: draw each of them.",
    "small": "The numbers are not normal times 0.02.",
    "a seed gives one head": "Use the rng that `seed` made, so that a seed gives one head.",
    "arrays of their own": fine("Two models' heads share an array, so training one changes the other: make a new one."),
    "another seed, another head": "Another seed gives the same head: use the rng that `seed` made.",
}


def head_inputs(d):
    return d.size(), d.size(), d.choice(True, False), d.number(2, 1, 3, 4), d.number(0, 1, 7)


def facts_of_head(result):
    facts, weight = dict(result), result["weight"]
    del facts["weight"]
    return facts | {
        "float32": str(weight.dtype),
        "numbers that differ": len(np.unique(np.abs(weight))) == weight.size,
        "small": bool(np.any(weight)) and np.abs(weight).max() < 0.02 * 5,
    }


def facts_of_seeds(facts):
    first, again, other = facts["weights"]
    return {
        "arrays of their own": facts["arrays of their own"],
        "a seed gives one head": np.array_equal(first, again),
        "another seed, another head": not np.any(first == other),
    }


@task(4)
def grouping(student):
    """Two questions for each parameter that trains: is it the head's, and how many axes does it have?

    Up to four groups: (head or body) × (matrix or vector). Leave out those that stay empty.

    Lesson 05's decay alone: of a Linear and a norm, the weight (2, 3) goes to the group that decays; the bias (2,), the
    scale (3,) and the shift (3,) go to the other one, with 0. Here the rate divides each once more: a scale (3,) in the
    body gets body_lr and 0.
    """
    search(student.driver.groups, group_inputs, 40, hints=GROUPED)
    for paths in (["head"], ["head", "body.layers.1"], ["body.norm", "head"], ["head_scale"], [""]):
        answer = student.driver.grouped(below(paths), [], 0.1, 0.5)
        mistakes = {
            PAIRS: raised("AttributeError", "'tuple' object"),
            'A group is a dictionary with "params", "lr" and "weight_decay".': raised("Exception"),
        }
        answer.returns(mistakes)
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
                "head_scale.weight is (1, 4), and a matrix: what counts is two axes, however short.": lambda got: (
                    names == ["head_scale.weight"]
                ),
                "It is the other way round: matrices decay.": lambda got: all(
                    abs(decay - (0.01 - decays[name])) < 1e-9 for name, _, decay in got
                ),
            },
        )
    tied = student.driver.grouped(["body.layers.0.weight", "body.norm.bias"], ["tied"], 0.1, 0.5)["rows"]
    tied.holds(
        lambda rows: [row[0] for row in rows].count("body.layers.0.weight") == 1,
        "the shared weight once",
        "The head's weight is also a layer's, and is in no group.",
        instead={
            "The head's weight is also a layer's, and is in two groups: it would be stepped twice.": lambda rows: (
                [row[0] for row in rows].count("body.layers.0.weight") > 1
            ),
        },
    )
    equal = student.driver.grouped(["copied.weight", "head.weight"], ["copied"], 0.1, 0.5)["rows"]
    equal.holds(
        lambda rows: sorted(rows) == [["copied.weight", 0.1, 0.01], ["head.weight", 0.5, 0.01]],
        "copied.weight at 0.1, head.weight at 0.5",
        "A weight with the numbers of the head's is not the head's: only the same object is.",
    )
    student.driver.grouped(["body.norm.bias", "head.weight", "head.bias"], [], 0.2, 0.2)["rows"].holds(
        lambda rows: sorted(row[0] for row in rows) == ["body.norm.bias", "head.bias", "head.weight"],
        "body.norm.bias, head.bias, head.weight, each once",
        "Where both rates are equal, the groups hold other parameters: does one of them take another's place?",
    )


GROUPED = {
    "parameters": "The groups hold other parameters than those that train, each once.",
    "learning rates": "A learning rate is wrong: head_lr for the parameters of model.head, body_lr for all others.",
    "weight decays": "A weight decay is wrong: it goes by the axes, so (1, 4) is a matrix and (4,) is none.",
    "an empty group": fine("A group is empty: leave it out."),
    "what trains afterwards": "Making groups changed what trains: only look at requires_grad.",
    "a second call": "Right at first, wrong when other parameters train: make the groups anew in each call.",
    "its numbers": "Right at first, wrong with other rates: make the groups anew in each call.",
    "the first groups": fine("The groups of a first call are others after a second one: make new lists in each."),
}


def group_inputs(d):
    kinds = [d.fine(TIED, "", "tied"), d.choice("", "twin", "inner", "shelf", "copied")]
    paths = d.number(
        ["head"], [""], [], ["body.norm", "head"], ["body"], ["head_scale", "body.layers.1"], ["body.embed"]
    )
    return kinds, d.size(1, 3), paths, d.number(0.1, 0.5, 0.0, 2.0), d.number(0.5, 0.1, 3.0), d.number(0.01, 0.0, 1.0)


def moved(answer, head, times):
    """Return the head after a step that is `times` as large."""
    start = answer["start"].value
    return {name: start[name] + times * (head[name] - start[name]) for name in head}


def loss_of_shares(head, hidden, labels):
    """Return the cross-entropy if the softmax is applied twice: its result is taken for scores."""
    scores = hidden @ head["head.weight"].T + head["head.bias"]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return float((np.log(np.exp(shares).sum(axis=1)) - shares[np.arange(len(labels)), labels]).mean())


def loss_and_step(head, hidden, labels):
    """Return the loss, and the head after a step of 0.5."""
    scores = hidden @ head["head.weight"].T + head["head.bias"]
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
    shares[np.arange(len(labels)), labels] -= 1
    g = shares / len(labels)
    changes = {"head.weight": g.T @ hidden, "head.bias": g.sum(axis=0)}
    return float(loss), {name: head[name] - 0.5 * changes[name] for name in head}


NO_GRAPH = "The loss depends on nothing that trains: is the head left out, or is all of it under no_grad()?"


@task(5)
def stepping(student):
    """Four things happen in a step. Which comes first, and which number is returned?

    Forget the old gradients, forward to the loss, backward, step. The loss is a Tensor: .item() is its number.

    The same for a fit: error = ((layer(Tensor(x)) - y) ** 2).mean(), after what was left from the last batch is
    forgotten. If error is 0.8 before the step and 0.7 after it, the number to return is 0.8.
    """
    search(student.driver.stepped_once, step_inputs, 40, hints=STEPPED, tolerance=1e-4)
    search(student.driver.stepped_once, loud_inputs, 10, parts=("loss",), hints={"loss": LOUD}, tolerance=1e-4)
    rng = np.random.default_rng(5)
    for n, steps in ((1, 1), (3, 1), (4, 3)):
        x, labels = draw(rng, n, 3).astype("float32"), rng.integers(0, 2, n)
        answer = student.driver.stepped(below(["head"]), x, labels, steps)
        answer.returns({NO_GRAPH: raised("RuntimeError", "needs a graph")})
        hidden = answer["features"].value
        head = {name: answer["start"].value[name].astype("float64") for name in ("head.weight", "head.bias")}
        losses = []
        for _ in range(steps):
            loss, head = loss_and_step(head, hidden, labels)
            losses.append(loss)
        after = loss_and_step(head, hidden, labels)[0]
        twice = loss_of_shares(answer["start"].value, hidden, labels)
        answer["trains"].equals(
            ["head.weight", "head.bias"],
            instead={"What was frozen trains now: a step leaves requires_grad alone.": lambda names: len(names) > 2},
        )
        answer["is_tensor"].equals(
            False, hint="Return a number, loss.item(): a Tensor holds on to what it was computed from."
        )
        mistakes = {
            "Nothing moved: backward makes gradients, and optimizer.step() uses them.": [],
            "Something that is frozen moved: only what the optimizer holds may.": lambda moved: len(moved) > 2,
        }
        answer["moved"].equals(["head.weight", "head.bias"], mistakes)
        mistakes = {
            "Return the loss.": lambda got: got[0] is None,
            "That is the loss after the step: return the one that the gradients came from.": lambda got: (
                abs(float(got[0]) - (losses[1] if steps > 1 else after)) < 1e-5
            ),
            "The loss is a sum: take the mean over the batch.": lambda got: abs(got[0] - n * losses[0]) < 1e-5 < n - 1,
            "The softmax is taken twice: F.cross_entropy takes it itself, so hand it the scores.": lambda got: (
                abs(got[0] - twice) < 1e-5
            ),
            "Gradients of earlier steps are still there: zero_grad() first.": lambda got: (
                steps > 1 and abs(got[0] - losses[0]) < 1e-5
            ),
        }
        answer["losses"].equals(losses, mistakes)
    answer = student.driver.stepped(below(["head", "body.layers.1"]), x, labels, 1)
    mistakes = {
        "The body's last layer should move as well: let gradients flow through model.body.": [
            "head.weight",
            "head.bias",
        ]
    }
    answer["moved"].equals(["body.layers.1.weight", "body.layers.1.bias", "head.weight", "head.bias"], mistakes)
    answer = student.driver.stepped(below(["head"]), x, labels, 1, 10.0)
    head = {name: answer["start"].value[name].astype("float64") for name in ("head.weight", "head.bias")}
    after = loss_and_step(head, answer["features"].value, labels)[1]
    answer["head"].equals(after, hint=LEFT, tolerance=1e-4)
    bias, labels = np.sin(np.arange(70_000.0)).astype("float32"), np.array([69_999, 40_000])
    loss = np.log(np.exp(bias).sum()) - bias[labels].mean()
    student.driver.of_many_classes(bias, labels).equals(float(loss), hint=MANY)
    x = draw(rng, 3, 3).astype("float32")
    ids = student.driver.stepped_once([""], [""], np.array([[7, 0], [2, 2], [8, 5]]), np.array([0, 3, 1]), 0.5, 0.1)
    ids.returns({IDS: raised("TypeError", "must be integers")})
    answer = student.driver.stepped_once([""], [""], x, np.array([0, 3, 1]), 0.5, 0.1)
    for part in ("dropout is on", "training mode"):
        answer[part].equals(True, hint=STEPPED[part])
    answer["moved"].holds(
        lambda names: "head_scale.weight" not in names,
        "head_scale to stay: the loss does not depend on it",
        STEPPED["moved"],
    )


STEPPED = {
    "dropout is on": "Dropout was off while the model trained: a step leaves the model in training mode.",
    "training mode": "The model is no longer in training mode: later steps would be without dropout.",
    "what trains": "What trains has changed, or what was frozen trains now: a step leaves requires_grad alone.",
    "frozen, with a gradient": fine("A frozen parameter has a gradient now: forget gradients by zero_grad(), or None."),
    "loss": "That is not F.cross_entropy of the whole batch's scores before the step.",
    "after the step": "The parameters are others than optimizer.step() makes of this loss's gradients.",
    "runs of the body": fine("The body runs more than once, each time with another dropout: once is enough."),
    "with another optimizer": "A step with a second optimizer is wrong: step with the one that is handed over.",
    "moved": fine("A parameter without a part in the loss moved: zeros are a gradient, too, by which weights decay."),
}


LEFT = "A gradient that was left from before the call counts: zero_grad() comes before backward, not after the step."
MANY = fine("Wrong where there are 70,000 classes: are labels kept in too few bits?")
IDS = "x may hold token ids, for which the body's Embedding looks up rows: hand it on as it is, not as floats."
LOUD = fine("The loss is wrong where scores are large: F.cross_entropy takes the largest off before exp.")


def loud_inputs(d):
    return [["loud"], *step_inputs(d)[1:]]


def floats_or_ids(d, kind, *shape):
    return d.array(*shape) if kind == "floats" else d.whole(*shape, below=9, dtype=d.choice("int64", "uint8"))


def step_inputs(d):
    n = d.size()
    x = floats_or_ids(d, d.choice("floats", "ids"), n, *d.shape((0, 1)), d.size())
    paths = d.choice(["head"], [""], ["body"], ["head", "body.layers.1"], ["body.embed"])
    dtypes = "int64", "int32", "uint8", "uint64", "int16"
    labels = d.whole(n, below=4, dtype=d.fine("It goes wrong for labels of another integer dtype than int64.", *dtypes))
    return [d.choice("", "tied")], paths, x, labels, d.number(0.5, 0.1), d.number(0.0, 0.1)


@task(6)
def extracting(student):
    """What must be off, what need not be recorded, and what comes out?

    model.eval(), then with no_grad(): model.body of each batch, as an array. Join them in order.

    Batches of 3 and 2 examples, hidden states of 4 numbers: the body gives Tensors (3, 4) and (2, 4), the first one's
    array is rows 0 to 2 of a (5, 4) array, the second one's rows 3 and 4. np.vstack([a, b]) does it.
    """
    search(student.driver.extracted, feature_inputs, 30, parts=tuple(EXTRACTED), hints=EXTRACTED)
    rng = np.random.default_rng(6)
    for sizes in ((1,), (2,), (3, 2), (4, 4, 1)):
        batches = [draw(rng, n, 3).astype("float32") for n in sizes]
        answer = student.driver.extracted(batches, [""])
        mistakes = {
            "Write no_grad() with its parentheses.": raised("TypeError", "context manager"),
            "Join along the first axis, the examples: np.concatenate(found).": raised("ValueError", "concatenat"),
            "Batches may have different lengths: join them by np.concatenate.": raised("ValueError", "shape"),
        }
        answer.returns(mistakes)
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
            False, hint="Dropout was on while the body ran, so that features are random: model.eval() first."
        )
        answer["training"].equals(
            False, hint="The model is in training mode afterwards: model.eval(), all of it, and leave it so."
        )
        mistakes = {
            "Join the batches into one array: np.concatenate.": "list",
            "These are Tensors: .numpy() of each, then join them.": "ndarray of objects",
            "Return an array: tensor.numpy() is one, and np.concatenate joins several.": "Tensor",
            "The function gave None: is a return missing?": "NoneType",
        }
        answer["form"].equals("ndarray", mistakes)
        mistakes = {
            "That is the head's scores: features are what the body gives.": np.concatenate(answer["scores"].value),
            "Join the batches into one array: np.concatenate.": lambda got: np.ndim(got) == 3,
            "There are more rows than examples: was a shorter batch padded?": lambda got: len(got) > len(right),
            "The batches come in another order.": lambda got: (
                np.shape(got) == right.shape and np.allclose(np.sort(got, axis=0), np.sort(right, axis=0), atol=1e-5)
            ),
            "The numbers have three digits only: keep them in float32, not in half precision.": lambda got: (
                np.shape(got) == right.shape and np.allclose(got, right, atol=2e-3)
            ),
            "One row for each example, with one example too: was an axis of length 1 squeezed away?": lambda got: (
                np.shape(got) == right[0].shape
            ),
            "One row for each example: the hidden states of a batch were averaged.": (
                np.stack([states.mean(axis=0) for states in hidden]) if len(sizes) < len(right) else None
            ),
        }
        answer["found"].equals(right, mistakes)
        answer["recorded"].equals(
            False, hint="A graph was recorded, and keeps all the arrays of the forward pass: put it under no_grad()."
        )
    ids = student.driver.extracted([np.array([[7, 0], [2, 2], [8, 5]])], [""])
    ids.returns({IDS: raised("TypeError", "must be integers")})


EXTRACTED = {
    "dropped": "",
    "training": "",
    "found": "That is not what the body gives for each example, in order.",
    "recorded": "",
    "recording afterwards": "no_grad() is still on afterwards, and nothing would train: use it in a with statement.",
    "what trains": "What trains has changed, or was frozen: no_grad() is all that is needed here.",
    "moved": "The model's own numbers changed: run the body, and leave it as it is.",
    "gradients": "The model's gradients changed: run the body, and leave all else in the model as it is.",
    "after training": "Right at first, wrong when weights have changed: the body runs anew in each call.",
}


def feature_inputs(d):
    further, inputs, kind = d.shape((0, 1)), d.size(), d.choice("floats", "ids")
    sizes = [d.fine("It goes wrong where a batch has no rows.", d.size(), 0) for _ in range(d.size(1, 3))]
    batches = [floats_or_ids(d, kind, size, *further, inputs) for size in sizes]
    return batches, d.choice([""], ["head"], [])
