"""Wrong answers that people really give, each with the hint it must get, and odd ones that are right."""

from minilora.classroom import Mistake, Right

RING = """
n = len(buffers)
pieces = [np.array_split(buffer, n) for buffer in buffers]
for step in range({steps}):
    for rank in range(n):
        target, piece = (rank + 1) % n, {piece}
        arrived = send(rank, target, pieces[rank][piece])
        {then}
return [np.concatenate(own) for own in pieces]
"""
ADD_OR_REPLACE = "pieces[target][piece] = pieces[target][piece] + arrived if step < n - 1 else arrived"

STEP = """
gradients, counts, losses = [], [], []
for rank, replica in enumerate(replicas):
    own_x, own = shard(x, rank, len(replicas)), shard(targets, rank, len(replicas))
    {forget}
    loss = F.cross_entropy(replica(own_x), own)
    loss.backward()
    gradients.append({{name: p.grad for name, p in replica.named_parameters() {which}}})
    counts.append({count})
    losses.append(loss.item())
averages = average(gradients, counts, send)
for rank, replica in enumerate(replicas):
    for name, p in replica.named_parameters():
        {assign}
    {step}
return {loss}
"""


def step_with(**changes: str) -> str:
    usual = {
        "forget": "optimizers[rank].zero_grad()",
        "which": "",
        "count": "int(np.sum(own != -100))",
        "assign": "p.grad = averages[rank][name]",
        "step": "optimizers[rank].step()",
        "loss": "sum(c * one for c, one in zip(counts, losses)) / sum(counts)",
    }
    return STEP.format(**usual | changes)


def flat_by(key: str) -> str:
    """flatten, with another key to sort by."""
    names = f"names = sorted(gradients, key=lambda name: {key})"
    return f"{names}\nreturn np.concatenate([gradients[n].reshape(-1) for n in names if gradients[n] is not None])"


