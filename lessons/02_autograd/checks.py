"""The checks of lesson 02. Gradients are compared with central differences, in float64."""

import numpy as np

from minilora.classroom import draw, raised, task

USES = ()

EPS = 1e-6
IN_NUMPY = {"add": np.add, "plus": np.add, "multiply": np.multiply, "matmul": np.matmul, "tanh": np.tanh}


def central_differences(function, arrays, i, g):
    """The gradient of (g * function(*arrays)).sum() with respect to arrays[i]."""
    found = np.zeros(arrays[i].shape)
    for place in np.ndindex(found.shape):
        sums = []
        for step in (EPS, -EPS):
            changed = [array.copy() for array in arrays]
            changed[i][place] += step
            sums.append((g * function(*changed)).sum())
        found[place] = (sums[0] - sums[1]) / (2 * EPS)
    return found


@task(
    1,
    hints=(
        "Which axes of the gradient does the array not have, and along which does it have size 1?",
        "First sum away the axes in front that `shape` does not have; then sum, with keepdims, where `shape` has a 1.",
        "gradient.sum(axis=tuple(range(extra))), then .sum(axis=repeated, keepdims=True)",
    ),
)
def unbroadcasting(student):
    rng = np.random.default_rng(1)
    cases = [((2,), ()), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), (1, 3)), ((2, 3), (2, 3))]
    for full, shape in [*cases, ((2, 3), (1, 1)), ((4, 2, 3), (2, 1)), ((4, 2, 3), (1, 2, 1)), ((1, 3), (1, 3))]:
        g = draw(rng, *full)
        right = central_differences(lambda x: np.broadcast_to(x, full), [np.zeros(shape)], 0, g)
        leading = g.sum(axis=tuple(range(len(full) - len(shape))))
        student.unbroadcast(g, shape).equals(
            right,
            instead={
                "Only the axes in front are summed: those where `shape` has a 1 were repeated, too.": leading,
                "The gradient is returned as it came: sum it over the repeated axes.": g,
                "The axes of size 1 are lost: sum with keepdims=True.": lambda got: (
                    np.shape(got) == tuple(n for n in shape if n > 1) != shape
                    and np.allclose(np.ravel(got), right.ravel())
                ),
                "The parts are averaged: they have to be added.": right * right.size / g.size,
                "One copy's gradient is taken: all copies' have to be added.": lambda got: (
                    np.shape(got) == shape and set(np.ravel(got)) <= set(g.ravel())
                ),
                "The axes in front, which `shape` does not have, are not summed.": lambda got: (
                    np.ndim(got) > len(shape)
                ),
            },
        )


NO_EDGE = "An edge is missing: each argument needs a (parent, rule) pair of its own."
UNUSED = "The rule does not use g, the gradient that arrives."


def rules(student, operation, arrays, instead):
    """Value and rules of an operation. instead: hint -> wrong value of the first, second, … gradient, by g."""
    function = IN_NUMPY[operation]
    g = draw(np.random.default_rng(9), *function(*arrays).shape)
    answer = student.driver.rules_of(operation, arrays, g)
    answer.returns(
        {
            "The shapes do not fit: which of the matrices has to be transposed, and on which side does it stand?": (
                raised("ValueError", "matmul")
            )
        }
    )
    answer["value"].equals(function(*arrays), instead={"That is the sum.": lambda y: np.allclose(y, sum(arrays))})
    for i in range(len(arrays)):
        right = central_differences(function, arrays, i, g)
        wrong = {NO_EDGE: None} | {hint: values(g)[i] for hint, values in instead.items() if values(g)[i] is not None}
        answer[f"gradient {i}"].equals(right, instead=wrong, tolerance=1e-6)


@task(
    2,
    hints=(
        "What is the derivative of a · b with respect to a?",
        "The rule for a multiplies g by b. Its result must have a's shape.",
        "(a, lambda g: unbroadcast(g * b.array, a.array.shape)), and the same for b with a",
    ),
)
def product(student):
    rng = np.random.default_rng(2)
    for one, other in [((2,), (2,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((3, 1, 2), (4, 1))]:
        a, b = draw(rng, *one), draw(rng, *other)
        wrong = {
            "The factors are the wrong way round: the rule for a multiplies by b.": lambda g: (
                (g * a, g * b) if one == other else (None, None)
            ),
            UNUSED: lambda g: (b, a),
            "That is addition's rule: a product's multiplies by the other factor.": lambda g: (g, g),
            "The result has the shape of the product, not the argument's: unbroadcast it.": lambda g: (g * b, g * a),
        }
        rules(student, "multiply", [a, b], wrong)


@task(
    3,
    hints=(
        "For matmul, write the three shapes down, and find the product of two that gives the third.",
        "The gradient of a is g times b transposed. The derivative of tanh can be said with tanh alone.",
        "matmul: g @ b.array.T and a.array.T @ g. tanh: with y = np.tanh(a.array), g * (1 - y**2).",
    ),
)
def more_rules(student):
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
            "The product of matrices is not the product of elements.": lambda g: (
                (g * b, g * a) if n == m == k else (None, None)
            )
        }
        rules(student, "matmul", [a, b], wrong)
    for shape in [(1,), (2, 3)]:
        x = draw(rng, *shape)
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
                "That is the sigmoid's derivative; tanh's is 1 - y².": lambda g: (g * y * (1 - y),),
            },
        )


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
    [[], [0, 0], [1, 1], [2, 2], [3, 3]],
]


@task(
    4,
    hints=(
        "When may a node be taken? What has to have happened to all that use it?",
        "Count for each node how often it is used. Taking a node lowers its parents' counts; at 0, a parent is ready.",
        "Two loops with a list and pop: one that walks everything and counts, one that starts with [root] and takes.",
    ),
)
def ordering(student):
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
            "A node comes before one that used it: its gradient would not be complete.",
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
    student.driver.length_of_chain(20_000).equals(
        20_000,
        instead={
            "The function calls itself for each node, and Python allows about 1,000 calls: use a loop and a list.": (
                raised("RecursionError")
            )
        },
    )


@task(
    5,
    hints=(
        "What is the gradient of the sum with respect to the root itself? And what if a node hands down to one twice?",
        "Root: ones. Then, in order, each node gives rule(node.gradient) to each parent, and the parent adds it up.",
        "parent.gradient = parent.gradient + rule(…), after all gradients have been set to zeros. Not +=.",
    ),
)
def walking(student):
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
            student.driver.gradients(program, leaves, times).equals(
                right,
                instead={
                    "No gradient was set.": lambda found: any(part is None for part in found),
                    "The gradients are all zero: begin with ones at the root.": lambda found: (
                        not any(map(np.any, found))
                    ),
                    "The walk does not begin with ones at the root.": lambda found: np.allclose(
                        found[0], central_differences(run, leaves, 0, run(*leaves))
                    ),
                    "The second call adds to what the first one left: begin anew each time.": lambda found: (
                        times == 2 and all(np.allclose(part, 2 * r) for part, r in zip(found, right, strict=True))
                    ),
                    "Two nodes share an array, and += changes it for both: make a new one, a = a + b.": lambda found: (
                        "plus" in program[-1]
                        and any(np.any(np.abs(part) > np.abs(r) + 1e-3) for part, r in zip(found, right, strict=True))
                    ),
                    "A node that is used twice keeps only one part of its gradient: add the parts up.": lambda found: (
                        any(np.any(np.abs(part) < np.abs(r) - 1e-3) for part, r in zip(found, right, strict=True))
                    ),
                },
                tolerance=1e-6,
            )
