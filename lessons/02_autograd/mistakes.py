"""Answers to lesson 02 that the checks are tried on."""

from minilora.classroom import Mistake, Right


def both(rule_a: str, rule_b: str, value: str = "a.array * b.array") -> str:
    """The code of an operation of two arguments."""
    return f"return Node({value}, [(a, lambda g: {rule_a}), (b, lambda g: {rule_b})])"


WALK = """
order = in_order(root)
for node in order:
    node.gradient = np.zeros_like(node.array)
root.gradient = {start}
for node in {nodes}:
    for parent, rule in node.edges:
        {step}
"""


def walk(
    start="np.ones_like(root.array)", nodes="order", step="parent.gradient = parent.gradient + rule(node.gradient)"
):
    """The code of backward, with one thing changed."""
    return WALK.format(start=start, nodes=nodes, step=step)


MISTAKES = [
    # Task 1
    Mistake("unbroadcast", "nothing summed", "return gradient", "returned as it came"),
    Mistake(
        "unbroadcast",
        "only the axes in front",
        "return gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))",
        "Only the axes in front",
    ),
    Mistake(
        "unbroadcast",
        "axes lost",
        """
        extra = gradient.ndim - len(shape)
        ones = tuple(i + extra for i, n in enumerate(shape) if n == 1)
        return gradient.sum(axis=tuple(range(extra)) + ones)
        """,
        "keepdims",
    ),
    Mistake(
        "unbroadcast",
        "averaged",
        """
        gradient = gradient.mean(axis=tuple(range(gradient.ndim - len(shape))))
        return gradient.mean(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
        """,
        "averaged",
    ),
    Mistake(
        "unbroadcast",
        "first copy",
        """
        while gradient.ndim > len(shape):
            gradient = gradient[0]
        return gradient[tuple(slice(0, n) for n in shape)]
        """,
        "One copy's",
    ),
    Mistake(
        "unbroadcast",
        "only the axes of size 1",
        """
        extra = gradient.ndim - len(shape)
        return gradient.sum(axis=tuple(i + extra for i, n in enumerate(shape) if n == 1), keepdims=True)
        """,
        "returned as it came",
    ),
    Mistake(
        "unbroadcast",
        "by reshape",
        "return gradient.reshape(-1, *shape).sum(axis=0)",
        "in wrong groups",
    ),
    Mistake(
        "unbroadcast",
        "in float32",
        """
        extra = gradient.ndim - len(shape)
        ones = tuple(i + extra for i, n in enumerate(shape) if n == 1)
        return gradient.sum(axis=tuple(range(extra)) + ones, dtype="float32", keepdims=True).reshape(shape)
        """,
        "seven digits",
    ),
    Mistake(
        "unbroadcast",
        "nan left out",
        """
        extra = gradient.ndim - len(shape)
        ones = tuple(i + extra for i, n in enumerate(shape) if n == 1)
        return np.nansum(gradient, axis=tuple(range(extra)) + ones, keepdims=True).reshape(shape)
        """,
        "nan in it is nan",
    ),
    # Task 2
    Mistake(
        "multiply",
        "wrong factor",
        both("unbroadcast(g * a.array, a.array.shape)", "unbroadcast(g * b.array, b.array.shape)"),
        "wrong way round",
    ),
    Mistake("multiply", "not unbroadcast", both("g * b.array", "g * a.array"), "unbroadcast it"),
    Mistake("multiply", "g ignored", both("b.array", "a.array"), "does not use g"),
    Mistake(
        "multiply",
        "addition's rules",
        both("unbroadcast(g, a.array.shape)", "unbroadcast(g, b.array.shape)"),
        "addition's rule",
    ),
    Mistake(
        "multiply",
        "one edge",
        "return Node(a.array * b.array, [(a, lambda g: unbroadcast(g * b.array, a.array.shape))])",
        "edge is missing",
    ),
    Mistake(
        "multiply",
        "added",
        both("unbroadcast(g, a.array.shape)", "unbroadcast(g, b.array.shape)", "a.array + b.array"),
        "That is the sum",
    ),
    Mistake(
        "multiply",
        "one part where both are one node",
        """
        if a is b:
            return Node(a.array**2, [(a, lambda g: g * a.array)])
        edges = [(x, lambda g, x=x, y=y: unbroadcast(g * y.array, x.array.shape)) for x, y in ((a, b), (b, a))]
        return Node(a.array * b.array, edges)
        """,
        "a part for each",
    ),
    Mistake(
        "multiply",
        "in place",
        """
        def rule(g, by, shape):
            g *= by
            return unbroadcast(g, shape)
        one, other = a.array, b.array
        return Node(one * other, [(a, lambda g: rule(g, other, one.shape)), (b, lambda g: rule(g, one, other.shape))])
        """,
        "A rule changes g",
    ),
    # Task 3
    Mistake("matmul", "wrong side", both("b.array.T @ g", "g @ a.array.T", "a.array @ b.array"), "commute"),
    Mistake("matmul", "not transposed", both("g @ b.array", "a.array @ g", "a.array @ b.array"), "to be transposed"),
    Mistake("matmul", "exchanged", both("a.array.T @ g", "g @ b.array.T", "a.array @ b.array"), "exchanged"),
    Mistake("matmul", "elements", both("g * b.array", "g * a.array", "a.array @ b.array"), "product of elements"),
    Mistake(
        "tanh", "of the argument", "return Node(np.tanh(a.array), [(a, lambda g: g * (1 - a.array**2))])", "not its"
    ),
    Mistake("tanh", "g ignored", "return Node(np.tanh(a.array), [(a, lambda g: 1 - np.tanh(a.array) ** 2)])", "use g"),
    Mistake(
        "tanh", "not squared", "return Node(np.tanh(a.array), [(a, lambda g: g * (1 - np.tanh(a.array)))])", "squared"
    ),
    Mistake("tanh", "1 / cosh", "return Node(np.tanh(a.array), [(a, lambda g: g / np.cosh(a.array))])", "cosh²"),
    Mistake(
        "tanh",
        "from exponentials",
        """
        up, down = np.exp(a.array), np.exp(-a.array)
        y = (up - down) / (up + down)
        return Node(y, [(a, lambda g: g * (1 - y**2))])
        """,
        "exp overflows",
    ),
    # Task 4
    Mistake(
        "in_order",
        "recursion",
        """
        order = []
        def visit(node):
            if node not in order:
                for parent, _ in node.edges:
                    visit(parent)
                order.append(node)
        visit(root)
        return order[::-1]
        """,
        "calls itself",
    ),
    Mistake(
        "in_order",
        "leaves first",
        """
        users, ready, order = {root: 0}, [root], []
        see = [root]
        while see:
            for parent, _ in see.pop().edges:
                if parent not in users:
                    users[parent] = 0
                    see.append(parent)
                users[parent] += 1
        while ready:
            node = ready.pop()
            order.append(node)
            for parent, _ in node.edges:
                users[parent] -= 1
                if not users[parent]:
                    ready.append(parent)
        return order[::-1]
        """,
        "other way round",
    ),
    Mistake(
        "in_order",
        "breadth first",
        """
        order = [root]
        for node in order:
            for parent, _ in node.edges:
                if parent not in order:
                    order.append(parent)
        return order
        """,
        "before one that used it",
    ),
    Mistake(
        "in_order",
        "twice",
        """
        order, ready = [], [root]
        while ready:
            node = ready.pop()
            order.append(node)
            ready += [parent for parent, _ in node.edges]
        return order
        """,
        "more than once",
    ),
    Mistake(
        "in_order",
        "no root",
        """
        order, ready = [], [root]
        while ready:
            for parent, _ in ready.pop().edges:
                order.append(parent)
                ready.append(parent)
        return order
        """,
        "root is missing",
    ),
    Mistake("in_order", "one step", "return [root, *dict.fromkeys(parent for parent, _ in root.edges)]", "are missing"),
    Mistake(
        "in_order",
        "each path",
        """
        order, stack = {}, [root]
        while stack:
            node = stack.pop()
            order.pop(node, None)
            order[node] = True
            stack += [parent for parent, _ in node.edges]
        return list(order)
        """,
        "Every path is walked",
    ),
    Mistake(
        "in_order",
        "marks that stay",
        """
        done, stack = [], [(root, False)]
        while stack:
            node, is_left = stack.pop()
            if is_left:
                done.append(node)
            elif not hasattr(node, "seen"):
                node.seen = True
                stack.append((node, True))
                stack += [(parent, False) for parent, _ in node.edges]
        return done[::-1]
        """,
        "second in_order",
    ),
    Mistake(
        "in_order",
        "counts in the nodes",
        """
        order = [root]
        for node in order:
            order += [parent for parent in dict.fromkeys(p for p, _ in node.edges) if parent not in order]
        for node in order:
            node.gradient = 0
        for node in order:
            for parent, _ in node.edges:
                parent.gradient += 1
        found = [root]
        for node in found:
            for parent, _ in node.edges:
                parent.gradient -= 1
                if parent.gradient == 0:
                    found.append(parent)
        for node in order:
            node.gradient = None
        return found
        """,
        "The nodes change",
    ),
    # Task 5
    Mistake("backward", "overwritten", walk(step="parent.gradient = rule(node.gradient)"), "keeps only one part"),
    Mistake(
        "backward",
        "in place, into a shared array",
        """
        order = in_order(root)
        for node in order:
            node.gradient = None
        root.gradient = np.ones_like(root.array)
        for node in order:
            for parent, rule in node.edges:
                part = rule(node.gradient)
                if parent.gradient is None:
                    parent.gradient = part
                else:
                    parent.gradient += part
        """,
        "share an array",
    ),
    Mistake(
        "backward",
        "in place, into a view",
        """
        order = in_order(root)
        for node in order:
            node.gradient = None
        root.gradient = np.ones_like(root.array)
        for node in order:
            for parent, rule in node.edges:
                part = rule(node.gradient)
                if parent.gradient is None:
                    parent.gradient = part.copy() if part is node.gradient else part
                else:
                    parent.gradient += part
        """,
        "return a view",
    ),
    Mistake(
        "backward",
        "zeros passed over",
        """
        order = in_order(root)
        for node in order:
            node.gradient = None
        root.gradient = np.ones_like(root.array)
        for node in order:
            for parent, rule in node.edges if node.gradient is not None and node.gradient.any() else ():
                part = rule(node.gradient)
                parent.gradient = part if parent.gradient is None else parent.gradient + part
        """,
        "all zeros is passed over",
    ),
    Mistake(
        "backward",
        "in float32",
        walk(step="parent.gradient = np.float32(parent.gradient + rule(node.gradient))"),
        "seven digits",
    ),
    Mistake(
        "backward",
        "a number at a root without axes",
        walk(start="np.ones_like(root.array) if root.array.ndim else 1.0"),
        "an array of the root's shape",
    ),
    Mistake(
        "backward",
        "edges gone where there are many",
        walk().rstrip() + "\n    if len(node.edges) > 2:\n        node.edges = []\n",
        "the graph stays",
    ),
    Mistake("backward", "zeros at the root", walk(start="np.zeros_like(root.array)"), "begin with ones"),
    Mistake("backward", "the value at the root", walk(start="root.array"), "does not begin with ones"),
    Mistake("backward", "wrong direction", walk(nodes="order[::-1]"), "keeps only one part"),
    Mistake(
        "backward",
        "adds to the call before",
        """
        order = in_order(root)
        for node in order:
            if node.gradient is None:
                node.gradient = np.zeros_like(node.array)
            elif node.edges:
                node.gradient = np.zeros_like(node.array)
        root.gradient = np.ones_like(root.array)
        for node in order:
            for parent, rule in node.edges:
                parent.gradient = parent.gradient + rule(node.gradient)
        """,
        "begin anew",
    ),
    Mistake("backward", "a number at the root", walk(start="np.float64(1)"), "an array of the root's shape"),
    Mistake("backward", "a Python number at the root", walk(start="1.0"), "an array of the root's shape"),
    Mistake("backward", "the graph taken apart", walk().rstrip() + "\n    node.edges = []\n", "the graph stays"),
    Mistake("backward", "nothing kept", "gradients = {node: 0 for node in in_order(root)}", "No gradient was set"),
    Mistake(
        "in_order",
        "a depth that is not passed on",
        """
        depth, queue = {root: 0}, [root]
        for node in queue:
            for parent, _ in node.edges:
                if parent not in depth:
                    queue.append(parent)
                depth[parent] = max(depth.get(parent, 0), depth[node] + 1)
        return sorted(depth, key=depth.get)
        """,
        "before one that used it",
    ),
]