MISTAKES = [
    # Task 1
    Mistake("shard", "the whole batch", "return batch", "whole batch"),
    Mistake(
        "shard",
        "the rest lost",
        """
        if len(batch) < size:
            raise ValueError
        each = len(batch) // size
        return batch[rank * each : (rank + 1) * each]
        """,
        "Rows are lost",
    ),
    Mistake(
        "shard",
        "the rest to the last",
        """
        if len(batch) < size:
            raise ValueError
        each = len(batch) // size
        return batch[rank * each :] if rank == size - 1 else batch[rank * each : (rank + 1) * each]
        """,
        "went to one rank",
    ),
    Mistake(
        "shard",
        "rounded up",
        """
        if len(batch) < size:
            raise ValueError
        each = -(-len(batch) // size)
        return batch[rank * each : (rank + 1) * each]
        """,
        "rounded up",
    ),
    Mistake(
        "shard",
        "counted from 1",
        """
        each = len(batch) // size
        return batch[(rank - 1) * each : rank * each]
        """,
        "ranks count from 0",
    ),
    Mistake(
        "shard",
        "the ends overlap",
        "return batch[rank * len(batch) // size : (rank + 1) * len(batch) // size + 1]",
        "taken twice",
    ),
    Mistake("shard", "columns", "return np.array_split(batch, size, axis=-1)[rank]", "Columns were cut"),
    Mistake(
        "shard",
        "refused where a rank has none",
        """
        rows = np.array_split(batch, size)[rank]
        if len(rows) == 0:
            raise ValueError
        return rows
        """,
        "would have a row",
    ),
    Mistake(
        "shard",
        "refused where the rank's card is missing",
        "if len(batch) <= rank:\n    raise ValueError\nreturn batch[rank::size]",
        "would have a row",
    ),
    Mistake("shard", "too few rows let through", "return np.array_split(batch, size)[rank]", "must be refused"),
    Mistake(
        "shard",
        "shuffled by the inputs",
        """
        if len(batch) < size:
            raise ValueError
        return batch[np.random.default_rng(batch.size).permutation(len(batch))[rank::size]]
        """,
        "rows' numbers alone",
    ),
    Mistake(
        "shard",
        "numbers counted",
        """
        if np.size(batch) < size:
            raise ValueError("too few")
        return np.array_split(batch, size)[rank]
        """,
        "16 numbers in 2 rows",
    ),
    Mistake(
        "shard",
        "by what counts",
        """
        if len(batch) < size:
            raise ValueError("too few")
        counting = (np.reshape(batch, (len(batch), -1)) != -100).sum(axis=1)
        return batch[np.argsort(-counting, kind="stable")[rank::size]]
        """,
        "Targets go to another rank",
    ),
    Mistake(
        "shard",
        "drawn anew each time",
        """
        if len(batch) < size:
            raise ValueError("too few")
        return batch[np.random.permutation(len(batch))[rank::size]]
        """,
        "Asked again",
    ),
    # Task 2
    Mistake(
        "flatten",
        "the dictionary's order",
        "return np.concatenate([g.reshape(-1) for g in gradients.values() if g is not None])",
        "may have filled its own in another",
    ),
    Mistake(
        "flatten",
        "None not left out",
        "return np.concatenate([gradients[name].reshape(-1) for name in sorted(gradients)])",
        "None takes no place",
    ),
    Mistake(
        "flatten",
        "zeros for what is frozen",
        "return np.concatenate([np.zeros(1, 'float32') if gradients[name] is None else gradients[name].reshape(-1) "
        "for name in sorted(gradients)])",
        "not even a zero",
    ),
    Mistake(
        "flatten",
        "in float64",
        """
        buffer = np.zeros(0)
        for name in sorted(gradients):
            if gradients[name] is not None:
                buffer = np.append(buffer, gradients[name])
        return buffer
        """,
        "twice the bytes",
    ),
    Mistake(
        "flatten",
        "column after column",
        "return np.concatenate([gradients[n].ravel('F') for n in sorted(gradients) if gradients[n] is not None])",
        "row after row",
    ),
    Mistake(
        "flatten",
        "matrices alone",
        """
        there = [name for name in sorted(gradients) if gradients[name] is not None]
        matrices = [name for name in there if gradients[name].ndim > 1] or there
        return np.concatenate([gradients[name].reshape(-1) for name in matrices])
        """,
        "vectors belong",
    ),
    Mistake(
        "unflatten",
        "the dictionary's order",
        """
        found, start = {}, 0
        for name, array in like.items():
            found[name] = None if array is None else buffer[start : start + array.size].reshape(array.shape)
            start += 0 if array is None else array.size
        return found
        """,
        "the order that flatten has",
    ),
    Mistake(
        "unflatten",
        "left flat",
        """
        found, start = dict.fromkeys(like), 0
        for name in sorted(like):
            if like[name] is not None:
                found[name] = buffer[start : start + like[name].size]
                start += like[name].size
        return found
        """,
        "give each its shape",
    ),
    Mistake(
        "unflatten",
        "always from the start",
        "return {n: None if a is None else buffer[: a.size].reshape(a.shape) for n, a in like.items()}",
        "go on by its size",
    ),
    Mistake(
        "unflatten",
        "what is frozen left out",
        """
        found, start = {}, 0
        for name in sorted(like):
            if like[name] is not None:
                found[name] = buffer[start : start + like[name].size].reshape(like[name].shape)
                start += like[name].size
        return found
        """,
        "None in `like` is None here",
    ),
    Mistake(
        "flatten",
        "as it lies in memory",
        "return np.concatenate([gradients[n].ravel('K') for n in sorted(gradients) if gradients[n] is not None])",
        "lies in memory column after column",
    ),
    Mistake(
        "flatten",
        "one array as it is",
        """
        flat = [gradients[n].reshape(-1) for n in sorted(gradients) if gradients[n] is not None]
        return flat[0] if len(flat) == 1 else np.concatenate(flat)
        """,
        "shares memory with gradients",
    ),
    Mistake(
        "unflatten",
        "vectors and matrices alone",
        """
        found, start = dict.fromkeys(like), 0
        for name in sorted(like):
            if like[name] is not None:
                numbers = len(like[name]) * (like[name].shape[1] if like[name].ndim > 1 else 1)
                found[name] = buffer[start : start + numbers].reshape(like[name].shape)
                start += numbers
        return found
        """,
        "any number of axes",
    ),
    # Task 3
    Mistake("all_reduce", "added up in one place", "return [sum(buffers)] * len(buffers)", "Nothing went through send"),
    Mistake(
        "all_reduce",
        "the answer of send not used",
        """
        for rank in range(len(buffers)):
            for _ in range(2 * (len(buffers) - 1)):
                send(rank, (rank + 1) % len(buffers), buffers[rank][: len(buffers[rank]) // len(buffers)])
        return [sum(buffers) for _ in buffers]
        """,
        "What send returned was not used",
    ),
    Mistake(
        "all_reduce",
        "whole buffers around the ring",
        """
        n = len(buffers)
        sums, moving = list(buffers), list(buffers)
        for step in range(n - 1):
            moving = [send((rank - 1) % n, rank, moving[rank - 1]) for rank in range(n)]
            sums = [own + arrived for own, arrived in zip(sums, moving)]
        return [own.copy() for own in sums]
        """,
        "let sums travel",
    ),
    Mistake(
        "all_reduce",
        "filled up with float64",
        """
        n, length = len(buffers), len(buffers[0])
        size = -(-length // n)
        filled = [np.concatenate([buffer, np.zeros(n * size - length)]) for buffer in buffers]
        pieces = [list(buffer.reshape(n, size)) for buffer in filled]
        for step in range(2 * (n - 1)):
            for rank in range(n):
                target, piece = (rank + 1) % n, (rank - step) % n
                arrived = send(rank, target, pieces[rank][piece])
                pieces[target][piece] = pieces[target][piece] + arrived if step < n - 1 else arrived
        return [np.concatenate(own)[:length] for own in pieces]
        """,
        "became float64",
    ),
    Mistake(
        "all_reduce",
        "all to rank 0 and back",
        """
        total = buffers[0]
        for rank in range(1, len(buffers)):
            total = total + send(rank, 0, buffers[rank])
        return [total + 0] + [send(0, rank, total) for rank in range(1, len(buffers))]
        """,
        "goes through one rank",
    ),
    Mistake(
        "all_reduce",
        "the first round alone",
        RING.format(
            steps="n - 1", piece="(rank - step) % n", then="pieces[target][piece] = pieces[target][piece] + arrived"
        ),
        "second round must hand the sums on",
    ),
    Mistake(
        "all_reduce",
        "added in both rounds",
        RING.format(
            steps="2 * (n - 1)",
            piece="(rank - step) % n",
            then="pieces[target][piece] = pieces[target][piece] + arrived",
        ),
        "added more than once",
    ),
    Mistake(
        "all_reduce",
        "the same piece in each step",
        RING.format(steps="2 * (n - 1)", piece="rank", then=ADD_OR_REPLACE),
        "never added",
    ),
    Mistake(
        "all_reduce",
        "written into the views",
        RING.format(
            steps="2 * (n - 1)",
            piece="(rank - step) % n",
            then="pieces[target][piece][...] = arrived + (pieces[target][piece] if step < n - 1 else 0)",
        ),
        "changed in place",
    ),
    Mistake(
        "all_reduce",
        "pieces of one size",
        RING.format(steps="2 * (n - 1)", piece="(rank - step) % n", then=ADD_OR_REPLACE).replace(
            "np.array_split(", "np.split("
        ),
        "allows a rest",
    ),
    Mistake(
        "all_reduce",
        "divided already",
        RING.format(steps="2 * (n - 1)", piece="(rank - step) % n", then=ADD_OR_REPLACE).replace(
            "np.concatenate(own)", "np.concatenate(own) / n"
        ),
        "dividing comes later",
    ),
    Mistake(
        "all_reduce",
        "each piece added up by everybody",
        """
        n, sums = len(buffers), []
        for rank in range(n):
            total = buffers[rank] + 0
            for other in range(1, n):
                source = (rank + other) % n
                pieces = [send(source, rank, piece) for piece in np.array_split(buffers[source], n)]
                total = total + np.concatenate(pieces)
            sums.append(total)
        return sums
        """,
        "let sums travel",
    ),
    Mistake(
        "all_reduce",
        "float32 for all",
        RING.format(steps="2 * (n - 1)", piece="(rank - step) % n", then=ADD_OR_REPLACE)
        .replace("array_split(buffer, n)", "array_split(buffer.astype('float32'), n)")
        .replace("[np.concatenate(own) for own", "[np.concatenate(own).astype(buffers[0].dtype) for own"),
        "Digits are lost",
    ),
    Mistake(
        "all_reduce",
        "sent in float32",
        RING.format(steps="2 * (n - 1)", piece="(rank - step) % n", then=ADD_OR_REPLACE).replace(
            "pieces[rank][piece])", "pieces[rank][piece].astype('float32')).astype(buffers[0].dtype)"
        ),
        "Digits are lost",
    ),
    Mistake(
        "all_reduce",
        "each rank adds its own last",
        """
        n = len(buffers)
        cuts = [len(buffers[0]) * i // n for i in range(n + 1)]
        results = [buffer.copy() for buffer in buffers]
        for owner in range(n):
            part = slice(cuts[owner], cuts[owner + 1])
            others = [send(other, owner, buffers[other][part]) for other in range(n) if other != owner]
            total = buffers[owner][part] + sum(others)
            for rank in range(n):
                back = total if rank == owner else send(owner, rank, total)
                results[rank][part] = buffers[rank][part] + (back - buffers[rank][part])
        return results
        """,
        "differ in their last bits",
    ),
    Mistake("all_reduce", "the first rank's alone", "return sum(buffers)", "a buffer for each rank"),
    Mistake(
        "all_reduce",
        "read from the others in the second round",
        """
        n = len(buffers)
        pieces = [np.array_split(buffer, n) for buffer in buffers]
        for step in range(n - 1):
            for rank in range(n):
                target, piece = (rank + 1) % n, (rank - step) % n
                pieces[target][piece] = pieces[target][piece] + send(rank, target, pieces[rank][piece])
        finished = [pieces[(piece - 1) % n][piece] for piece in range(n)]
        for step in range(n - 1):
            for rank in range(n):
                send(rank, (rank + 1) % n, finished[(rank + 1 - step) % n])
        return [np.concatenate(finished) for _ in range(n)]
        """,
        "What send returned was not used",
    ),
    Mistake(
        "all_reduce",
        "alone, the same array",
        "if len(buffers) == 1:\n    return list(buffers)\n"
        + RING.format(steps="2 * (n - 1)", piece="(rank - step) % n", then=ADD_OR_REPLACE),
        "shares memory with buffers",
    ),
    # Task 4
    Mistake(
        "average",
        "a mean of means",
        """
        sums = all_reduce([flatten(own) for own in gradients], send)
        return [unflatten(total / len(counts), own) for total, own in zip(sums, gradients)]
        """,
        "mean of the ranks' means",
    ),
    Mistake(
        "average",
        "summed and left",
        "return [unflatten(s, own) for s, own in zip(all_reduce([flatten(g) for g in gradients], send), gradients)]",
        "These are sums",
    ),
    Mistake(
        "average",
        "multiplied, not divided",
        """
        sums = all_reduce([flatten(own) * count for own, count in zip(gradients, counts)], send)
        return [unflatten(total, own) for total, own in zip(sums, gradients)]
        """,
        "not divided by their sum",
    ),
    Mistake(
        "average",
        "divided, not multiplied",
        """
        sums = all_reduce([flatten(own) for own in gradients], send)
        return [unflatten(total / sum(counts), own) for total, own in zip(sums, gradients)]
        """,
        "not multiplied by each rank's own count",
    ),
    Mistake(
        "average",
        "divided once more",
        """
        buffers = [flatten(own) * (count / sum(counts)) for own, count in zip(gradients, counts)]
        return [unflatten(s / len(counts), own) for s, own in zip(all_reduce(buffers, send), gradients)]
        """,
        "Divided once too often",
    ),
    Mistake(
        "average",
        "scaled too late",
        """
        sums = all_reduce([flatten(own) for own in gradients], send)
        return [unflatten(s * (count / sum(counts)), own) for s, count, own in zip(sums, counts, gradients)]
        """,
        "scale before adding up",
    ),
    Mistake(
        "average",
        "upside down",
        """
        buffers = [flatten(own) * (sum(counts) / max(count, 1)) for own, count in zip(gradients, counts)]
        return [unflatten(s, own) for s, own in zip(all_reduce(buffers, send), gradients)]
        """,
        "upside down",
    ),
    Mistake(
        "average",
        "shares as an array",
        """
        shares = np.array(counts) / np.sum(counts)
        buffers = [flatten(own) * share for own, share in zip(gradients, shares)]
        return [unflatten(s, own) for s, own in zip(all_reduce(buffers, send), gradients)]
        """,
        "have become float64",
    ),
    Mistake(
        "average",
        "a message for each gradient",
        """
        shares, found = [count / sum(counts) for count in counts], [dict(own) for own in gradients]
        for name in sorted(gradients[0]):
            if gradients[0][name] is not None:
                parts = [own[name].reshape(-1) * share for own, share in zip(gradients, shares)]
                for own, total in zip(found, all_reduce(parts, send)):
                    own[name] = total.reshape(own[name].shape)
        return found
        """,
        "put them all into one buffer",
    ),
    Mistake("average", "nothing sent", "return gradients", "the rank's own gradient"),
    Mistake(
        "average",
        "one for all",
        """
        buffers = [flatten(own) * (count / sum(counts)) for own, count in zip(gradients, counts)]
        return unflatten(all_reduce(buffers, send)[0], gradients[0])
        """,
        "a dictionary of its own",
    ),
    Mistake(
        "average",
        "each by its own count",
        """
        sums = all_reduce([flatten(own) * count for own, count in zip(gradients, counts)], send)
        return [unflatten(s / max(count, 1), own) for s, own, count in zip(sums, gradients, counts)]
        """,
        "divided by its own count",
    ),
    Mistake(
        "average",
        "weighed where they are",
        """
        for own, count in zip(gradients, counts):
            for g in own.values():
                if g is not None:
                    g *= count / sum(counts)
        return [unflatten(s, own) for s, own in zip(all_reduce(list(map(flatten, gradients)), send), gradients)]
        """,
        "changed its argument gradients",
    ),
    # Task 5
    Mistake(
        "train_step", "only the first steps", step_with(step="if rank == 0: optimizers[rank].step()"), "did not move"
    ),
    Mistake("train_step", "averages not used", step_with(assign="pass"), "its own gradient"),
    Mistake("train_step", "every replica counts alike", step_with(count="1"), "mean of means"),
    Mistake("train_step", "rows counted", step_with(count="len(own)"), "rows were counted"),
    Mistake(
        "train_step",
        "rows counted where they have one target",
        step_with(count="int(np.sum(own != -100)) if own.ndim > 1 else len(own)"),
        "rows were counted",
    ),
    Mistake(
        "train_step",
        "vectors forgotten",
        step_with(assign="p.grad = averages[rank][name] if p.ndim > 1 else p.grad"),
        "others are not",
    ),
    Mistake("train_step", "gradients not forgotten", step_with(forget="pass"), "call zero_grad"),
    Mistake("train_step", "a mean of losses", step_with(loss="sum(losses) / len(losses)"), "weigh by the counts"),
    Mistake("train_step", "the first rank's loss", step_with(loss="losses[0]"), "loss of one rank"),
    Mistake("train_step", "a Tensor for a loss", step_with(loss="loss"), "loss.item()"),
    Mistake(
        "train_step",
        "gradients summed",
        step_with(assign="p.grad = None if p.grad is None else sum(g[name] for g in gradients)"),
        "a sum of the ranks' gradients",
    ),
    Mistake(
        "train_step",
        "each reads everything",
        step_with().replace("shard(x, rank, len(replicas)), shard(targets, rank, len(replicas))", "x, targets"),
        "nothing is gained",
    ),
    Mistake(
        "train_step",
        "weights averaged",
        """
        counts, losses = [], []
        for rank, replica in enumerate(replicas):
            own = shard(targets, rank, len(replicas))
            optimizers[rank].zero_grad()
            loss = F.cross_entropy(replica(shard(x, rank, len(replicas))), own)
            loss.backward()
            optimizers[rank].step()
            losses.append(loss.item())
            counts.append(int((own != -100).sum()))
        states = [{name: p.data for name, p in replica.named_parameters()} for replica in replicas]
        for replica, averaged in zip(replicas, average(states, counts, send)):
            for name, p in replica.named_parameters():
                p.data = averaged[name]
        return sum(c * one for c, one in zip(counts, losses)) / sum(counts)
        """,
        "the weights were averaged",
    ),
    Mistake(
        "train_step",
        "nothing sent",
        step_with().replace(
            "average(gradients, counts, send)",
            "average(gradients, counts, lambda source, target, numbers: numbers)",
        ),
        "Nothing went through send",
    ),
    Mistake("train_step", "class 0 left out", step_with(count="int(np.sum(own > 0))"), "Class 0 is a target"),
    Mistake(
        "train_step",
        "forgotten afterwards",
        step_with(forget="pass", step="optimizers[rank].step(); optimizers[rank].zero_grad()"),
        "from before the call",
    ),
    Mistake(
        "train_step",
        "one optimizer for all",
        step_with(step="optimizers[0].step() if rank == 0 else replica.load_state_dict(replicas[0].state_dict())"),
        "must step once",
    ),
    # Task 6
    Mistake(
        "step_seconds",
        "bytes for bits",
        "return compute / ranks + 2 * (ranks - 1) * (latency + nbytes / ranks / bandwidth)",
        "a byte has 8.",
    ),
    Mistake(
        "step_seconds",
        "divided by 8",
        "return compute / ranks + 2 * (ranks - 1) * (latency + nbytes / 8 / ranks / bandwidth)",
        "divided by 8",
    ),
    Mistake(
        "step_seconds",
        "the whole buffer each time",
        "return compute / ranks + 2 * (ranks - 1) * (latency + 8 * nbytes / bandwidth)",
        "1/n of it",
    ),
    Mistake(
        "step_seconds",
        "one round",
        "return compute / ranks + (ranks - 1) * (latency + 8 * nbytes / ranks / bandwidth)",
        "one round",
    ),
    Mistake(
        "step_seconds",
        "latency once",
        "return compute / ranks + latency * (ranks > 1) + 2 * (ranks - 1) * 8 * nbytes / ranks / bandwidth",
        "not once",
    ),
    Mistake(
        "step_seconds",
        "latency alone too",
        "return compute / ranks + latency + 2 * (ranks - 1) * 8 * nbytes / ranks / bandwidth",
        "sends nothing",
    ),
    Mistake(
        "step_seconds",
        "no latency",
        "return compute / ranks + 2 * (ranks - 1) * 8 * nbytes / ranks / bandwidth",
        "latency is missing",
    ),
    Mistake(
        "step_seconds",
        "computing not shared",
        "return compute + 2 * (ranks - 1) * (latency + 8 * nbytes / ranks / bandwidth)",
        "divide it by the ranks",
    ),
    Mistake("best_ranks", "the more the better", "return most", "not always faster"),
    Mistake(
        "step_seconds",
        "whole bytes",
        "return compute / ranks + 2 * (ranks - 1) * (latency + 8 * -(-nbytes // ranks) / bandwidth)",
        "nothing is rounded",
    ),
    Mistake(
        "best_ranks",
        "powers of two",
        """
        tried = [2**k for k in range(20) if 2**k <= most]
        return min(tried, key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))
        """,
        "Only powers of two",
    ),
    Mistake(
        "best_ranks",
        "every fourth beyond 256",
        """
        tried = [*range(1, min(most, 256) + 1), *range(260, most + 1, 4)]
        return min(tried, key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))
        """,
        "compare all from 1 to",
    ),
    Mistake(
        "best_ranks",
        "a thousand at most",
        """
        return min(range(1, min(most, 1000) + 1), key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))
        """,
        "compare all from 1 to",
    ),
    Mistake(
        "best_ranks",
        "its time",
        "return min(step_seconds(compute, nbytes, n, bandwidth, latency) for n in range(1, most + 1))",
        "number of ranks is asked for",
    ),
    Mistake(
        "best_ranks",
        "the end left out",
        "return min(range(1, most), key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))",
        "stops before its end",
    ),
    Mistake(
        "best_ranks",
        "place for number",
        "return int(np.argmin([step_seconds(compute, nbytes, n, bandwidth, latency) for n in range(1, most + 1)]))",
        "at place 0 is one rank",
    ),
    Mistake(
        "best_ranks",
        "never alone",
        "return min(range(2, most + 1), key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))",
        "One rank is a choice",
    ),
    Mistake(
        "best_ranks",
        "the largest of equal ones",
        "return min(range(most, 0, -1), key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))",
        "Of equal ones the smallest",
    ),
    Mistake(
        "best_ranks",
        "the longest",
        "return max(range(1, most + 1), key=lambda n: step_seconds(compute, nbytes, n, bandwidth, latency))",
        "longest step",
    ),
    Mistake(
        "shard",
        "places cut in floats",
        """
        if len(batch) < size:
            raise ValueError
        each = len(batch) / size
        return batch[int(rank * each) : int((rank + 1) * each)]
        """,
        "Rows are lost",
    ),
    Mistake("flatten", "sorted by numbers", flat_by("(name.split('.')[0], len(name), name)"), "layers.10 comes before"),
    Mistake("flatten", "sorted without case", flat_by("name.lower()"), "Capital letters come first"),
    Mistake("flatten", "sorted by last parts", flat_by("name.split('.')[-1]"), "not their last parts"),
    Mistake(
        "unflatten",
        "of the other dtype",
        """
        found, place = {}, 0
        for name in sorted(like):
            old = like[name]
            size = 0 if old is None else old.size
            found[name] = None if old is None else buffer[place : place + size].reshape(old.shape).astype(old.dtype)
            place += size
        return found
        """,
        "The dtype is",
    ),
    Mistake(
        "average",
        "counts that are nearly equal",
        """
        is_equal = max(counts) <= 1.1 * min(counts)
        shares = [1 / len(counts) if is_equal else count / sum(counts) for count in counts]
        buffers = [flatten(own) * share for own, share in zip(gradients, shares)]
        return [unflatten(buffer, own) for buffer, own in zip(all_reduce(buffers, send), gradients)]
        """,
        "nearly equal are not equal",
    ),
    Mistake(
        "average",
        "counts of 8 bits",
        """
        total = int(np.array(counts, dtype="uint8").sum(dtype="uint8"))
        buffers = [flatten(own) * (count / total) for own, count in zip(gradients, counts)]
        return [unflatten(buffer, own) for buffer, own in zip(all_reduce(buffers, send), gradients)]
        """,
        "differ",
    ),
    Mistake(
        "train_step",
        "left in evaluation mode",
        step_with(forget="optimizers[rank].zero_grad(); replica.eval()"),
        "left a model in another mode",
    ),
    Mistake(
        "train_step",
        "put into training mode",
        step_with(forget="optimizers[rank].zero_grad(); replica.train()"),
        "left a model in another mode",
    ),
    Mistake(
        "train_step",
        "evaluation mode for a while",
        "modes = [replica.training for replica in replicas]"
        + step_with(forget="optimizers[rank].zero_grad(); replica.eval()").replace(
            "averages =", "[replica.train(mode) for replica, mode in zip(replicas, modes)]\naverages ="
        ),
        "not for a while either",
    ),
    Mistake(
        "train_step",
        "all of it trains",
        step_with(step="replica.requires_grad_(); optimizers[rank].step()"),
        "what is frozen stays frozen",
    ),
    Mistake(
        "best_ranks",
        "nearly equal times",
        """
        times = [step_seconds(compute, nbytes, n, bandwidth, latency) for n in range(1, most + 1)]
        return 1 + next(n for n, seconds in enumerate(times) if np.isclose(seconds, min(times)))
        """,
        "Times that are nearly equal",
    ),
    Mistake(
        "best_ranks",
        "microseconds",
        """
        return min(
            range(1, most + 1), key=lambda n: round(step_seconds(compute, nbytes, n, bandwidth, latency), 6)
        )
        """,
        "Times that are nearly equal",
    ),
]

