"""The checks of lesson 02. Gradients are compared with central differences, in float64."""

import numpy as np

from minilora.classroom import draw, fine, promise, raised, search, task

USES = ()
PROMISES = {"unbroadcast": promise(shares=True, within="further axes")}

EPS = 1e-6
ROOT = "The root's gradient is to be an array of the root's shape, full of ones."
IN_NUMPY = {"add": np.add, "plus": np.add, "multiply": np.multiply, "matmul": np.matmul, "tanh": np.tanh}


def central_differences(function, arrays, i, g):
    """Return the gradient of (g * function(*arrays)).sum() with respect to arrays[i]."""
    gradient = np.zeros(arrays[i].shape)
    for place in np.ndindex(gradient.shape):
        sums = []
        for step in (EPS, -EPS):
            changed = [array.copy() for array in arrays]
            changed[i][place] += step
            sums.append((g * function(*changed)).sum())
        gradient[place] = (sums[0] - sums[1]) / (2 * EPS)
    return gradient


@task(1)
def unbroadcasting(student):
    """Which axes of the gradient does the array not have, and along which does it have size 1?

    First sum away the axes in front that `shape` does not have; then sum, with keepdims, where `shape` has a 1.

    A (1, 3) that met a (5, 2, 3): axis 0 is one that it does not have, which leaves (2, 3); along what is now axis 0 it
    has a 1, so [[1, 2, 3], [4, 5, 6]] becomes [[5, 7, 9]], of shape (1, 3).
    """
    search(student.unbroadcast, gradients_and_shapes)
    rng = np.random.default_rng(1)
    cases = [((2,), ()), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), (1, 3)), ((2, 3), (2, 3))]
    for full, shape in [
        *cases,
        ((2, 3), (1, 1)),
        ((4, 2, 3), (2, 1)),
        ((4, 2, 3), (1, 2, 1)),
        ((4, 2, 3), (3,)),
        ((1, 3), (1, 3)),
    ]:
        g = draw(rng, *full)
        right = central_differences(lambda x: np.broadcast_to(x, full), [np.zeros(shape)], 0, g)
        leading = g.sum(axis=tuple(range(len(full) - len(shape))))
        mistakes = {
            "Only the axes in front are summed: those where `shape` has a 1 were repeated, too.": leading,
            "The gradient is returned as it came: sum it over the repeated axes.": g,
            "The axes of size 1 are lost: sum with keepdims=True.": lambda got: (
                np.shape(got) == tuple(n for n in shape if n > 1) != shape and np.allclose(np.ravel(got), right.ravel())
            ),
            "The parts are averaged: they have to be added.": right * right.size / g.size,
            "One copy's gradient is taken: all copies' have to be added.": lambda got: (
                np.shape(got) == shape and set(np.ravel(got)) <= set(g.ravel())
            ),
            "The axes in front, which `shape` does not have, are not summed.": lambda got: np.ndim(got) > len(shape),
            "An axis that is summed away is gone, and those behind it have other numbers: sum all at once.": (
                raised("AxisError")
            ),
            "The right numbers are added up in wrong groups: a reshape does not follow the axes, a sum does.": (
                lambda got: np.shape(got) == shape and np.isclose(np.sum(got), right.sum())
            ),
        }
        student.unbroadcast(g, shape).equals(right, mistakes)

    for first, hint in ((2.0**30, DIGITS), (np.nan, fine("A sum with nan in it is nan: leave nothing out."))):
        student.unbroadcast(np.array([[first], [1.0]]), (1,)).equals(np.array([first + 1]), hint=hint, tolerance=1e-12)


DIGITS = fine("The sum has seven digits only: numbers are float64 here, and stay so.")


def gradients_and_shapes(d):
    full = d.shape((0, 1, 2, 3), least=1)
    shape = tuple(1 if d.choice(False, True) else n for n in full[d.choice(0, 1, 2) :])
    return d.eighths(*full), shape


NO_EDGE = "An edge is missing: each argument needs a (parent, rule) pair of its own."
UNUSED = "The rule does not use g, the gradient that arrives."