RIGHT = [
    Right(
        "multiply",
        "one edge for a square",
        """
        if a is b:
            return Node(np.square(a.array), [(a, lambda g: 2 * a.array * g)])
        pairs = ((a, b.array), (b, a.array))
        edges = [(n, lambda g, n=n, factor=factor: unbroadcast(factor * g, n.array.shape)) for n, factor in pairs]
        return Node(a.array * b.array, edges)
        """,
    ),
    Right(
        "unbroadcast",
        "axis by axis",
        """
        while np.ndim(gradient) > len(shape):
            gradient = np.add.reduce(gradient)
        for axis in range(len(shape)):
            if shape[axis] == 1 and gradient.shape[axis] != 1:
                gradient = np.expand_dims(np.sum(gradient, axis), axis)
        return gradient
        """,
    ),
    Right(
        "multiply",
        "in a loop, with prints",
        """
        print("multiply", a.array.shape, b.array.shape)
        edges = []
        for this, other in ((a, b), (b, a)):
            edges.append((this, lambda g, t=this, o=other: unbroadcast(o.array * g, t.array.shape)))
        return Node(np.multiply(a.array, b.array), tuple(edges))
        """,
    ),
    Right(
        "matmul",
        "einsum",
        """
        x, w = a.array, b.array
        return Node(
            x.dot(w), [(b, lambda d: np.einsum("nk,nm->km", x, d)), (a, lambda d: np.einsum("nm,km->nk", d, w))]
        )
        """,
        also=(("tanh", "return Node(np.tanh(a.array), [(a, lambda g: g / np.cosh(a.array) ** 2)])"),),
    ),
    Right(
        "in_order",
        "depth first, with a list",
        """
        done, seen, stack = [], set(), [(root, False)]
        while stack:
            node, parents_are_done = stack.pop()
            if parents_are_done:
                done.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((parent, False) for parent, _ in node.edges)
        done.reverse()
        return done
        """,
    ),
    Right(
        "backward",
        "a dictionary on the side",
        """
        parts = {root: [np.ones(root.array.shape)]}
        for node in in_order(root):
            node.gradient = np.sum(parts[node], axis=0)
            for parent, rule in node.edges:
                parts.setdefault(parent, []).append(rule(node.gradient))
        """,
    ),
]