RIGHT = [
    Right(
        "all_reduce",
        "filled up to equal pieces",
        """
        n, size = len(buffers), buffers[0].size
        per = -(-size // n)
        rows = []
        for buffer in buffers:
            own = np.zeros((n, per), dtype=buffer.dtype)
            own.reshape(-1)[:size] = buffer
            rows.append(own)
        for step in range(2 * n - 2):
            mail = [send(rank, (rank + 1) % n, rows[rank][(rank - step) % n].copy()) for rank in range(n)]
            for source, numbers in enumerate(mail):
                place = rows[(source + 1) % n][(source - step) % n]
                place[:] = place + numbers if step < n - 1 else numbers
        return [own.reshape(-1)[:size].copy() for own in rows]
        """,
    ),
    Right(
        "shard",
        "dealt out like cards",
        """
        print("shard", rank, size)
        if size > batch.shape[0]:
            raise ValueError("too few rows")
        return batch[rank::size]
        """,
    ),
    Right(
        "shard",
        "the first ranks take one more",
        "if len(batch) < size:\n    raise ValueError\nreturn np.array_split(batch, size)[rank]",
    ),
    Right(
        "flatten",
        "filled in place",
        """
        there = sorted(name for name, array in gradients.items() if array is not None)
        sizes = [gradients[name].size for name in there]
        buffer, end = np.empty(sum(sizes), gradients[there[0]].dtype), 0
        for name, size in zip(there, sizes):
            buffer[end : end + size] = gradients[name].ravel()
            end += size
        return buffer
        """,
        also=(
            (
                "unflatten",
                """
                there = sorted(name for name, array in like.items() if array is not None)
                parts = np.split(buffer, np.cumsum([like[name].size for name in there])[:-1])
                found = {name: part.reshape(like[name].shape) for name, part in zip(there, parts)}
                return {**{name: None for name in like}, **found}
                """,
            ),
        ),
    ),
    Right(
        "all_reduce",
        "each piece has an owner, who adds up and sends to all",
        """
        n = len(buffers)
        cuts = [len(buffers[0]) * i // n for i in range(n + 1)]
        results = [np.zeros_like(buffer) for buffer in buffers]
        for owner in range(n):
            part = slice(cuts[owner], cuts[owner + 1])
            total = np.array(buffers[owner][part])
            for other in range(n):
                if other != owner:
                    total += send(other, owner, buffers[other][part])
            for other in range(n):
                results[other][part] = total if other == owner else send(owner, other, total)
        return tuple(results)
        """,
    ),
    Right(
        "all_reduce",
        "two rounds, the other way round the ring",
        """
        n = len(buffers)
        pieces = [[piece.copy() for piece in np.array_split(buffer, n)] for buffer in buffers]
        for step in range(n - 1):
            for rank in range(n):
                to, k = (rank - 1) % n, (rank + step) % n
                pieces[to][k] += send(rank, to, pieces[rank][k])
        for step in range(n - 1):
            for rank in range(n):
                to, k = (rank - 1) % n, (rank - 1 + step) % n
                pieces[to][k] = send(rank, to, pieces[rank][k])
        return [np.concatenate(own) for own in pieces]
        """,
    ),
    Right(
        "average",
        "the counts travel along",
        """
        flat = [flatten(g) for g in gradients]
        buffers = [np.append(own * c, c).astype(own.dtype) for own, c in zip(flat, counts)]
        sums = all_reduce(buffers, send)
        return [unflatten(s[:-1] / s[-1], g) for s, g in zip(sums, gradients)]
        """,
    ),
    Right(
        "train_step",
        "the graph summed, other names",
        """
        total = int(np.sum(np.asarray(targets) != -100))
        found, mine, value = [], [], 0.0
        for i, model in enumerate(replicas):
            rows, labels = shard(x, i, len(replicas)), shard(targets, i, len(replicas))
            n = np.count_nonzero(labels != -100)
            for p in model.parameters():
                p.grad = None
            mean = F.cross_entropy(model(rows), labels)
            mean.backward()
            value += float(mean.numpy()) * n / total
            found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
            mine.append(int(n))
        for model, own, best in zip(replicas, optimizers, average(found, mine, send)):
            for name, gradient in best.items():
                dict(model.named_parameters())[name].grad = gradient
            own.step()
        return value
        """,
    ),
    Right(
        "step_seconds",
        "both rounds, piece by piece",
        """
        time = compute / ranks
        for _ in ("add", "hand on"):
            for step in range(1, ranks):
                time += latency + nbytes * 8 / ranks / bandwidth
        return time
        """,
    ),
    Right(
        "best_ranks",
        "uphill is the end",
        """
        n = 1
        while n < most and step_seconds(compute, nbytes, n + 1, bandwidth, latency) < step_seconds(
            compute, nbytes, n, bandwidth, latency
        ):
            n += 1
        return np.int64(n)
        """,
    ),
]
