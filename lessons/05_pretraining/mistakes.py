"""Answers to lesson 05 that the checks are tried on."""

from minilora.classroom import Mistake, Right


def loss(name: str, hint: str, *, logits="logits[:, :-1]", targets="ids[:, 1:]", each="", result="each.mean()"):
    code = f"""
        logits, targets = {logits}, {targets}
        row, place = np.indices(targets.shape)
        each = {each or "logits.logsumexp(axis=-1) - logits[row, place, targets]"}
        return {result}
        """
    return Mistake("next_token_loss", name, code, hint)


def rate(name: str, hint: str, *, up="peak * (step + 1) / warmup", progress="", down="", first="step < warmup"):
    code = f"""
        if {first}:
            return {up}
        progress = {progress or "(step - warmup) / (steps - warmup)"}
        return {down or "peak * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)"}
        """
    return Mistake("learning_rate", name, code, hint)


def adamw(name: str, hint: str, *, m="", v="", first="", mhat="", vhat="", new="", result="p, m, v") -> Mistake:
    code = f"""
        {first}
        m = {m or "betas[0] * m + (1 - betas[0]) * g"}
        v = {v or "betas[1] * v + (1 - betas[1]) * g**2"}
        mhat = {mhat or "m / (1 - betas[0] ** step)"}
        vhat = {vhat or "v / (1 - betas[1] ** step)"}
        p = {new or "p * (1 - lr * weight_decay) - lr * mhat / (np.sqrt(vhat) + eps)"}
        return {result}
        """
    return Mistake("adamw_step", name, code, hint)


LOOP = """
    params = [p for p in model.parameters() if p.requires_grad]
    m = [np.zeros(p.shape) for p in params]
    v = [np.zeros(p.shape) for p in params]
    losses = []
    for step in range(steps):
        ids = batches[step % len(batches)]
        loss = next_token_loss(model(ids), ids)
        loss.backward()
        losses.append(loss.item())
        lr = learning_rate(step, steps, peak=peak, warmup=warmup)
        for i, p in enumerate(params):
            wd = weight_decay if p.ndim == 2 else 0
            p.data, m[i], v[i] = adamw_step(p.data, p.grad, m[i], v[i], step + 1, lr, weight_decay=wd)
            p.grad = None
    return losses
    """


def loop(name: str, hint: str, *changes: tuple[str, str]) -> Mistake:
    code = LOOP
    for old, new in changes:
        assert old in code, old
        code = code.replace(old, new)
    return Mistake("train", name, code, hint)


def choice(name: str, hint: str, *, scaled="logits / temperature", cut="", result="p / p.sum()", zero="") -> Mistake:
    code = f"""
        if temperature == 0:
            {zero or "return np.eye(len(logits))[logits.argmax()]"}
        z = {scaled}
        p = np.exp(z - z.max())
        if top_k is not None:
            {cut or "p[np.argsort(-z)[top_k:]] = 0"}
        return {result}
        """
    return Mistake("next_token_probabilities", name, code, hint)


WRITE = """
    ids = prompt.tolist()
    for _ in range(count):
        logits = model(np.array([ids])).numpy()
        p = next_token_probabilities(logits[0, -1], temperature, top_k)
        ids.append(int(rng.choice(len(p), p=p)))
    return np.array(ids)
    """


def write(name: str, hint: str, *changes: tuple[str, str]) -> Mistake:
    code = WRITE
    for old, new in changes:
        assert old in code, old
        code = code.replace(old, new)
    return Mistake("generate", name, code, hint)