def rules(student, operation, arrays, instead):
    """Check the value and rules of an operation. instead: {hint: function of g that gives the wrong gradients}."""
    function = IN_NUMPY[operation]
    g = draw(np.random.default_rng(9), *function(*arrays).shape)
    answer = student.driver.rules_of(operation, arrays, g)
    mistakes = {
        "The shapes do not fit: which of the matrices has to be transposed, and on which side does it stand?": (
            raised("ValueError", "matmul")
        )
    }
    answer.returns(mistakes)
    answer["value"].equals(function(*arrays), {"That is the sum.": lambda y: np.allclose(y, sum(arrays))})
    for i in range(len(arrays)):
        right = central_differences(function, arrays, i, g)
        wrong = {NO_EDGE: None} | {hint: values(g)[i] for hint, values in instead.items() if values(g)[i] is not None}
        answer[f"gradient {i}"].equals(right, instead=wrong, tolerance=1e-6)


@task(2)
def product(student):
    """What is the derivative of a · b with respect to a?

    The rule for a multiplies g by b. Its result must have a's shape.

    For a quotient, a / b, a's rule would be g / b summed to a's shape, and b's -g a / b² summed to b's: each rule
    multiplies g by the derivative with the other argument in it, and then undoes the broadcasting.
    """
    search(student.driver.rules_of, products, parts=PARTS, hints=AFTERWARDS)
    rng = np.random.default_rng(2)
    for one, other in [((2,), (2,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((3, 1, 2), (4, 1))]:
        a, b = draw(rng, *one), draw(rng, *other)
        wrong = {
            "The factors are the wrong way round: the rule for a multiplies by b.": lambda g: (
                (g * a, g * b) if one == other else (None, None)
            ),
            UNUSED: lambda g: (b, a),
            "Multiply first, and sum then: unbroadcast(g * …), not unbroadcast(g) * ….": lambda g: (
                summed_to(summed_to(g, one) * b, one),
                summed_to(summed_to(g, other) * a, other),
            ),
            "That is addition's rule: a product's multiplies by the other factor.": lambda g: (g, g),
            "The result has the shape of the product, not the argument's: unbroadcast it.": lambda g: (g * b, g * a),
        }
        rules(student, "multiply", [a, b], wrong)
    a, g = draw(rng, 2), draw(rng, 2)
    student.driver.rules_of("multiply", [a, a], g, True)["gradient 0"].equals(
        2 * g * a, instead={"Where both arguments are one node, it gets a part for each of them.": g * a}
    )


def summed_to(g, shape):
    """Sum g over the axes along which an array of this shape was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 < g.shape[i]), keepdims=True)


PARTS = ("g afterwards", "arrays afterwards", "value", "gradient 0", "gradient 1")
AFTERWARDS = {
    "g afterwards": "A rule changes g, the gradient that it is given; others need it, too. Write g * …, not g *= ….",
    "arrays afterwards": "The arrays of the nodes are others after the rules have been called: a rule writes into one.",
}


def products(d):
    """Draw two shapes that broadcast, sometimes with one node as both arguments."""
    full = d.shape((1, 0, 2, 3))
    one, other = (tuple(1 if d.choice(False, True) else n for n in full[d.choice(0, 1) :]) for _ in range(2))
    a, b = d.array(*one, dtype="float64"), d.array(*other, dtype="float64")
    if is_same := d.choice(False, True):
        b = a
    return "multiply", [a, b], d.array(*np.broadcast_shapes(a.shape, b.shape), dtype="float64"), is_same


@task(3)
def more_rules(student):
    """For matmul, write the three shapes down, and find the product of two that gives the third.

    The gradient of a is g times b transposed. The derivative of tanh can be said with tanh alone.

    Were the product a @ b.T, for b (m, k), the shapes would leave g @ b for a and g.T @ a for b. And the sigmoid s of
    a, whose derivative can be said with itself as well, would have the rule g * s * (1 - s).
    """
    search(student.driver.rules_of, matrices, parts=PARTS, hints=AFTERWARDS)
    search(student.driver.rules_of, curves, parts=PARTS, hints=AFTERWARDS)
    rng = np.random.default_rng(3)
    for n, k, m in [(2, 2, 2), (1, 2, 3), (4, 3, 2)]:
        a, b = draw(rng, n, k), draw(rng, k, m)
        wrong = {
            "The order is wrong: matrices do not commute.": lambda g: (
                (b.T @ g, g @ a.T) if n == m == k else (None, None)
            )
        }
        wrong |= {
            "b is to be transposed in the rule for a, and a in the rule for b.": lambda g: (
                (g @ b, a @ g) if n == m == k else (None, None)
            )
        }
        wrong |= {"The gradients are exchanged.": lambda g: (a.T @ g, g @ b.T)}
        wrong |= {
            "The right numbers stand in other places: (p q)ᵀ is qᵀ pᵀ, and a reshape does not transpose.": lambda g: (
                (b @ g.T).reshape(a.shape),
                (g.T @ a).reshape(b.shape),
            ),
            "b's gradient is the sum over the rows, not their mean.": lambda g: (g @ b.T, a.T @ g / len(a)),
        }
        wrong |= {
            "The product of matrices is not the product of elements.": lambda g: (
                (g * b, g * a) if n == m == k else (None, None)
            )
        }
        rules(student, "matmul", [a, b], wrong)
    for x in [draw(rng, 1), draw(rng, 2, 3)]:
        y = np.tanh(x)
        rules(
            student,
            "tanh",
            [x],
            {
                "The derivative is 1 - y², with y the tanh, not its argument.": lambda g: (g * (1 - x**2),),
                UNUSED: lambda g: (1 - y**2,),
                "y has to be squared: the derivative is 1 - y².": lambda g: (g * (1 - y),),
                "The derivative is 1 / cosh², not 1 / cosh.": lambda g: (g / np.cosh(x),),
                "That takes the tanh a second time: y is the tanh already.": lambda g: (g * (1 - np.tanh(y) ** 2),),
                "That is the sigmoid's derivative; tanh's is 1 - y².": lambda g: (g * y * (1 - y),),
            },
        )


def matrices(d):
    n, k, m = d.size(), d.size(), d.size()
    a, b = d.array(n, k, dtype="float64"), d.array(k, m, dtype="float64")
    if is_same := n == k == m and d.choice(False, True):
        b = a
    return "matmul", [a, b], d.array(n, m, dtype="float64"), is_same


def curves(d):
    shape = d.shape((1, 0, 2, 3))
    x = d.array(*shape, kinds=("normal", "ties", "zeros", "tiny"), dtype="float64")
    factor = d.fine("tanh(1000) is 1: exp(1000) is not finite, and np.tanh avoids it.", 1, 1000)
    return "tanh", [x * factor], d.array(*shape, dtype="float64")


DIAMOND = [[], [0], [0], [1, 2]]
GRAPHS = [
    [[]],
    [[], [0]],
    [[], [0], [1]],
    [[], [], [0, 1]],
    [[], [0, 0]],
    DIAMOND,
    [[], [0], [1, 0]],  # 0 is used by 1, and again by the root
    [[], [0], [0, 1]],
    [[], [], [0], [0, 2], [3, 2, 0]],  # node 1 has nothing to do with it
    [[], [0], [1], [2], [0, 3]],
    [[], [0], [1], [2], [1, 3]],  # the short way to 1 is known, and 0 taken, before the long one
    [[], [0, 0], [1, 1], [2, 2], [3, 3]],
]


TOO_EARLY = "A node comes before one that used it: its gradient would not be complete."
EDGES = "Afterwards, nodes have other edges than before: the graph is needed once more."
PATHS = {
    "Every path is walked: x = add(x, x), 40 times, has 2⁴⁰ of them. Remember which nodes have been seen.": (
        raised("RuntimeError", "were walked")
    )
}


def graphs(d):
    """Draw the parents of each node, some of them used twice or not at all; or a chain with shortcuts."""
    parents = [d.whole(d.choice(2, 1, 0, 3) if i else 0, below=max(i, 1)).tolist() for i in range(d.size(1, 8))]
    if d.choice(False, True):
        parents = [d.shuffled([i - 1, *some[:1]]) if i else [] for i, some in enumerate(parents)]
    return parents, d.choice(False, True)


def facts_of_orders(orders):
    """Return the facts that all right orders share."""
    parents = orders["parents"]
    facts = {"nodes": sorted(orders["first"]), "each before its parents": is_in_order(orders["first"], parents)}
    if "again" not in orders:
        return facts
    return facts | {
        "again": sorted(orders["again"]) == sorted(orders["first"]) and is_in_order(orders["again"], parents),
        "edges": orders["edges afterwards"] == parents,
        "nodes of the node before": sorted(orders["of the node before"]),
        "nodes as before": orders["nodes as before"],
    }


def is_in_order(order, parents):
    place = {node: i for i, node in enumerate(order)}
    return all(place[node] < place.get(parent, -1) for node in order for parent in parents[node])


@task(4)
def ordering(student):
    """When may a node be taken? What has to have happened to all that use it?

    Count for each node how often it is used. Taking a node lowers its parents' counts; at 0, a parent is ready.

    f comes from d and e, d from a, e from a and d. Used: d 2, e 1, a 2. Take f: d 1, e 0. Take e, the only one at 0: d
    0, a 1. Take d: a 0. Take a. One loop over everything counts, a second one takes.
    """
    hints = {
        "each before its parents": TOO_EARLY,
        "again": "A second in_order gives another order: something is kept in the nodes.",
        "nodes as before": "The nodes change, by a mark or a count that is left in them: keep it in a dictionary.",
        "edges": EDGES,
    }
    search(student.driver.orders_of, graphs, facts=facts_of_orders, hints=hints)
    for parents in GRAPHS:
        root = len(parents) - 1
        reached = {root}
        for i in range(root, -1, -1):
            reached |= set(parents[i]) if i in reached else set()

        def is_right(order):
            order = [int(i) for i in order]
            place = {node: i for i, node in enumerate(order)}
            return sorted(order) == sorted(reached) and all(place[i] < place[p] for i in reached for p in parents[i])

        student.driver.order_of(parents).holds(
            is_right,
            f"nodes {', '.join(map(str, sorted(reached)))}, each once, and each before those it came from",
            TOO_EARLY,
            instead={
                "A node comes more than once.": lambda order: len(set(order)) < len(order),
                "The root is missing.": lambda order: root not in order,
                "Nodes are missing: go on to the parents' parents.": lambda order: set(order) < reached,
                "The order is the other way round: the root comes first.": lambda order: (
                    len(reached) > 1 and is_right(order[::-1])
                ),
                "There is a node that the root did not come from.": lambda order: not set(order) <= reached,
            },
        )
    student.driver.doubled("in_order").equals(41, instead=PATHS)
    mistakes = {
        "The function calls itself for each node, and Python allows about 1,000 calls: use a loop and a list.": (
            raised("RecursionError")
        )
    }
    student.driver.length_of_chain(20_000).equals(20_000, mistakes)


WALKS = {
    "gradients of the second call": "The second call gives something else: gradients begin anew, and the graph stays.",
    "gradients after one more operation": "A node on top of the root makes backward go wrong: the graph has to stay.",
    "arrays afterwards": "backward changes the arrays of the nodes.",
    "edges as before": EDGES,
}


def programs_and_leaves(d):
    """Draw lines that use earlier results, over matrices (2, 3) and a row (3,); `plus` is for arrays of one shape."""
    wide, n = [0, 2], 3
    program = []
    for _ in range(d.choice(1, 2, 3, 4, 0)):
        a, b = (wide[d.choice(*range(len(wide)))] for _ in range(2))
        lines = f"multiply(n{a}, n{b})", f"plus(n{a}, n{b})", f"tanh(n{a})", f"add(n{a}, n1)", f"flip(n{a})"
        program.append(d.choice(*lines, f"thrice(n{a})"))
        wide.append(n)
        n += 1
    kinds = ("normal", "zeros", "ties")
    leaves = [d.array(*shape, kinds=kinds, dtype="float64") for shape in [(2, 3), (3,)]]
    leaves.append(d.array(2, 3, kinds=kinds, dtype="float64") * d.choice(1, 0))
    return program, leaves, d.choice(False, True)


PASSED_OVER = "A node whose gradient is all zeros is passed over: its parents' gradients are zeros then, not None."
VIEW = "A rule may return a view of what it is given, and += changes both: make a new array, a = a + b."


@task(5)
def walking(student):
    """What is the gradient of the sum with respect to the root itself? And what if a node hands down to one twice?

    Root: ones. Then, in order, each node gives rule(node.gradient) to each parent, and the parent adds it up.

    y = x * x at x = 3, then z = y + x. z: 1. z hands 1 to y and 1 to x. y hands 3 · 1 to x by its first edge, and 3 · 1
    by its second one: x has 1 + 3 + 3 = 7. Each sum is a new array: two nodes may hold one.
    """
    search(student.driver.walks, programs_and_leaves, hints=WALKS, examples=40)
    rng = np.random.default_rng(5)
    programs = [
        (["add(n0, n1)"], [(2,), (2,)]),
        (["tanh(n0)"], [(1,)]),
        (["multiply(n0, n1)"], [(2,), (2,)]),
        (["multiply(n0, n0)"], [(2,)]),
        (["add(n0, n0)"], [(2,)]),
        (["multiply(n0, n0)", "plus(n1, n1)", "plus(n2, n1)", "plus(n3, n0)"], [(2,)]),
        (["add(n0, n1)", "add(n2, n0)"], [(2,), (2,)]),
        (["add(n0, n1)", "multiply(n1, n1)", "add(n2, n3)"], [(2,), (2,)]),
        (["multiply(n0, n0)", "add(n1, n1)", "multiply(n2, n1)", "add(n3, n0)"], [(2,)]),
        (["matmul(n0, n1)", "add(n3, n2)", "tanh(n4)", "multiply(n5, n4)"], [(3, 2), (2, 4), (4,)]),
        (["add(n0, n1)"], [(), ()]),
    ]
    for program, shapes in programs:
        leaves = [draw(rng, *shape) for shape in shapes]

        def run(*leaves):
            nodes = list(leaves)
            for line in program:
                name, _, rest = line.partition("(")
                nodes.append(IN_NUMPY[name](*(nodes[int(word.strip(" n)"))] for word in rest.split(","))))
            return nodes[-1]

        g = np.ones(run(*leaves).shape)
        right = tuple(central_differences(run, leaves, i, g) for i in range(len(leaves)))
        for times in (1, 2):
            answer = student.driver.gradients(program, leaves, times)
            answer.returns({ROOT: raised("AttributeError", "'float' object")})
            mistakes = {
                "No gradient was set.": None,
                ROOT: lambda got: np.shape(got) != g.shape,
                "The gradients are all zero: begin with ones at the root.": lambda got: not np.any(got),
                "The walk does not begin with ones at the root.": lambda got: np.allclose(got, run(*leaves)),
                "The root's gradient is changed on the way: two nodes share an array, and += changes both.": (
                    lambda got: np.any(got > 1)
                ),
            }
            answer[len(leaves) + len(program) - 1].equals(g, mistakes)
            answer.raw = tuple(answer.raw[: len(leaves)])
            mistakes = {
                "No gradient was set.": lambda gradients: any(part is None for part in gradients),
                "The second call adds to what the first one left: begin anew each time.": lambda gradients: (
                    times == 2 and all(np.allclose(part, 2 * r) for part, r in zip(gradients, right, strict=True))
                ),
                "Two nodes share an array, and += changes it for both: make a new one, a = a + b.": lambda gradients: (
                    "plus" in program[-1]
                    and any(np.any(np.abs(part) > np.abs(r) + 1e-3) for part, r in zip(gradients, right, strict=True))
                ),
                "A node that is used twice keeps only one part of its gradient: add the parts up.": lambda gradients: (
                    any(np.any(np.abs(part) < np.abs(r) - 1e-3) for part, r in zip(gradients, right, strict=True))
                ),
            }
            answer.equals(right, mistakes, tolerance=1e-6)
    for program, leaves, right, hint in (
        (["tanh(n0)", "multiply(n2, n1)"], [[0.5], [0.0]], {0: 0.0}, PASSED_OVER),
        (["flip(n0)", "flip(n0)", "plus(n1, n2)"], [[0.5, 2.0]], {1: 1.0, 2: 1.0, 0: 2.0}, VIEW),
        (["multiply(n0, n1)", "add(n2, n0)"], [[1.0], [2.0**30]], {0: 2.0**30 + 1}, DIGITS),
    ):
        answer = student.driver.gradients(program, [np.array(leaf) for leaf in leaves])
        for i, value in right.items():
            answer[i].equals(np.full(len(leaves[0]), value), hint=hint, tolerance=1e-12)
    student.driver.doubled("backward").equals(2.0**40, instead=PATHS)
    mistakes = {
        "The function calls itself along a chain: a loop over in_order(root) is enough.": raised("RecursionError")
    }
    student.driver.gradient_of_chain(3000).equals(1.0, mistakes)
