"""Answers to lesson 03 that the checks are tried on."""

from minilora.classroom import Mistake, Right

DESCENT = """
{before}
w = {start}
losses = []
for _ in range(steps):
    {first}
    error = x @ w - y
    losses.append({loss})
    w = w {sign} rate * {factor} * (x.T @ error)
return {result}
"""


def descent(
    before="x, y = from_host(x), from_host(y)",
    start="xp.zeros(x.shape[1])",
    first="pass",
    loss="xp.mean(error**2)",
    sign="-",
    factor="(2 / len(y))",
    result="to_host(w), to_host(xp.stack(losses))",
) -> str:
    """The code of fit, with one thing changed."""
    return DESCENT.format(before=before, start=start, first=first, loss=loss, sign=sign, factor=factor, result=result)


MISTAKES = [
    # Task 1
    Mistake(
        "use",
        "xp replaced",
        """
        global active, xp
        old, active = active, library
        xp = SimpleNamespace(**vars(library.functions))
        return old
        """,
        "another object now",
    ),
    Mistake(
        "use",
        "no global",
        """
        old = NUMPY if library is DEVICE else DEVICE
        active = library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        return old
        """,
        "`active` did not change",
    ),
    Mistake(
        "use",
        "read before it is set",
        """
        old, active = active, library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        return old
        """,
        "say `global active` first",
    ),
    Mistake(
        "use",
        "not cleared",
        """
        global active
        old, active = active, library
        vars(xp).update(vars(library.functions))
        return old
        """,
        "clear it first",
    ),
    Mistake(
        "use",
        "xp not filled",
        """
        global active
        old, active = active, library
        vars(xp).clear()
        return old
        """,
        "has not got the device's functions",
    ),
    Mistake(
        "use",
        "nothing returned",
        """
        global active
        active = library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        """,
        "Return the library that was in use before",
    ),
    Mistake(
        "use",
        "the new one returned",
        """
        global active
        active = library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        return active
        """,
        "That is the new library",
    ),
    Mistake(
        "use",
        "xp is the library's own",
        """
        global active, xp
        old, active, xp = active, library, library.functions
        return old
        """,
        "another object now",
    ),
    Mistake(
        "use",
        "nothing to do",
        """
        global active
        before = active
        if library is before:
            return before
        active = library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        return before
        """,
        "empty at the start",
    ),
    # Task 2
    Mistake("from_host", "not uploaded", "return np.asarray(a)", "NumPy array still"),
    Mistake(
        "from_host",
        "lists uploaded as they are",
        "return a if isinstance(a, active.array_type) else active.upload(a)",
        "make",
    ),
    Mistake("from_host", "uploaded in any case", "return active.upload(np.asarray(a))", "it is there already"),
    Mistake(
        "from_host",
        "by way of the host",
        "return active.upload(np.asarray(a if not hasattr(a, 'get') else a.get()))",
        "host and back",
    ),
    Mistake(
        "from_host",
        "copied on the device",
        "return a.copy() if isinstance(a, active.array_type) else active.upload(np.asarray(a))",
        "already was copied",
    ),
    Mistake(
        "from_host",
        "everything in float32",
        "return a if isinstance(a, active.array_type) else active.upload(np.asarray(a, dtype='float32'))",
        "dtype changed",
    ),
    Mistake(
        "from_host",
        "from memory",
        """
        kept = from_host.__dict__.setdefault("kept", {})
        if isinstance(a, active.array_type):
            return a
        if id(a) not in kept:
            kept[id(a)] = a, active.upload(np.asarray(a))
        return kept[id(a)][1]
        """,
        "kept",
    ),
    Mistake(
        "from_host",
        "two libraries",
        """
        if active is NUMPY:
            return np.asarray(a)
        return a if isinstance(a, device.DeviceArray) else device.upload(np.asarray(a))
        """,
        "A third library",
    ),
    Mistake(
        "from_host",
        "NumPy's numbers left out",
        "return active.upload(np.asarray(a)) if isinstance(a, (np.ndarray, list, int, float)) else a",
        "stayed what it is",
    ),
    Mistake("to_host", "by way of the device", "return active.download(from_host(a))", "to the device and back"),
    Mistake(
        "to_host", "get, if there is one", "return a.get() if hasattr(a, 'get') else np.asarray(a)", "third library"
    ),
    Mistake("to_host", "np.asarray", "return np.asarray(a)", "only `download` brings it"),
    Mistake("to_host", "get", "return a.get() if active is DEVICE else a", "has no .get"),
    Mistake(
        "to_host",
        "by a list",
        "return np.array(a.tolist()) if hasattr(a, 'tolist') else np.array(a)",
        "a list of numbers",
    ),
    Mistake("to_host", "a list", "return a.tolist() if hasattr(a, 'tolist') else a", "not a list or a number"),
    Mistake("to_host", "downloaded in any case", "return active.download(a)", "it is not downloaded"),
    Mistake("to_host", "not downloaded", "return a", "on the device still"),
    # Task 3
    Mistake(
        "softmax",
        "np.exp",
        """
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
        """,
        "use xp's functions",
    ),
    Mistake(
        "softmax",
        "np.max",
        """
        e = xp.exp(x - np.max(x, axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
        """,
        "use xp's functions",
    ),
    Mistake(
        "softmax",
        "no maximum",
        """
        e = xp.exp(x)
        return e / e.sum(axis=-1, keepdims=True)
        """,
        "overflows",
    ),
    Mistake(
        "softmax",
        "one maximum for all",
        """
        e = xp.exp(x - x.max())
        return e / e.sum(axis=-1, keepdims=True)
        """,
        "One maximum",
    ),
    Mistake(
        "softmax",
        "axis lost",
        """
        e = xp.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1)
        """,
        "keepdims=True keeps it",
    ),
    Mistake(
        "softmax",
        "wrong axis",
        """
        e = xp.exp(x - x.max(axis=0))
        return e / e.sum(axis=0)
        """,
        "first axis",
    ),
    Mistake(
        "softmax",
        "sum over all",
        """
        e = xp.exp(x - x.max())
        return e / e.sum()
        """,
        "over everything",
    ),
    Mistake("softmax", "not divided", "return xp.exp(x - x.max(axis=-1, keepdims=True))", "not divided"),
    Mistake(
        "softmax",
        "a loop over rows",
        """
        parts = [xp.exp(row - row.max()) for row in x]
        return xp.stack([part / part.sum() for part in parts])
        """,
        "A loop over the elements",
    ),
    Mistake(
        "softmax",
        "on the host",
        """
        x = to_host(x)
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return from_host(e / e.sum(axis=-1, keepdims=True))
        """,
        "host and back",
    ),
    Mistake(
        "softmax",
        "a number read",
        """
        e = xp.exp(x - x.max(axis=-1, keepdims=True))
        total = e.sum(axis=-1, keepdims=True)
        if (total <= 0).any():
            raise ValueError("no share is positive")
        return e / total
        """,
        "to read a number",
    ),
    Mistake(
        "softmax",
        "axis 1",
        """
        e = xp.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
        """,
        "along axis 1",
    ),
    Mistake(
        "softmax",
        "in the scores' dtype",
        """
        powers = xp.exp(x - x.max(axis=-1, keepdims=True))
        return (powers / powers.sum(axis=-1, keepdims=True)).astype(x.dtype)
        """,
        "cut to whole numbers",
    ),
    Mistake(
        "softmax",
        "a small number in the sum",
        """
        powers = xp.exp(x - x.max(axis=-1, keepdims=True))
        return powers / (powers.sum(axis=-1, keepdims=True) + 1e-6)
        """,
        "small number is added",
    ),
    Mistake(
        "softmax",
        "the largest magnitude",
        """
        powers = xp.exp(x - xp.abs(x).max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)
        """,
        "largest magnitude",
    ),
    # Task 4
    Mistake("rows", "unchecked", "return table[from_host(ids)]", "went through"),
    Mistake(
        "rows",
        "32 bits",
        """
        ids = np.asarray(ids).astype("int32")
        if ids.size and (ids.min() < 0 or ids.max() >= table.shape[0]):
            raise IndexError("id out of range")
        return table[from_host(ids)]
        """,
        "In 32 bits",
    ),
    Mistake(
        "rows",
        "negative ids",
        """
        ids = np.asarray(ids)
        if ids.size and ids.max() >= len(table):
            raise IndexError(ids.max())
        return table[from_host(ids)]
        """,
        "negative id",
    ),
    Mistake(
        "rows",
        "checked on the device",
        """
        ids = from_host(ids)
        if (ids < 0).any() or (ids >= len(table)).any():
            raise IndexError("out of range")
        return table[ids]
        """,
        "waits for the device",
    ),
    Mistake(
        "rows",
        "one too far",
        """
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() > len(table)):
            raise IndexError(ids.max())
        return table[from_host(ids)]
        """,
        "went through",
    ),
    Mistake(
        "rows",
        "one too few",
        """
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table) - 1):
            raise IndexError(ids.max())
        return table[from_host(ids)]
        """,
        "all lie in 0",
    ),
    Mistake(
        "rows",
        "ids stay on the host",
        """
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            raise IndexError(ids.max())
        return table[ids]
        """,
        "take the ids across",
    ),
    Mistake(
        "rows",
        "the table travels",
        """
        ids, values = np.asarray(ids), to_host(table)
        if ids.size and (ids.min() < 0 or ids.max() >= len(values)):
            raise IndexError(ids.max())
        return from_host(values[ids])
        """,
        "whole table travels",
    ),
    Mistake(
        "rows",
        "clipped",
        "return table[from_host(np.asarray(ids).clip(0, len(table) - 1))]",
        "not mended",
    ),
    Mistake(
        "rows",
        "ValueError",
        """
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            raise ValueError(ids.max())
        return table[from_host(ids)]
        """,
        "is IndexError",
    ),
    Mistake(
        "rows",
        "ids of 8 bits",
        """
        ids = np.asarray(ids).astype("uint8")
        if ids.size and ids.max() >= len(table) or np.any(np.asarray(ids) < 0):
            raise IndexError
        return table[from_host(ids)]
        """,
        "larger than 255",
    ),
    Mistake(
        "rows",
        "the smallest of none",
        """
        ids = np.asarray(ids)
        if ids.min() < 0 or ids.max() >= len(table):
            raise IndexError
        return table[from_host(ids)]
        """,
        "Of no ids",
    ),
    Mistake(
        "rows",
        "at least one axis",
        """
        ids = np.atleast_1d(ids).astype("int64")
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            raise IndexError
        return table[from_host(ids)]
        """,
        "The shape is (1,",
    ),
    Mistake(
        "rows",
        "an empty list",
        """
        ids = np.asarray(ids)
        if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
            raise IndexError
        return table[from_host(ids)]
        """,
        "array of floats",
    ),
    Mistake(
        "rows",
        "a product with ones and zeros",
        """
        ids, n = np.asarray(ids).astype("int64"), len(table)
        if ids.size and (ids.min() < 0 or ids.max() >= n):
            raise IndexError
        return from_host(np.eye(n)[ids]) @ table
        """,
        "nan, not",
    ),
    # Task 5
    Mistake(
        "normal_start",
        "the device's generator",
        "return xp.random.default_rng(seed).standard_normal(shape).astype('float32')",
        "device's own generator",
    ),
    Mistake(
        "normal_start",
        "not taken across",
        "return np.random.default_rng(seed).standard_normal(shape).astype('float32')",
        "on the host still",
    ),
    Mistake(
        "normal_start", "float64", "return from_host(np.random.default_rng(seed).standard_normal(shape))", "float64"
    ),
    Mistake(
        "normal_start",
        "drawn in float32",
        "return from_host(np.random.default_rng(seed).standard_normal(shape, dtype='float32'))",
        "from other bits",
    ),
    Mistake(
        "normal_start",
        "seed ignored",
        "return from_host(np.random.default_rng().standard_normal(shape).astype('float32'))",
        "with `seed`",
    ),
    Mistake(
        "normal_start",
        "uniform",
        "return from_host(np.random.default_rng(seed).random(shape).astype('float32'))",
        "uniform",
    ),
    Mistake(
        "normal_start",
        "the old generator",
        """
        np.random.seed(seed)
        return from_host(np.random.standard_normal(shape).astype("float32"))
        """,
        "old generator",
    ),
    Mistake(
        "normal_start",
        "row by row",
        """
        rng = np.random.default_rng(seed)
        rows = [rng.standard_normal(shape[1:]) for _ in range(shape[0])]
        return from_host(np.array(rows, dtype="float32"))
        """,
        "no axes",
    ),
    Mistake(
        "normal_start",
        "column by column",
        """
        numbers = np.random.default_rng(seed).standard_normal(int(np.prod(shape)))
        return from_host(numbers.reshape(shape, order="F").astype("float32"))
        """,
        "in another order",
    ),
    # Task 6
    Mistake(
        "fit",
        "float(loss)",
        descent(loss="float((error * error).mean())", result="to_host(w), np.array(losses)"),
        "waited for by itself",
    ),
    Mistake(
        "fit",
        "losses fetched one by one",
        descent(result="to_host(w), np.array([float(loss) for loss in losses])"),
        "waited for by itself",
    ),
    Mistake("fit", "NumPy's zeros", descent(start="np.zeros(x.shape[1])"), "meets a device array"),
    Mistake("fit", "data not taken across", descent(before="pass"), "meets a device array"),
    Mistake(
        "fit",
        "data taken across in each step",
        descent(before="x_host, y_host = x, y", first="x, y = from_host(x_host), from_host(y_host)"),
        "in each step",
    ),
    Mistake("fit", "nothing fetched", descent(result="w, xp.stack(losses)"), "fetch them after"),
    Mistake("fit", "a list of losses", descent(result="to_host(w), losses"), "stack them"),
    Mistake("fit", "sum", descent(loss="(error * error).sum()"), "it is to be the mean"),
    Mistake("fit", "factor 2", descent(factor="(1 / len(y))"), "factor 2"),
    Mistake("fit", "not divided", descent(factor="2"), "not divided by n"),
    Mistake("fit", "uphill", descent(sign="+"), "uphill"),
    Mistake(
        "fit",
        "loss after the step",
        """
        x, y = from_host(x), from_host(y)
        w, losses = xp.zeros(x.shape[1]), []
        for _ in range(steps):
            w = w - rate * 2 / len(y) * (x.T @ (x @ w - y))
            losses.append(((x @ w - y) ** 2).mean())
        return to_host(w), to_host(xp.stack(losses))
        """,
        "taken after the step",
    ),
    Mistake(
        "fit",
        "losses fetched before the last step ends",
        """
        x, y = from_host(x), from_host(y)
        w, losses = xp.zeros(x.shape[1]), []
        for step in range(steps):
            error = x @ w - y
            losses.append((error * error).mean())
            if step == steps - 1:
                found = to_host(xp.stack(losses))
            w = w - rate * 2 / len(y) * (x.T @ error)
        return to_host(w), found
        """,
        "before the last step",
    ),
    Mistake(
        "fit",
        "a whole quotient",
        descent(factor="(2 / len(y) if isinstance(rate, float) else 2 // len(y))"),
        "whole number",
    ),
    Mistake(
        "fit",
        "the wrong way on the device",
        descent(first="way = -1 if active is DEVICE and len(y) == 1 else 1", factor="2 * way / len(y)"),
        "a single row",
    ),
    Mistake(
        "use",
        "one name, one library",
        """
        global active
        before = active
        if vars(xp) and library.name == active.name:
            return before
        active = library
        vars(xp).clear()
        vars(xp).update(vars(library.functions))
        return before
        """,
        "same name, or functions, is another",
    ),
    Mistake(
        "use",
        "the same functions, the same library",
        """
        global active
        before = active
        if not vars(xp) or library.functions is not active.functions:
            active = library
            vars(xp).clear()
            vars(xp).update(vars(library.functions))
        return before
        """,
        "same name, or functions, is another",
    ),
]