MISTAKES = [
    # Task 1
    loss("not shifted", "compared with itself", logits="logits", targets="ids"),
    loss("cut, not shifted", "compared with itself", targets="ids[:, :-1]"),
    loss("shifted the wrong way", "wrong way", logits="logits[:, 1:]", targets="ids[:, :-1]"),
    loss("rolled round", "last place is compared", logits="logits", targets="np.roll(ids, -1, axis=1)"),
    loss(
        "logits not cut",
        "last place has no next token",
        logits="logits",
        each="logits.logsumexp(axis=-1) - logits[row, place, targets]",
    ),
    loss("sum", "sum is taken", result="each.sum()"),
    loss("sum over texts", "by T or by B alone", result="each.sum() / len(ids)"),
    loss("all places counted", "divided by all", result="each.sum() / ids.size"),
    loss("sign", "sign is wrong", each="logits[row, place, targets] - logits.logsumexp(axis=-1)"),
    loss("bits", "in bits", result="each.mean() / np.log(2)"),
    loss("no softmax", "softmax is missing", each="-logits[row, place, targets]"),
    loss(
        "no logarithm", "logarithm is missing", each="-(logits[row, place, targets] - logits.logsumexp(axis=-1)).exp()"
    ),
    loss("no mean", "One number", result="each"),
    loss("overflow", "overflow", each="logits.exp().sum(axis=-1).log() - logits[row, place, targets]"),
    loss("NumPy's logarithm", "NumPy function", each="np.log(logits.exp().sum(axis=-1)) - logits[row, place, targets]"),
    loss("graph broken", "without .data", logits="Tensor(logits.numpy()[:, :-1])"),
    loss("the first 32 places", "wrong for a long one", logits="logits[:, :-1][:, :32]", targets="ids[:, 1:33]"),
    loss("the first 8 texts", "wrong for a long one", logits="logits[:8, :-1]", targets="ids[:8, 1:]"),
    loss("targets of 8 bits", "in too few bits", targets="ids[:, 1:].astype('uint8')"),
    loss(
        "places of 16 bits",
        "in too few bits",
        each="logits.logsumexp(axis=-1) - logits.reshape(-1)[(row * targets.shape[1] + place)"
        ".astype('int16') * np.int16(logits.shape[-1]) + targets]",
    ),
    loss("targets of 16 bits", "for one of 70,000", targets="ids[:, 1:].astype('int16')"),
    loss(
        "a flat index",
        "uint64 and int64",
        each="logits.logsumexp(axis=-1) - "
        "logits.reshape(-1)[(row * targets.shape[1] + place) * logits.shape[-1] + targets]",
    ),
    # Task 2
    rate("begins at 0", "does nothing", up="peak * step / warmup"),
    rate("no warm-up", "warm-up is missing", first="False", progress="max(0, step - warmup) / (steps - warmup)"),
    rate("up to the end", "ends after", first="step < warmup", up="peak * (step + 1) / steps"),
    rate("up from the floor", "starts at the floor", up="peak * (floor + (1 - floor) * (step + 1) / warmup)"),
    rate(
        "not times the peak",
        "multiplied by the peak",
        up="(step + 1) / warmup",
        down="(floor + (1 - floor) * (1 + cos(pi * progress)) / 2)",
    ),
    rate("progress from 0", "before the warm-up has ended", progress="step / steps"),
    rate("divided by steps", "divided by `steps`", progress="(step - warmup) / steps"),
    rate("floor on top", "on top", down="peak * (floor + (1 + cos(pi * progress)) / 2)"),
    rate("no floor", "floor is missing", down="peak * (1 + cos(pi * progress)) / 2"),
    rate("a whole cosine", "A whole cosine", down="peak * (floor + (1 - floor) * (1 + cos(2 * pi * progress)) / 2)"),
    rate("a quarter", "quarter of a cosine", down="peak * (floor + (1 - floor) * cos(pi / 2 * progress))"),
    rate("not halved", "add 1 and halve", down="peak * (floor + (1 - floor) * cos(pi * progress))"),
    rate("a line", "straight line", down="peak * (1 - (1 - floor) * progress)"),
    rate("upside down", "upside down", down="peak * (floor + (1 - floor) * (1 - cos(pi * progress)) / 2)"),
    rate("stays up", "stays at its peak", down="peak"),
    rate("floor not a share", "share of the peak", down="floor + (peak - floor) * (1 + cos(pi * progress)) / 2"),
    rate("divides by warmup", "do not divide", first="(step + 1) / warmup <= 1"),
    # Task 3
    adamw(
        "decay in the gradient",
        "added to the gradient",
        first="g = g + weight_decay * p",
        new="p - lr * mhat / (np.sqrt(vhat) + eps)",
    ),
    adamw("no decay", "do not decay", new="p - lr * mhat / (np.sqrt(vhat) + eps)"),
    adamw("decay without lr", "not scaled", new="p * (1 - weight_decay) - lr * mhat / (np.sqrt(vhat) + eps)"),
    adamw("betas exchanged", "betas are exchanged", first="betas = betas[::-1]"),
    adamw("whole gradient", "running mean", m="betas[0] * m + g"),
    adamw("not squared", "square", v="betas[1] * v + (1 - betas[1]) * np.abs(g)"),
    adamw("not corrected", "not corrected", mhat="m", vhat="v"),
    adamw("corrected by beta", "not 1 - beta", mhat="m / (1 - betas[0])", vhat="v / (1 - betas[1])"),
    adamw("only m corrected", "v is not corrected", vhat="v"),
    adamw("step plus 1", "nothing is to be added", first="step = step + 1"),
    adamw("no root", "root is missing", new="p * (1 - lr * weight_decay) - lr * mhat / (vhat + eps)"),
    adamw("eps inside", "outside the root", new="p * (1 - lr * weight_decay) - lr * mhat / np.sqrt(vhat + eps)"),
    adamw("uphill", "uphill", new="p * (1 - lr * weight_decay) + lr * mhat / (np.sqrt(vhat) + eps)"),
    adamw("gradient for m", "gradient itself", new="p * (1 - lr * weight_decay) - lr * g / (np.sqrt(vhat) + eps)"),
    adamw("corrected kept", "corrected means were returned", result="p, mhat, vhat"),
    adamw("p last", "in this order", result="m, v, p"),
    adamw("the change", "not the change", new="-lr * weight_decay * p - lr * mhat / (np.sqrt(vhat) + eps)"),
    adamw("p alone", "3 results", result="p"),
    adamw("passed over", "p is passed over", result="(p, m, v) if g.any() else (p / (1 - lr * weight_decay), m, v)"),
    adamw("no update", "p is passed over", first="if not g.any(): return p * (1 - lr * weight_decay), m * 1, v * 1"),
    adamw("no decay for zeros", "p is passed over", first="weight_decay = weight_decay * (g != 0)"),
    # Task 4
    loop("gradients kept", "set p.grad to None", ("p.grad = None", "pass")),
    loop("constant rate", "stays at its peak", ("learning_rate(step, steps, peak=peak, warmup=warmup)", "peak")),
    loop("no warm-up", "no warm-up", ("warmup=warmup", "warmup=0")),
    loop("rate from 1", "learning_rate counts", ("learning_rate(step,", "learning_rate(step + 1,")),
    loop("rate once", "for the last step only", ("learning_rate(step,", "learning_rate(steps - 1,")),
    loop("adamw from 0", "counts steps from 1", ("step + 1, lr", "step, lr")),
    loop("always step 1", "is told step 1", ("step + 1, lr", "1, lr")),
    loop("means dropped", "begin at zero in each", ("m[i], v[i] = adamw", "_, _ = adamw")),
    loop("vectors decay", "bias decays", ("weight_decay if p.ndim == 2 else 0", "weight_decay")),
    loop("matrices do not", "Vectors decay", ("if p.ndim == 2", "if p.ndim == 1")),
    loop("nothing decays", "Nothing decays", ("weight_decay if p.ndim == 2 else 0", "0")),
    loop("decay not handed on", "default", ("weight_decay if p.ndim == 2", "0.1 if p.ndim == 2")),
    loop("first batch only", "sees the first batch", ("batches[step % len(batches)]", "batches[0]")),
    loop("batches used up", "begin again", ("step % len(batches)", "step")),
    loop(
        "plain descent",
        "plain gradient descent",
        (
            "p.data, m[i], v[i] = adamw_step(p.data, p.grad, m[i], v[i], step + 1, lr, weight_decay=wd)",
            "p.data = p.data * (1 - lr * wd) - lr * p.grad",
        ),
    ),
    loop("not written back", "do not change", ("p.data, m[i]", "new, m[i]")),
    loop("frozen ones too", "frozen parameter", (" if p.requires_grad]", "]")),
    loop(
        "moved by a gradient from before",
        "left from before",
        (" if p.requires_grad]", "]"),
        ("            wd =", "            if p.grad is None:\n                continue\n            wd ="),
    ),
    loop(
        "narrow matrices do not decay",
        "single row or column",
        ("if p.ndim == 2", "if p.ndim == 2 and min(p.shape) > 1"),
    ),
    loop(
        "loss afterwards",
        "after the update",
        ("        losses.append(loss.item())\n", ""),
        ("    return", "        losses.append(next_token_loss(model(ids), ids).item())\n    return"),
    ),
    loop("no losses", "Return the losses", ("return losses", "return None")),
    loop("one pass", "one loss per step", ("range(steps)", "range(len(batches))")),
    loop("one m for all", "each parameter has its own", ("m[i]", "m[0]"), ("v[i]", "v[0]")),
    loop("zeros passed over", "was passed over", ("p.data, m[i], v[i] =", "if p.grad.any(): p.data, m[i], v[i] =")),
    loop("zeros do not decay", "was passed over", ("if p.ndim == 2", "if p.ndim == 2 and p.grad.any()")),
    loop(
        "windows of 32",
        "whatever T is",
        ("next_token_loss(model(ids), ids)", "next_token_loss(model(ids[:, :32]), ids[:, :32])"),
    ),
    loop(
        "cut into windows of 32",
        "whatever T is",
        ("loss = next", "ids = ids if ids.size % 32 else ids.reshape(-1, 32)\n        loss = next"),
    ),
    loop(
        "eight texts", "whatever B is", ("ids = batches[step % len(batches)]", "ids = batches[step % len(batches)][:8]")
    ),
    loop(
        "m and v kept with the model",
        "each call of train begins anew",
        (
            "m = [np.zeros(p.shape) for p in params]",
            "m = vars(train).setdefault(model, [np.zeros(p.shape) for p in params])",
        ),
        (
            "v = [np.zeros(p.shape) for p in params]",
            "v = vars(train).setdefault((model,), [np.zeros(p.shape) for p in params])",
        ),
    ),
    loop(
        "steps counted on",
        "each call of train begins anew",
        ("step + 1, lr", "done + step + 1, lr"),
        ("losses = []", "losses, done = [], vars(train).get(model, 0)\n    vars(train)[model] = done + steps"),
    ),
    # Task 5
    choice("multiplied", "multiplied by the temperature", scaled="logits * temperature"),
    choice("no temperature", "no effect", scaled="logits + 0"),
    choice(
        "temperature on probabilities",
        "probabilities are divided",
        scaled="logits + 0",
        result="p / p.sum() / temperature",
    ),
    choice("no top-k", "Top-k has no effect", cut="pass"),
    choice(
        "share lost",
        "share is lost",
        cut="p = np.where(np.isin(np.arange(len(p)), np.argsort(-z)[:top_k]), p, 0) / p.sum(); return p",
    ),
    choice("least likely", "least likely", cut="p[np.argsort(z)[top_k:]] = 0"),
    choice("logits to 0", "exp(0) is 1", cut="z[np.argsort(-z)[top_k:]] = 0; p = np.exp(z)"),
    choice("one too many", "too many", cut="p[np.argsort(-z)[top_k + 1 :]] = 0"),
    choice(
        "out of bounds",
        "larger than the vocabulary",
        cut="p[p < np.sort(p)[len(p) - 1 - (top_k - 1)] if top_k <= len(p) else p[top_k]] = 0",
    ),
    choice("by a threshold", "likely tokens all stay", cut="p[z < np.sort(z)[-min(top_k, len(z))]] = 0"),
    choice("all of the likeliest", "likely tokens all stay", zero="return 1.0 * (logits == logits.max())"),
    choice(
        "shared by the likeliest",
        "likely tokens all stay",
        zero="return (logits == logits.max()) / (logits == logits.max()).sum()",
    ),
    choice(
        "forbidden by -10000",
        "far below zero",
        cut="z[np.argsort(-logits)[top_k:]] = -1e4; p = np.exp(z - z.max())",
    ),
    choice("not divided", "no probabilities", result="p"),
    choice("zero not thought of", "divides by zero", zero="pass"),
    Mistake(
        "next_token_probabilities",
        "overflow",
        """
        if temperature == 0:
            return 1.0 * (logits == logits.max())
        p = np.exp(logits / temperature)
        p[np.argsort(-logits)[top_k:] if top_k else []] = 0
        return p / p.sum()
        """,
        "overflow",
    ),
    choice("temperature of at least 1e-6", "no small temperature", zero="temperature = 1e-6"),
    # Task 6
    write("last token alone", "last token alone", ("np.array([ids])", "np.array([ids[-1:]])")),
    write("prompt lost", "prompt is missing", ("np.array(ids)\n", "np.array(ids[len(prompt) :])\n")),
    write("first place", "wrong place", ("logits[0, -1]", "logits[0, 0]")),
    write("place before", "wrong place", ("logits[0, -1]", "logits[0, max(len(ids) - 2, 0)]")),
    write("one too many", "too many", ("range(count)", "range(count + 1)")),
    write("no batch axis", "(B, T)", ("np.array([ids])", "np.array(ids)")),
    write("greedy", "every time", ("rng.choice(len(p), p=p)", "p.argmax()")),
    write(
        "uniform",
        "equally often",
        (
            "temperature, top_k)",
            "temperature, top_k)\n        p = (p > 0) / (p > 0).sum() if temperature and p.max() < 0.9 else p",
        ),
    ),
    write("no temperature", "temperature does not reach", ("temperature, top_k)", "1.0, top_k)")),
    write("no top-k", "top_k does not reach", ("temperature, top_k)", "temperature)")),
    write("generator anew", "make the generator once", ("rng.choice", "np.random.default_rng(seed).choice")),
    write("unseeded", "same seed", ("rng.choice", "np.random.default_rng().choice")),
    write(
        "a seed of its own", "seed is not used", ("ids = prompt", "rng = np.random.default_rng(0)\n    ids = prompt")
    ),
    write("a window of 32", "some of the last tokens alone", ("np.array([ids])", "np.array([ids[-32:]])")),
    write("the first 32", "wrong in a long one", ("np.array([ids])", "np.array([ids[:32]])")),
    write("the last two", "some of the last tokens alone", ("np.array([ids])", "np.array([ids[-2:]])")),
    write("the last 128", "some of the last tokens alone", ("np.array([ids])", "np.array([ids[-128:]])")),
    write("the last 1024", "some of the last tokens alone", ("np.array([ids])", "np.array([ids[-1024:]])")),
    write("the first 1000", "wrong in a long one", ("np.array([ids])", "np.array([ids[:1000]])")),
    write(
        "16 bits, unsigned",
        "do not fit",
        ("return np.array(ids)", "return np.array(ids).astype('uint16' if prompt.itemsize == 2 else 'int64')"),
    ),
    write("16 bits", "do not fit", ("return np.array(ids)", 'return np.array(ids, dtype="int16")')),
    write("the prompt's dtype", "do not fit", ("return np.array(ids)", "return np.array(ids).astype(prompt.dtype)")),
    write("top-k of 50", "all tokens may", ("temperature, top_k)", "temperature, top_k or 50)")),
    write("frozen", "What trains has changed", ("ids = prompt", "model.requires_grad_(False)\n    ids = prompt")),
    write(
        "never recorded again",
        "no_grad() is still on",
        ("ids = prompt", "vars(generate)[0] = no_grad()\n    vars(generate)[0].__enter__()\n    ids = prompt"),
    ),
    # What got through
    Mistake(
        "learning_rate",
        "floor at the last step",
        """
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / max(steps - warmup - 1, 1)
        return peak * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)
        """,
        "one past the last step",
    ),
    Mistake(
        "learning_rate",
        "warm-up of at least one",
        """
        warmup = max(warmup, 1)
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / max(steps - warmup, 1)
        return peak * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)
        """,
        "warmup 0 is treated as 1",
    ),
    Mistake(
        "adamw_step",
        "means moved in place",
        """
        m += (1 - betas[0]) * (g - m)
        v += (1 - betas[1]) * (g * g - v)
        update = (m / (1 - betas[0] ** step)) / (np.sqrt(v / (1 - betas[1] ** step)) + eps)
        return p - lr * (weight_decay * p + update), m, v
        """,
        "changed its argument m",
    ),
    Mistake(
        "train",
        "moments by shape",
        """
        moments = {}
        losses = []
        for step in range(steps):
            ids = batches[step % len(batches)]
            loss = next_token_loss(model(ids), ids)
            loss.backward()
            losses.append(loss.item())
            lr = learning_rate(step, steps, warmup, peak)
            for p in model.parameters():
                if not p.requires_grad:
                    continue
                m, v = moments.get(p.shape, (np.zeros_like(p.data), np.zeros_like(p.data)))
                decay = weight_decay if p.ndim > 1 else 0.0
                p.data, m, v = adamw_step(p.data, p.grad, m, v, step + 1, lr, weight_decay=decay)
                moments[p.shape] = m, v
                p.grad = None
        return losses
        """,
        "its own m and v",
    ),
    Mistake(
        "train",
        "frozen ones get a gradient of zeros",
        """
        parameters = list(model.parameters())
        moments = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in parameters]
        losses = []
        for step in range(steps):
            ids = batches[step % len(batches)]
            loss = next_token_loss(model(ids), ids)
            loss.backward()
            losses.append(loss.item())
            lr = learning_rate(step, steps, warmup, peak)
            for i, p in enumerate(parameters):
                g = np.zeros_like(p.data) if p.grad is None else p.grad
                decay = weight_decay if p.ndim > 1 else 0.0
                p.data, *moments[i] = adamw_step(p.data, g, *moments[i], step + 1, lr, weight_decay=decay)
                p.grad = None
        return losses
        """,
        "does not decay either",
    ),
    Mistake(
        "train",
        "step count of at least 1",
        """
        learning = [p for p in model.parameters() if p.requires_grad]
        moments = [(np.zeros_like(p.data), np.zeros_like(p.data)) for p in learning]
        losses = []
        for step in range(steps):
            ids = batches[step % len(batches)]
            loss = next_token_loss(model(ids), ids)
            loss.backward()
            losses.append(loss.item())
            lr = learning_rate(step, steps, warmup, peak)
            for i, p in enumerate(learning):
                decay = weight_decay if p.ndim > 1 else 0.0
                p.data, *moments[i] = adamw_step(p.data, p.grad, *moments[i], max(step, 1), lr, weight_decay=decay)
                p.grad = None
        return losses
        """,
        "told 1 twice",
    ),
    Mistake(
        "next_token_probabilities",
        "a very small temperature for 0",
        """
        temperature = max(temperature, 1e-2)
        weights = np.exp((logits - logits.max()) / temperature)
        if top_k is not None:
            weights[np.argsort(-logits)[top_k:]] = 0
        return weights / weights.sum()
        """,
        "no small temperature",
    ),
    Mistake(
        "generate",
        "temperature twice",
        """
        ids = list(prompt)
        with no_grad():
            for _ in range(count):
                logits = model(np.array([ids])).numpy()[0, -1].astype("float64")
                if temperature > 0:
                    logits = logits / temperature
                p = next_token_probabilities(logits, temperature, top_k)
                ids.append(rng.choice(len(p), p=p))
        return np.array(ids)
        """,
        "applied twice",
    ),
]

