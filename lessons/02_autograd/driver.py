"""Runs beside the student's code: builds graphs and hands plain values back. There are no answers here.

The first line of each docstring is how a report shows the call.
"""


class Walked(list):
    """A node's edges that count how often any node's are looped over. Raises RuntimeError if it is far too often."""

    count = 0

    def __iter__(self):
        Walked.count += 1
        if Walked.count > 20_000:
            raise RuntimeError("the edges of 40 nodes were walked 20,000 times")
        return super().__iter__()


def rules_of(student, operation, arrays, g, is_same=False):
    """node = operation(*(Node(array) for array in arrays)); the rules of its edges, called with g"""
    leaves = [student.Node(array) for array in arrays]
    node = getattr(student, operation)(*(leaves[:1] * len(leaves) if is_same else leaves))
    facts = {"value": node.array.copy()}
    flow = g.copy()
    parts = [[rule(flow) for parent, rule in node.edges if parent is leaf] for leaf in leaves]
    for i, part in enumerate(parts[: 1 if is_same else None]):
        facts[f"gradient {i}"] = sum(part[1:], part[0]) if part else None
    facts["g afterwards"] = flow
    facts["arrays afterwards"] = [node.array, *(leaf.array for leaf in leaves)]
    return facts


def order_of(student, parents):
    """in_order(the last node), as numbers, where node i came from the nodes parents[i]"""
    nodes = []
    for numbers in parents:
        nodes.append(student.Node(0.0, [(nodes[i], lambda g: g) for i in numbers]))
    return numbers_of(nodes, student.in_order(nodes[-1]))


def numbers_of(nodes, order):
    """Return the indices in `nodes` of the nodes in `order`; -1 for any other node."""
    places = {id(node): i for i, node in enumerate(nodes)}
    return [places.get(id(node), -1) for node in order]


def orders_of(student, parents, is_again):
    """in_order(the last node); is_again: twice, and of the node before it; node i came from the nodes parents[i]"""
    nodes = []
    for numbers in parents:
        nodes.append(student.Node(0.0, [(nodes[i], lambda g: g) for i in numbers]))
        nodes[-1].gradient = nodes[-1].array + 1
    before = [dict(vars(node)) for node in nodes]
    facts = {"first": numbers_of(nodes, student.in_order(nodes[-1])), "parents": parents}
    if not is_again:
        return facts
    facts["nodes as before"] = [vars(node) for node in nodes] == before
    facts["again"] = numbers_of(nodes, student.in_order(nodes[-1]))
    facts["edges afterwards"] = [numbers_of(nodes, [parent for parent, _ in node.edges]) for node in nodes]
    return facts | {"of the node before": numbers_of(nodes, student.in_order(nodes[max(len(nodes) - 2, 0)]))}


def length_of_chain(student, length):
    """in_order of the end of a chain of nodes"""
    return len(student.in_order(chain(student, length)))


def chain(student, length):
    node = student.Node(0.0)
    for _ in range(length - 1):
        node = student.Node(0.0, [(node, lambda g: g)])
    return node


def doubled(student, function):
    """in_order or backward of x after x = add(x, x), 40 times"""
    Walked.count = 0
    first = node = student.Node(1.0)
    for _ in range(40):
        node = student.Node(node.array * 2, [(node, lambda g: g), (node, lambda g: g)])
        node.edges = Walked(node.edges)
    result = getattr(student, function)(node)
    return len(result) if function == "in_order" else first.gradient


def gradient_of_chain(student, length):
    """the gradient at the beginning of a chain of nodes, after backward(its end)"""
    node = end = chain(student, length)
    student.backward(end)
    while node.edges:
        node = node.edges[0][0]
    return node.gradient


def gradients(student, program, leaves, times=1):
    """the gradients of all nodes after backward(the last line of program); n0, n1, … are the leaves, then its lines

    plus(a, b) is an addition for arrays of one shape, flip(a) is a[::-1], thrice(a) is 3 a, by three edges.
    """
    nodes = run(student, program, leaves)
    for _ in range(times):
        student.backward(nodes[-1])
    return [node.gradient for node in nodes]


def run(student, program, leaves):
    def plus(a, b):
        """Add arrays of one shape. Both rules return the very gradient array that they get."""
        return student.Node(a.array + b.array, [(a, lambda g: g), (b, lambda g: g)])

    def flip(a):
        """Flip an array. The rule returns a view of the gradient that it gets."""
        return student.Node(a.array[::-1], [(a, lambda g: g[::-1])])

    def thrice(a):
        return student.Node(a.array * 3, 3 * [(a, lambda g: g)])

    own = {"plus": plus, "flip": flip, "thrice": thrice}
    nodes = [student.Node(leaf) for leaf in leaves]
    for line in program:
        operation, *numbers = line.replace("(", " ").replace(")", "").replace(",", "").split()
        function = own[operation] if operation in own else getattr(student, operation)
        nodes.append(function(*(nodes[int(name[1:])] for name in numbers)))
    return nodes


def walks(student, program, leaves, is_again):
    """backward(the last line of program); is_again: twice, with other gradients between, and of tanh(the last line)"""
    nodes = run(student, program, leaves)
    edges = [len(node.edges) for node in nodes]
    student.backward(nodes[-1])
    facts = {"gradients": copies(nodes)}
    if not is_again:
        return facts
    for node in nodes:
        node.gradient = node.array + 7
    student.backward(nodes[-1])
    facts["gradients of the second call"] = copies(nodes)
    facts["edges as before"] = [len(node.edges) for node in nodes] == edges
    nodes.append(student.tanh(nodes[-1]))
    student.backward(nodes[-1])
    facts["gradients after one more operation"] = copies(nodes)
    facts["arrays afterwards"] = [node.array for node in nodes]
    return facts


def copies(nodes):
    return [None if node.gradient is None else node.gradient.copy() for node in nodes]
