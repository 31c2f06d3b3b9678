"""Runs beside the student's code: builds graphs and hands plain values back. There are no answers here.

The first line of each docstring is how a report shows the call.
"""


def rules_of(student, operation, arrays, g):
    """node = operation(*(Node(array) for array in arrays)); the rules of its edges, called with g"""
    leaves = [student.Node(array) for array in arrays]
    node = getattr(student, operation)(*leaves)
    found = {"value": node.array}
    for i, leaf in enumerate(leaves):
        parts = [rule(g) for parent, rule in node.edges if parent is leaf]
        found[f"gradient {i}"] = parts[0] if len(parts) == 1 else None
    return found


def order_of(student, parents):
    """in_order(the last node), as numbers, where node i came from the nodes parents[i]"""
    nodes = []
    for numbers in parents:
        nodes.append(student.Node(0.0, [(nodes[i], lambda g: g) for i in numbers]))
    return [nodes.index(node) for node in student.in_order(nodes[-1])]


def length_of_chain(student, length):
    """in_order of the end of a chain of nodes"""
    node = student.Node(0.0)
    for _ in range(length - 1):
        node = student.Node(0.0, [(node, lambda g: g)])
    return len(student.in_order(node))


def gradients(student, program, leaves, times=1):
    """the gradients of the leaves after backward(the last line of program); n0, n1, … are the leaves, then its lines

    plus(a, b) is an addition for arrays of one shape.
    """

    def plus(a, b):
        """For arrays of one shape. Both rules hand on the very array that they are given."""
        return student.Node(a.array + b.array, [(a, lambda g: g), (b, lambda g: g)])

    nodes = [student.Node(leaf) for leaf in leaves]
    count = len(nodes)
    for line in program:
        operation, *numbers = line.replace("(", " ").replace(")", "").replace(",", "").split()
        function = plus if operation == "plus" else getattr(student, operation)
        nodes.append(function(*(nodes[int(name[1:])] for name in numbers)))
    for _ in range(times):
        student.backward(nodes[-1])
    return [node.gradient for node in nodes[:count]]
