# Made from solution.py by `python -m lessons.build`. Write here, then: minilora check 02
# %% [markdown]
# # Lesson 02: autograd
#
# Five tasks, and at the end a machine that differentiates: undo broadcasting, operations with their rules, the order,
# and the walk. The reading is README.md beside this file. NumPy is all you need. `minilora check 02` says how far you
# are, `minilora check 02 --hint` helps.

# %%
from collections.abc import Callable

import numpy as np


class Node:
    """An array that remembers where it came from.

    edges: (parent, rule) pairs. A rule takes the gradient at this node, an array of this node's shape, and returns the
    part of it for that parent, an array of the parent's shape. gradient: what `backward` finds.
    """

    def __init__(self, array: np.ndarray, edges: list[tuple["Node", Callable]] | tuple = ()):
        self.array = np.asarray(array, dtype="float64")
        self.edges = list(edges)
        self.gradient: np.ndarray | None = None


# %% [markdown]
# ## Task 1: undo broadcasting
#
# In (3, 4) + (4,), the second array is used three times, once per row. A gradient for it adds up what its copies get.


# %%
def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum of `gradient` over the axes along which an array of `shape` was repeated. The result has that shape."""
    raise NotImplementedError("lesson 02, task 1: undo broadcasting")


# %% [markdown]
# Addition is done, to show how an operation looks: the value, and one rule per argument. d(a + b)/da is 1, so each gets
# the gradient as it is, summed to its shape.


# %%
def add(a: Node, b: Node) -> Node:
    """a + b, with broadcasting."""
    return Node(
        a.array + b.array,
        [(a, lambda g: unbroadcast(g, a.array.shape)), (b, lambda g: unbroadcast(g, b.array.shape))],
    )


# %% [markdown]
# ## Task 2: a product


# %%
def multiply(a: Node, b: Node) -> Node:
    """a * b, element by element, with broadcasting."""

    raise NotImplementedError("lesson 02, task 2: multiply, with both rules")


# %% [markdown]
# ## Task 3: a matrix product and a tanh
#
# For the matrix product, let the shapes tell you: the gradient is (n, m), a is (n, k), b is (k, m). There is one way to
# make a (n, k) of the gradient and b.


# %%
def matmul(a: Node, b: Node) -> Node:
    """a @ b, for a (n, k) and b (k, m)."""
    raise NotImplementedError("lesson 02, task 3: matmul and tanh, with their rules")


def tanh(a: Node) -> Node:
    """tanh(a), element by element."""
    raise NotImplementedError("lesson 02, task 3: matmul and tanh, with their rules")


# %% [markdown]
# ## Task 4: in which order?
#
# A node's gradient is complete when everything that used the node has handed down its part. So no node may come before
# one that used it. Graphs get long (20,000 nodes in a row must pass), and Python's functions may not call themselves
# that deep.


# %%
def in_order(root: Node) -> list[Node]:
    """Root and all nodes that it came from, each once, and each before all of its own parents. Nodes do not change."""
    raise NotImplementedError("lesson 02, task 4: put the nodes in order")


# %% [markdown]
# ## Task 5: backward
#
# Now the walk. A node that is used twice gets two parts. And a rule may return the very array that it was given, as
# those of `add` do, or a view of it: whoever changes that array in place changes another node's gradient as well.


# %%
def backward(root: Node) -> None:
    """Set `gradient` of root, and of all nodes that it came from, to the gradient of root.array.sum().

    Each is an array of the node's shape, also where it is all zeros. What a call before left there is not added to.
    """
    raise NotImplementedError("lesson 02, task 5: walk and add up")