RIGHT = [
    Right(
        "use",
        "name by name",
        """
        global active
        old = active
        for name in list(xp.__dict__):
            delattr(xp, name)
        for name, function in library.functions.__dict__.items():
            setattr(xp, name, function)
        active = library
        print("now", library.name)
        return old
        """,
    ),
    Right(
        "from_host",
        "xp.asarray",
        "return xp.asarray(a)",
        also=(("to_host", "return active.download(a) if type(a) is active.array_type else np.array(a, copy=None)"),),
    ),
    Right(
        "softmax",
        "functions in place of methods",
        """
        lowered = x - xp.max(x, axis=x.ndim - 1, keepdims=True)
        return xp.exp(lowered - xp.log(xp.sum(xp.exp(lowered), axis=-1, keepdims=True)))
        """,
    ),
    Right(
        "softmax",
        "CuPy's other names, and a loop that writes",
        """
        powers = xp.exp(xp.subtract(x, xp.amax(x, axis=-1, keepdims=True)))
        shares = xp.zeros(x.shape, dtype=powers.dtype)
        shares[...] = xp.divide(powers, xp.add(powers, 0).sum(axis=-1, keepdims=True))
        return shares
        """,
    ),
    Right(
        "rows",
        "take, and a set",
        """
        host = np.array(ids, dtype="int64")
        if not set(host.ravel().tolist()) <= set(range(len(table))):
            raise IndexError("no such row")
        return xp.take(table, from_host(host), axis=0)
        """,
    ),
    Right(
        "normal_start",
        "in float32 from the start",
        """
        rng = np.random.default_rng(seed)
        out = np.empty(shape, "float32")
        out[...] = rng.normal(size=shape)
        return from_host(out)
        """,
    ),
    Right(
        "fit",
        "losses in float64, concatenated",
        """
        xs, ys = map(from_host, (x, y))
        n, d = xs.shape
        w, losses = xp.zeros((d,)), []
        for _ in range(steps):
            error = xs.dot(w) - ys
            losses.append(error.dot(error).reshape(1) / n)
            w = w + xp.matmul(error, xs) * (-2 * rate / n)
        return to_host(w), to_host(xp.concatenate(losses))
        """,
    ),
    Right("fit", "a rate of Python's", descent(before="x, y, rate = from_host(x), from_host(y), float(rate)")),
    Right(
        "fit",
        "the rate taken across with x",
        """
        scaled = from_host(2 * rate / len(x) * x.T)
        x, y = from_host(x), from_host(y)
        w, losses = xp.zeros(x.shape[1]), []
        for _ in range(steps):
            error = x @ w - y
            losses.append((error * error).mean())
            w = w - scaled @ error
        return to_host(w), to_host(xp.stack(losses))
        """,
    ),
    Right(
        "fit",
        "losses from the errors, after w",
        """
        x, y = from_host(x), from_host(y)
        w, errors = xp.zeros(x.shape[1]), []
        for _ in range(steps):
            errors.append(x @ w - y)
            w = w - rate * 2 / len(y) * (x.T @ errors[-1])
        return to_host(w), to_host((xp.stack(errors) ** 2).mean(axis=1))
        """,
    ),
]