RIGHT = [
    Right(
        "next_token_loss",
        "by one-hot vectors",
        """
        print("loss of", ids.shape)
        here = logits[:, :-1]
        one_hot = np.eye(logits.shape[-1])[ids[:, 1:]]
        log_p = here - here.logsumexp(axis=-1, keepdims=True)
        return -(log_p * one_hot).sum() / ids[:, 1:].size
        """,
    ),
    Right(
        "next_token_loss",
        "as a flat array",
        """
        size = logits.shape[-1]
        flat = logits[:, : ids.shape[1] - 1].reshape(-1, size)
        top = flat.max(axis=-1, keepdims=True)
        total = (flat - top).exp().sum(axis=-1).log() + top[:, 0]
        return (total - flat[np.arange(len(flat)), ids[:, 1:].reshape(-1)]).mean()
        """,
    ),
    Right(
        "learning_rate",
        "NumPy's numbers, <=",
        """
        if warmup and step <= warmup - 1:
            return np.float64(peak) * (step + 1) / warmup
        low = floor * peak
        return low + (peak - low) * np.cos(np.pi * (step - warmup) / (steps - warmup) / 2) ** 2
        """,
    ),
    Right(
        "adamw_step",
        "corrections moved into the rate, a list",
        """
        b1, b2 = betas
        m, v = m + (1 - b1) * (g - m), v + (1 - b2) * (np.square(g) - v)
        root = (1 - b2**step) ** 0.5
        new = p - lr * root / (1 - b1**step) * m / (np.sqrt(v) + eps * root)
        return [new - lr * weight_decay * p, m, v]
        """,
    ),
    Right(
        "train",
        "a dictionary of moments, a class of its own",
        """
        class Optimizer:
            def __init__(self):
                self.state = {}

            def step(self, lr, count):
                for name, p in model.named_parameters():
                    if p.grad is None:
                        continue
                    m, v = self.state.get(name, (0 * p.grad, 0 * p.grad))
                    wd = weight_decay * (len(p.shape) > 1)
                    p.data, m, v = adamw_step(p.data, p.grad, m, v, count, lr, weight_decay=wd)
                    self.state[name] = (m, v)

        optimizer, losses = Optimizer(), np.zeros(steps)
        for count in range(1, steps + 1):
            for p in model.parameters():
                p.grad = None
            ids = batches[(count - 1) % len(batches)]
            loss = next_token_loss(model(ids), ids)
            losses[count - 1] = float(loss)
            loss.backward()
            optimizer.step(learning_rate(count - 1, steps, warmup, peak), count)
        return losses
        """,
    ),
    Right(
        "next_token_probabilities",
        "the likeliest by their probabilities",
        """
        p = np.zeros(len(logits))
        if temperature == 0:
            p[logits.argmax()] = 1
            return p
        p = np.exp((logits - logits.max()) / temperature)
        p = p / p.sum()
        if top_k is not None:
            p[np.argsort(p)[::-1][top_k:]] = 0
        return p / p.sum()
        """,
    ),
    Right(
        "next_token_probabilities",
        "of the chosen alone",
        """
        order = np.argsort(logits, kind="stable")[::-1]
        best = order[: 1 if not temperature else top_k]
        z = (logits[best] - logits[best[0]]) / (temperature or 1)
        p = np.zeros(len(logits))
        p[best] = np.exp(z - np.log(np.exp(z).sum()))
        return p
        """,
    ),
    Right(
        "generate",
        "by cumulative sums, with gradients on",
        """
        text = np.array(prompt)
        while len(text) < len(prompt) + count:
            p = next_token_probabilities(model(text[None]).data[0][-1], temperature, top_k)
            token = np.searchsorted(np.cumsum(p) / np.sum(p), rng.random(), side="right")
            text = np.append(text, token)
        return text
        """,
    ),
]
