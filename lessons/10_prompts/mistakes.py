"""Answers to lesson 10 that the checks are tried on."""

from minilora.classroom import Mistake, Right

SEEN = """
B, T = real.shape
own = np.tril(np.ones((T, T), dtype=bool)) & (real[:, None, :] == 1)
front = np.ones((B, T, P), dtype=bool)
mask = np.concatenate([front, own], axis=2)
positions = P + real.cumsum(axis=1) - 1
"""
GIVE = """
return mask, positions
"""
FROZEN = """
self.model = model.requires_grad_(False)
"""
TABLE = """
table = model.model.embed_tokens.weight.data
"""
READ = """
rows = self.prompt.broadcast_to((len(ids), *self.prompt.shape))
x = ops.concatenate([rows, self.model.model.embed_tokens(ids)], axis=1)
logits = self.model.lm_head(self.model.model(inputs_embeds=x))
"""
JOIN = """
rows, P = len(q), prefix_k.shape[1]
keys = ops.concatenate([prefix_k.broadcast_to((rows, *prefix_k.shape)), k], axis=2)
values = ops.concatenate([prefix_v.broadcast_to((rows, *prefix_v.shape)), v], axis=2)
"""
WEIGH = """
scores = q @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
weights = F.softmax(ops.where(mask[:, None], scores, -1e9), axis=-1)
"""
SHARES = """
return weights @ values, weights[..., :P].sum(axis=-1)
"""
FIRSTS = """
first_k = self.keys[layer].broadcast_to((len(k), *self.keys.shape[1:]))
first_v = self.values[layer].broadcast_to((len(v), *self.values.shape[1:]))
"""
HOLD = """
self.model = model.requires_grad_(False)
self.keys, self.values = nn.Parameter(keys), nn.Parameter(values)
"""
EXTEND = """
ones = np.ones((len(ids), self.keys.shape[2]), dtype=int)
mask = None if real is None else np.concatenate([ones, real], axis=1)
"""
ASK = """
return self.model(ids, mask, past_key_values=PrefixCache(self.keys, self.values)).logits
"""
LISTEN = """
recorder = Recorder()
with no_grad():
    model(np.array([token_ids]), past_key_values=recorder)
"""

MISTAKES = [
    # Task 1
    Mistake(
        "few_shot_prompt",
        "space at the end",
        """
        return "".join(f"{s}\\nTopic: {t}\\n\\n" for s, t in shots) + f"{text}\\nTopic: "
        """,
        "a space at the end",
    ),
    Mistake(
        "few_shot_prompt",
        "line ended",
        """
        return "".join(f"{s}\\nTopic: {t}\\n\\n" for s, t in shots) + f"{text}\\nTopic:\\n"
        """,
        "on the same line",
    ),
    Mistake(
        "few_shot_prompt",
        "no empty lines",
        """
        return "".join(f"{s}\\nTopic: {t}\\n" for s, t in shots) + f"{text}\\nTopic:"
        """,
        "empty line",
    ),
    Mistake(
        "few_shot_prompt",
        "text first",
        """
        return f"{text}\\nTopic:\\n\\n" + "".join(f"{s}\\nTopic: {t}\\n\\n" for s, t in shots)
        """,
        "come last",
    ),
    Mistake("few_shot_prompt", "no shots", 'return f"{text}\\nTopic:"', "shots are missing"),
    Mistake(
        "few_shot_prompt",
        "no topics",
        """
        return "".join(f"{s}\\nTopic:\\n\\n" for s, _ in shots) + f"{text}\\nTopic:"
        """,
        "shows its topic",
    ),
    Mistake(
        "few_shot_prompt",
        "question left out",
        """
        return "".join(f"{s}\\nTopic: {t}\\n\\n" for s, t in shots) + text
        """,
        "question is missing",
    ),
    Mistake(
        "few_shot_prompt",
        "no space before a topic",
        """
        before = "".join(f"{shot}\\nTopic:{topic}\\n\\n" for shot, topic in shots)
        return f"{before}{text}\\nTopic:"
        """,
        "A space parts",
    ),
    Mistake("few_shot_prompt", "no return", "print(text)", "return missing"),
    Mistake(
        "few_shot_prompt",
        "slashes",
        """
        before = "".join(f"{shot}/nTopic: {topic}/n/n" for shot, topic in shots)
        return f"{before}{text}/nTopic:"
        """,
        "with a backslash",
    ),
    Mistake(
        "few_shot_prompt",
        "small letters",
        """
        before = "".join(f"{shot}\\ntopic: {topic}\\n\\n" for shot, topic in shots)
        return f"{before}{text}\\ntopic:"
        """,
        "capital letter",
    ),
    Mistake(
        "few_shot_prompt",
        "last shot first",
        """
        before = ""
        for shot, topic in shots:
            before = f"{shot}\\nTopic: {topic}\\n\\n" + before
        return f"{before}{text}\\nTopic:"
        """,
        "another order",
    ),
    Mistake(
        "few_shot_prompt",
        "topic and text crossed",
        """
        before = "".join(f"{shot}\\nTopic: {topic}\\n\\n" for topic, shot in shots)
        return f"{before}{text}\\nTopic:"
        """,
        "the two have changed places",
    ),
    Mistake(
        "few_shot_prompt",
        "the last shot alone",
        """
        for shot, topic in shots:
            before = f"{shot}\\nTopic: {topic}\\n\\n"
        return f"{before}{text}\\nTopic:"
        """,
        "no shots at all",
    ),
    Mistake("choose_class", "the winner's place", "return first_tokens.index(int(logits[-1].argmax()))", "these alone"),
    Mistake("choose_class", "token first", "return int(logits[first_tokens, -1].argmax())", "then the token"),
    Mistake(
        "choose_class", "the token's id", "return first_tokens[int(logits[-1, first_tokens].argmax())]", "not the token"
    ),
    Mistake("choose_class", "any token", "return int(logits[-1].argmax())", "need not be a class"),
    Mistake("choose_class", "first place", "return int(logits[0, first_tokens].argmax())", "after the last token"),
    Mistake(
        "choose_class", "mean of all", "return int(logits.mean(axis=0)[first_tokens].argmax())", "after the last token"
    ),
    Mistake(
        "choose_class",
        "better than -100",
        """
        best, score = 0, -100.0
        for i, token in enumerate(first_tokens):
            if logits[-1, token] > score:
                best, score = i, logits[-1, token]
        return best
        """,
        "not with 0 or -1000",
    ),
    Mistake("choose_class", "every place", "return logits[:, first_tokens].argmax(axis=1)", "One number"),
    # Task 2
    Mistake(
        "mask_and_positions",
        "one triangle for all",
        SEEN
        + """
seen = np.concatenate([np.ones((B, P), dtype=bool), real == 1], axis=1)
mask = np.tril(np.ones((T, P + T), dtype=bool)) & seen[:, None, :]
"""
        + GIVE,
        "the triangle is for the text alone",
    ),
    Mistake(
        "mask_and_positions", "virtual unseen", SEEN + "mask[:, :, :P] = False" + GIVE, "No token sees the virtual"
    ),
    Mistake(
        "mask_and_positions",
        "virtual ones last",
        SEEN + "mask = np.concatenate([own, front], axis=2)" + GIVE,
        "before those of the text",
    ),
    Mistake(
        "mask_and_positions",
        "padding seen",
        SEEN + "mask[:, :, P:] = np.tril(np.ones((T, T), dtype=bool))" + GIVE,
        "see padding",
    ),
    Mistake(
        "mask_and_positions", "future seen", SEEN + "mask[:, :, P:] = real[:, None, :] == 1" + GIVE, "see the future"
    ),
    Mistake("mask_and_positions", "the wrong way round", SEEN + "mask = ~mask" + GIVE, "wrong way round"),
    Mistake(
        "mask_and_positions",
        "not itself",
        SEEN + "mask[:, :, P:] = np.tril(np.ones((T, T)), -1) * real[:, None]" + GIVE,
        "sees itself too",
    ),
    Mistake("mask_and_positions", "the other order", SEEN + "return positions, mask", "the mask comes first"),
    Mistake(
        "mask_and_positions",
        "virtual tokens look too",
        SEEN + "mask = np.concatenate([np.ones((B, P, P + T), dtype=bool), mask], axis=1)" + GIVE,
        "no more rows",
    ),
    Mistake("mask_and_positions", "P forgotten", SEEN + "mask = own" + GIVE, "P more columns"),
    Mistake(
        "mask_and_positions",
        "one row for all",
        SEEN + "mask = np.concatenate([front[0], np.tril(np.ones((T, T))) > 0], axis=1)" + GIVE,
        "for each row of the batch",
    ),
    Mistake("mask_and_positions", "from 0", SEEN + "return mask, positions - P", "first real one stands at P"),
    Mistake(
        "mask_and_positions",
        "padding counted",
        SEEN + "return mask, np.broadcast_to(P + np.arange(T), (B, T))",
        "Padding was counted",
    ),
    Mistake("mask_and_positions", "one too far", SEEN + "return mask, positions + 1", "not at P + 1"),
    # Task 3
    Mistake(
        "SoftPrompt.__init__",
        "not frozen",
        TABLE + "self.model = model\nself.prompt = nn.Parameter(table[token_ids])",
        "not frozen",
    ),
    Mistake(
        "SoftPrompt.__init__",
        "all frozen",
        TABLE + "self.model, self.prompt = model, nn.Parameter(table[token_ids])\nself.requires_grad_(False)",
        "Nothing trains",
    ),
    Mistake(
        "SoftPrompt.__init__", "plain array", FROZEN + TABLE + "self.prompt = table[token_ids]", "must be a Tensor"
    ),
    Mistake(
        "SoftPrompt.__init__",
        "random",
        FROZEN
        + TABLE
        + """
rng = np.random.default_rng(0)
self.prompt = nn.Parameter(rng.standard_normal((len(token_ids), table.shape[1])).astype("float32"))
""",
        "no random vectors",
    ),
    Mistake(
        "SoftPrompt.__init__",
        "a batch of one",
        FROZEN + TABLE + "self.prompt = nn.Parameter(table[[token_ids]])",
        "without an axis for the batch",
        also=(
            (
                "SoftPrompt.forward",
                """
                rows = self.prompt.broadcast_to((len(ids), *self.prompt.shape[1:]))
                x = ops.concatenate([rows, self.model.model.embed_tokens(ids)], axis=1)
                return self.model.lm_head(self.model.model(inputs_embeds=x)[:, rows.shape[1] :])
                """,
            ),
        ),
    ),
    Mistake(
        "SoftPrompt.__init__",
        "the table's first rows",
        FROZEN + TABLE + "self.prompt = nn.Parameter(table[: len(token_ids)].copy())",
        "no other rows",
    ),
    Mistake(
        "SoftPrompt.__init__",
        "head not frozen",
        "model.model.requires_grad_(False)" + TABLE + "self.model, self.prompt = model, nn.Parameter(table[token_ids])",
        "model is not frozen",
    ),
    Mistake(
        "SoftPrompt.__init__",
        "tied to the table",
        """
        self.model, self.prompt = model, model.model.embed_tokens.weight[token_ids]
        model.requires_grad_(False)
        """,
        "hangs on the table",
    ),
    Mistake(
        "SoftPrompt.forward",
        "not for each row",
        READ.replace("self.prompt.broadcast_to((len(ids), *self.prompt.shape))", "self.prompt")
        + "return logits[:, len(rows) :]",
        "broadcast it to (B, P, d)",
    ),
    Mistake(
        "SoftPrompt.forward",
        "no head",
        READ.replace("self.model.lm_head(", "(") + "return logits[:, rows.shape[1] :]",
        "Hidden states came back",
    ),
    Mistake(
        "SoftPrompt.forward",
        "behind, and P dropped",
        READ.replace("[rows, self.model.model.embed_tokens(ids)]", "[self.model.model.embed_tokens(ids), rows]")
        + "return logits[:, rows.shape[1] :]",
        "stands behind the text",
    ),
    Mistake("SoftPrompt.forward", "virtual logits kept", READ + "return logits", "drop the first P"),
    Mistake("SoftPrompt.forward", "first T", READ + "return logits[:, : ids.shape[1]]", "real tokens' are the last T"),
    Mistake(
        "SoftPrompt.forward",
        "behind the text",
        """
        rows = self.prompt.broadcast_to((len(ids), *self.prompt.shape))
        x = ops.concatenate([self.model.model.embed_tokens(ids), rows], axis=1)
        return self.model.lm_head(self.model.model(inputs_embeds=x))[:, : ids.shape[1]]
        """,
        "in front of the text",
    ),
    Mistake("SoftPrompt.forward", "no prompt", "return self.model(ids).logits", "prompt has no effect"),
    Mistake(
        "SoftPrompt.forward",
        "graph cut",
        """
        rows = np.broadcast_to(self.prompt.data, (len(ids), *self.prompt.shape))
        x = ops.concatenate([rows, self.model.model.embed_tokens(ids)], axis=1)
        return self.model.lm_head(self.model.model(inputs_embeds=x)[:, rows.shape[1] :])
        """,
        "No gradient reaches the prompt",
    ),
    # Task 4
    Mistake(
        "prefix_attention",
        "no scale",
        JOIN + WEIGH.replace(" / np.sqrt(q.shape[-1])", "") + SHARES,
        "not divided by √D",
    ),
    Mistake(
        "prefix_attention",
        "no mask",
        JOIN + WEIGH.replace("ops.where(mask[:, None], scores, -1e9)", "scores") + SHARES,
        "mask is not applied",
    ),
    Mistake("prefix_attention", "little below", JOIN + WEIGH.replace("-1e9", "-1e4") + SHARES, "still gets weight"),
    Mistake(
        "prefix_attention", "mask without heads", JOIN + WEIGH.replace("[:, None]", "") + SHARES, "an axis for them"
    ),
    Mistake(
        "prefix_attention",
        "not for each row",
        """
        P = prefix_k.shape[1]
        keys, values = ops.concatenate([prefix_k, k], axis=2), ops.concatenate([prefix_v, v], axis=2)
        """.replace("        ", "")
        + WEIGH
        + SHARES,
        "broadcast it to",
    ),
    Mistake(
        "prefix_attention", "by D", JOIN + WEIGH.replace("np.sqrt(q.shape[-1])", "q.shape[-1]") + SHARES, "by D, not"
    ),
    Mistake(
        "prefix_attention",
        "behind the text",
        """
        P, rows = prefix_k.shape[1], (len(q), *prefix_k.shape)
        keys = ops.concatenate([k, prefix_k.broadcast_to(rows)], axis=2)
        values = ops.concatenate([v, prefix_v.broadcast_to(rows)], axis=2)
        """.replace("        ", "")
        + WEIGH
        + "return weights @ values, weights[..., -P:].sum(axis=-1)",
        "stands behind the text's",
    ),
    Mistake(
        "prefix_attention",
        "scores times mask",
        JOIN + WEIGH.replace("ops.where(mask[:, None], scores, -1e9)", "scores * mask[:, None]") + SHARES,
        "exp(0) = 1",
    ),
    Mistake(
        "prefix_attention",
        "masked too late",
        JOIN
        + WEIGH.replace("ops.where(mask[:, None], scores, -1e9)", "scores")
        + "weights = weights * mask[:, None]"
        + SHARES,
        "comes too late",
    ),
    Mistake(
        "prefix_attention",
        "over the queries",
        JOIN + WEIGH.replace("axis=-1", "axis=-2") + SHARES,
        "over the last axis",
    ),
    Mistake(
        "prefix_attention",
        "mask the wrong way round",
        JOIN + WEIGH.replace("scores, -1e9)", "-1e9, scores)") + SHARES,
        "wrong way round",
    ),
    Mistake(
        "prefix_attention",
        "no prefix in the values",
        JOIN + WEIGH + "return weights[..., P:] @ v, weights[..., :P].sum(axis=-1)",
        "values of the prefix are missing",
    ),
    Mistake(
        "prefix_attention",
        "keys as values too",
        JOIN.replace("prefix_v.broadcast_to((rows, *prefix_v.shape))", "prefix_k.broadcast_to((rows, *prefix_k.shape))")
        + WEIGH
        + SHARES,
        "keys were used for its values",
    ),
    Mistake(
        "prefix_attention",
        "two softmaxes",
        """
        P, scale = prefix_k.shape[1], q.shape[-1] ** -0.5
        on_text = F.softmax(ops.where(mask[:, None, :, P:], q @ k.swapaxes(-1, -2) * scale, -1e9), axis=-1)
        on_prefix = F.softmax(q @ prefix_k.swapaxes(-1, -2) * scale, axis=-1)
        return on_text @ v + on_prefix @ prefix_v, on_prefix.sum(axis=-1)
        """,
        "one softmax",
    ),
    Mistake(
        "prefix_attention",
        "share of the last P",
        JOIN + WEIGH + "return weights @ values, weights[..., -P:].sum(axis=-1)",
        "are the first P",
    ),
    Mistake("prefix_attention", "no share", JOIN + WEIGH + "return weights @ values", "Two things"),
    Mistake(
        "prefix_attention",
        "all keys",
        JOIN + WEIGH + "return weights @ values, weights.sum(axis=-1)",
        "over the first P",
    ),
    Mistake(
        "prefix_attention",
        "keys for values",
        JOIN + "first = [t.broadcast_to((rows, *t.shape)) for t in (prefix_v, prefix_k)]\n"
        "keys, values = (ops.concatenate(pair, axis=2) for pair in zip(first, (k, v)))" + WEIGH + SHARES,
        "changed places",
    ),
    Mistake(
        "prefix_attention",
        "share of the text",
        JOIN + WEIGH + "return weights @ values, weights[..., P:].sum(axis=-1)",
        "on the prefix it is the rest",
    ),
    Mistake(
        "prefix_attention",
        "mean share",
        JOIN + WEIGH + "return weights @ values, weights[..., :P].mean(axis=-1)",
        "add up",
    ),
    Mistake(
        "prefix_attention", "not summed", JOIN + WEIGH + "return weights @ values, weights[..., :P]", "for each query"
    ),
    Mistake(
        "prefix_attention",
        "graph cut",
        "prefix_k, prefix_v = Tensor(prefix_k.data), Tensor(prefix_v.data)" + JOIN + WEIGH + SHARES,
        "No gradient reaches prefix_k",
    ),
    Mistake(
        "prefix_attention",
        "values' graph cut",
        "prefix_v = prefix_v.detach()" + JOIN + WEIGH + SHARES,
        "No gradient reaches prefix_v",
    ),
    # Task 5
    Mistake(
        "PrefixCache.__init__",
        "empty",
        "self.keys, self.values, self.length = keys, values, 0",
        "P positions are taken",
    ),
    Mistake(
        "PrefixCache.__init__",
        "layers for length",
        "self.keys, self.values, self.length = keys, values, len(keys)",
        "third of keys' axes",
    ),
    Mistake("PrefixCache.__init__", "no length", "self.keys, self.values = keys, values", "Set length"),
    Mistake(
        "PrefixCache.update",
        "counts itself",
        FIRSTS
        + """
self.length += k.shape[2]
return ops.concatenate([first_k, k], axis=2), ops.concatenate([first_v, v], axis=2)
""",
        "leaves it at P",
    ),
    Mistake(
        "PrefixCache.update",
        "keeps the text",
        """
        if not hasattr(self, "seen"):
            self.seen = {}
        if layer not in self.seen:
            self.seen[layer] = [t[layer].broadcast_to((len(k), *t.shape[1:])) for t in (self.keys, self.values)]
        self.seen[layer] = [ops.concatenate(pair, axis=2) for pair in zip(self.seen[layer], (k, v))]
        return self.seen[layer]
        """,
        "keep nothing of the text",
    ),
    Mistake(
        "PrefixCache.update",
        "along the heads",
        FIRSTS + "return ops.concatenate([first_k, k], axis=1), ops.concatenate([first_v, v], axis=1)",
        "along the tokens",
    ),
    Mistake(
        "PrefixCache.update",
        "values first",
        FIRSTS + "return ops.concatenate([first_v, v], axis=2), ops.concatenate([first_k, k], axis=2)",
        "keys, then values",
    ),
    Mistake(
        "PrefixCache.update",
        "keys before both",
        FIRSTS + "return ops.concatenate([first_k, k], axis=2), ops.concatenate([first_k, v], axis=2)",
        "each has its own",
    ),
    Mistake(
        "PrefixCache.update",
        "behind",
        FIRSTS + "return ops.concatenate([k, first_k], axis=2), ops.concatenate([v, first_v], axis=2)",
        "it comes first",
    ),
    Mistake(
        "PrefixCache.update",
        "layer 0 for all",
        FIRSTS.replace("[layer]", "[0]") + "return ops.concatenate([first_k, k], 2), ops.concatenate([first_v, v], 2)",
        "layer 0",
    ),
    Mistake(
        "PrefixCache.update",
        "not for each row",
        "return ops.concatenate([self.keys[layer], k], axis=2), ops.concatenate([self.values[layer], v], axis=2)",
        "same for all rows",
    ),
    Mistake(
        "PrefixCache.update",
        "one row for all",
        """
        first = [t[layer : layer + 1] for t in (self.keys, self.values)]
        return ops.concatenate([first[0], k], axis=2), ops.concatenate([first[1], v], axis=2)
        """,
        "same for all rows",
    ),
    Mistake(
        "PrefixCache.update",
        "swapped",
        FIRSTS + "return ops.concatenate([first_v, k], axis=2), ops.concatenate([first_k, v], axis=2)",
        "changed places",
    ),
    Mistake(
        "PrefixCache.update", "text left out", FIRSTS + "return first_k, first_v", "own keys and values are left out"
    ),
    Mistake("Prefix.__init__", "not frozen", HOLD.replace(".requires_grad_(False)", ""), "not frozen"),
    Mistake(
        "Prefix.__init__",
        "no parameters",
        FROZEN + "self.keys, self.values = Tensor(keys), Tensor(values)",
        "Nothing trains",
    ),
    Mistake("Prefix.__init__", "frozen with the model", HOLD + "self.requires_grad_(False)", "Nothing trains"),
    Mistake(
        "Prefix.forward",
        "one cache for all calls",
        EXTEND
        + """
if not hasattr(self, "cache"):
    self.cache = PrefixCache(self.keys, self.values)
return self.model(ids, mask, past_key_values=self.cache).logits
""",
        "new cache for every call",
    ),
    Mistake(
        "Prefix.forward",
        "what keys were",
        EXTEND
        + """
if not hasattr(self, "cache"):
    self.cache = PrefixCache(self.keys * 1.0, self.values * 1.0)
self.cache.length = self.keys.shape[2]
return self.model(ids, mask, past_key_values=self.cache).logits
""",
        "the old ones are used",
    ),
    Mistake(
        "Prefix.__init__",
        "arrays",
        FROZEN + "self.keys, self.values = keys, values",
        "must be Tensors that train",
    ),
    Mistake("Prefix.forward", "P dropped", EXTEND + ASK.rstrip() + "[:, self.keys.shape[2] :]", "drop nothing"),
    Mistake("Prefix.forward", "never None", EXTEND.replace("None if real is None else ", "") + ASK, "real may be None"),
    Mistake(
        "Prefix.forward",
        "if real",
        """
        mask, B, P = None, len(ids), self.keys.shape[2]
        if real:
            mask = np.concatenate([np.ones((B, P)), real], axis=1)
        """.replace("        ", "", 1).replace("\n        ", "\n")
        + ASK,
        "neither true nor false",
    ),
    Mistake("Prefix.forward", "no cache", "return self.model(ids).logits", "hand it the cache"),
    Mistake("Prefix.forward", "output", EXTEND + ASK.replace(".logits", ""), "The logits were asked for"),
    Mistake("Prefix.forward", "mask of the text", "mask = real" + ASK, "put P ones before real"),
    Mistake("Prefix.forward", "real ignored", "mask = None" + ASK, "real was ignored"),
    Mistake("Prefix.forward", "virtual ones masked", EXTEND.replace("np.ones", "np.zeros") + ASK, "masked away"),
    Mistake(
        "Prefix.forward",
        "graph cut",
        EXTEND + ASK.replace("(self.keys, self.values)", "(self.keys.detach(), self.values)"),
        "did not reach both",
    ),
    # Task 6
    Mistake("Recorder.update", "nothing returned", "self.seen.append((k, v))", "update returns nothing"),
    Mistake("Recorder.update", "nothing written", "return k, v", "append (k, v)"),
    Mistake(
        "Recorder.update",
        "counts itself",
        """
        self.seen.append((k, v))
        self.length += k.shape[2]
        return k, v
        """,
        "update leaves it at 0",
    ),
    Mistake(
        "Recorder.update",
        "keys alone",
        """
        self.seen.append(k)
        return k, v
        """,
        "Only the keys",
    ),
    Mistake("Recorder.__init__", "no list", "self.length = 0", "in __init__"),
    Mistake(
        "real_start",
        "axis for the sequence",
        LISTEN
        + "return np.stack([k.numpy() for k, _ in recorder.seen]), np.stack([v.numpy() for _, v in recorder.seen])",
        "axis for the one sequence",
    ),
    Mistake("real_start", "no rows", LISTEN.replace("[token_ids]", "token_ids") + "return recorder.seen", "reads rows"),
    Mistake(
        "real_start",
        "layers run together",
        LISTEN + "return tuple(np.concatenate([pair[i].numpy()[0] for pair in recorder.seen]) for i in range(2))",
        "run together",
    ),
    Mistake(
        "real_start",
        "the first layer for all",
        LISTEN + "return tuple(np.stack([recorder.seen[0][i].numpy()[0] for _ in recorder.seen]) for i in range(2))",
        "keys and values of the first",
    ),
    Mistake(
        "real_start",
        "last layer first",
        LISTEN + "return tuple(np.stack([pair[i].numpy()[0] for pair in recorder.seen[::-1]]) for i in range(2))",
        "layers are in another order",
    ),
    Mistake(
        "real_start",
        "a pair a layer",
        LISTEN + "return np.stack([[t.numpy()[0] for t in pair] for pair in recorder.seen])",
        "A pair for each layer",
    ),
    Mistake(
        "real_start",
        "lists",
        LISTEN + "return tuple([pair[i].numpy()[0] for pair in recorder.seen] for i in range(2))",
        "one of a list",
    ),
    Mistake(
        "real_start",
        "swapped",
        LISTEN + "return tuple(np.stack([pair[i].numpy()[0] for pair in recorder.seen]) for i in (1, 0))",
        "changed places",
    ),
    Mistake(
        "real_start",
        "last layer",
        LISTEN + "return tuple(t.numpy()[0] for t in recorder.seen[-1])",
        "Only one layer",
    ),
    Mistake(
        "real_start",
        "each alone",
        """
        parts = []
        for token in token_ids:
            recorder = Recorder()
            with no_grad():
                model(np.array([[token]]), past_key_values=recorder)
            parts.append([np.stack([pair[i].numpy()[0] for pair in recorder.seen]) for i in (0, 1)])
        return tuple(np.concatenate(part, axis=2) for part in zip(*parts))
        """,
        "read alone",
    ),
    Mistake(
        "real_start",
        "Tensors",
        LISTEN + "return tuple(ops.stack([pair[i][0] for pair in recorder.seen]) for i in (0, 1))",
        "not Tensors",
    ),
    Mistake(
        "real_start",
        "tokens before layers",
        LISTEN
        + "return tuple(np.stack([p[i].numpy()[0] for p in recorder.seen]).transpose(2, 0, 1, 3) for i in (0, 1))",
        "must have the axes",
    ),
    Mistake(
        "few_shot_prompt",
        "a dictionary of shots",
        """
        before = "".join(f"{shot}\\nTopic: {topic}\\n\\n" for shot, topic in dict(shots).items())
        return f"{before}{text}\\nTopic:"
        """,
        "A text may come twice",
    ),
    Mistake(
        "choose_class",
        "better than 0",
        """
        best, score = 0, 0.0
        for i, token in enumerate(first_tokens):
            if logits[-1, token] > score:
                best, score = i, logits[-1, token]
        return best
        """,
        "all be negative",
    ),
    Mistake(
        "mask_and_positions",
        "a mask of numbers",
        """
        B, T = real.shape
        own = np.tril(np.ones((T, T))) * real[:, None, :]
        return np.concatenate([np.ones((B, T, P)), own], axis=2), P + np.cumsum(real, axis=1) - 1
        """,
        "Booleans",
    ),
    Mistake(
        "mask_and_positions",
        "padding on the right",
        """
        B, T = real.shape
        own = np.tril(np.ones((T, T), dtype=bool)) & (np.arange(T) < real.sum(axis=1)[:, None])[:, None]
        return np.concatenate([np.ones((B, T, P), dtype=bool), own], axis=2), P + np.cumsum(real, axis=1) - 1
        """,
        "begins with padding",
    ),
    Mistake(
        "SoftPrompt.forward",
        "rows kept",
        """
        P, d = self.prompt.shape
        if not hasattr(self, "rows"):
            self.rows = self.prompt.broadcast_to((len(ids), P, d))
        x = ops.concatenate([self.rows, self.model.model.embed_tokens(ids)], axis=1)
        return self.model.lm_head(self.model.model(inputs_embeds=x)[:, P:])
        """,
        "kept from the first",
    ),
    Mistake(
        "prefix_attention",
        "-100",
        """
        B, H, _, D = q.shape
        P = prefix_k.shape[1]
        keys = ops.concatenate([prefix_k.broadcast_to((B, H, P, D)), k], axis=2)
        values = ops.concatenate([prefix_v.broadcast_to((B, H, P, D)), v], axis=2)
        scores = q @ keys.swapaxes(-1, -2) * D**-0.5 + np.where(mask, 0.0, -100.0)[:, None]
        weights = F.softmax(scores, axis=-1)
        return weights @ values, weights[..., :P].sum(axis=-1)
        """,
        "-1e9 leaves none",
    ),
    Mistake(
        "prefix_attention",
        "exp of raw scores",
        """
        scale, P = q.shape[-1] ** -0.5, prefix_k.shape[1]
        own = np.where(mask[:, None, :, P:], 1.0, 0.0)
        on_prefix = (q @ prefix_k.swapaxes(-1, -2) * scale).exp()
        on_text = (q @ k.swapaxes(-1, -2) * scale).exp() * own
        total = on_prefix.sum(axis=-1, keepdims=True) + on_text.sum(axis=-1, keepdims=True)
        return (on_prefix @ prefix_v + on_text @ v) / total, on_prefix.sum(axis=-1) / total[..., 0]
        """,
        "exp of a large score",
    ),
    Mistake(
        "prefix_attention",
        "share without a graph",
        """
        B, H, _, D = q.shape
        P = prefix_k.shape[1]
        keys = ops.concatenate([prefix_k.broadcast_to((B, H, P, D)), k], axis=2)
        values = ops.concatenate([prefix_v.broadcast_to((B, H, P, D)), v], axis=2)
        scores = q @ keys.swapaxes(-1, -2) * D**-0.5
        weights = F.softmax(ops.where(mask[:, None], scores, -1e9), axis=-1)
        return weights @ values, Tensor(weights.numpy()[..., :P].sum(axis=-1))
        """,
        "comes back through share",
    ),
    Mistake(
        "few_shot_prompt",
        "a template",
        """
        before = "".join(shot + "\\nTopic: " + topic + "\\n\\n" for shot, topic in shots)
        return (before + "{text}\\nTopic:").format(text=text)
        """,
        "Braces",
    ),
    Mistake(
        "mask_and_positions",
        "counted in the dtype of real",
        """
        B, T = real.shape
        own = np.tril(np.ones((T, T), dtype=bool)) & (real[:, None, :] == 1)
        mask = np.concatenate([np.ones((B, T, P), dtype=bool), own], axis=2)
        return mask, P + np.cumsum(real, axis=1, dtype=real.dtype) - 1
        """,
        "int8",
    ),
    Mistake(
        "Recorder.__init__",
        "one list for all",
        """
        self.length = 0
        Recorder.everything = getattr(Recorder, "everything", [])
        self.seen = Recorder.everything
        """,
        "a new list in __init__",
    ),
    Mistake(
        "real_start",
        "the model frozen",
        """
        recorder = Recorder()
        model.requires_grad_(False)(np.array([token_ids]), past_key_values=recorder)
        return tuple(np.stack([pair[i].numpy()[0] for pair in recorder.seen]) for i in range(2))
        """,
        "only to be read",
    ),
]

RIGHT = [
    Right(
        "few_shot_prompt",
        "lines joined",
        """
        lines = []
        for shot, topic in shots:
            lines += [shot, "Topic: " + topic, ""]
        print(len(lines))
        return "\\n".join([*lines, text, "Topic:"])
        """,
        also=(
            (
                "choose_class",
                """
                last = np.asarray(logits)[len(logits) - 1]
                return max(range(len(first_tokens)), key=lambda i: last[first_tokens[i]])
                """,
            ),
        ),
    ),
    Right(
        "mask_and_positions",
        "by loops, positions in floats",
        """
        B, T = real.shape
        mask, positions = np.zeros((B, T, P + T), dtype=bool), np.zeros((B, T))
        for b in range(B):
            padding = T - int(real[b].sum())
            for i in range(T):
                mask[b, i, :P] = 1
                mask[b, i, P + padding : P + i + 1] = 1
                positions[b, i] = max(P + i - padding, 0)
        return mask, positions
        """,
    ),
    Right(
        "SoftPrompt.__init__",
        "through the embedding, frozen one by one",
        """
        for parameter in model.parameters():
            parameter.requires_grad = False
        self.prompt = Tensor(model.model.embed_tokens(np.array([token_ids])).numpy()[0], requires_grad=True)
        self.model = model
        """,
        also=(
            (
                "SoftPrompt.forward",
                """
                text = self.model.model.embed_tokens(ids)
                front = ops.stack([self.prompt] * len(ids))
                logits = self.model.lm_head(self.model.model(inputs_embeds=ops.concatenate([front, text], 1)))
                return logits[:, -ids.shape[1] :]
                """,
            ),
        ),
    ),
    Right(
        "prefix_attention",
        "a mixture of two softmaxes",
        """
        scale, P = q.shape[-1] ** -0.5, prefix_k.shape[1]
        on_prefix = q @ prefix_k.swapaxes(-1, -2) * scale
        on_text = ops.where(mask[:, None, :, P:], q @ k.swapaxes(-1, -2) * scale, -1e9)
        share = ops.sigmoid(on_prefix.logsumexp(axis=-1) - on_text.logsumexp(axis=-1))
        part = share.expand_dims(-1)
        return F.softmax(on_prefix, axis=-1) @ prefix_v * part + F.softmax(on_text, axis=-1) @ v * (1 - part), share
        """,
    ),
    Right(
        "prefix_attention",
        "minus infinity, and the share as the rest",
        """
        B, H, T, D = q.shape
        both = [ops.stack([first] * B) for first in (prefix_k, prefix_v)]
        keys, values = ops.concatenate([both[0], k], axis=2), ops.concatenate([both[1], v], axis=2)
        scores = q @ keys.swapaxes(-1, -2) / D**0.5 + np.where(mask, 0.0, -np.inf)[:, None]
        weights = F.softmax(scores, axis=-1)
        return weights @ values, 1 - weights[..., -T:].sum(axis=-1)
        """,
    ),
    Right(
        "mask_and_positions",
        "padding blind and at 0, float positions",
        """
        full = np.pad(real, ((0, 0), (P, 0)), constant_values=1)
        mask = np.tril(np.ones(real.shape[1:] + full.shape[1:]), P) * full[:, None] * real[:, :, None]
        return [mask.astype(bool), (full.cumsum(axis=1)[:, P:] - 1.0) * real]
        """,
    ),
    Right(
        "PrefixCache.update",
        "a stack for the rows, a list back",
        """
        both = []
        for first, own in ((self.keys, k), (self.values, v)):
            rows = ops.stack([first[layer]] * own.shape[0])
            both.append(ops.concatenate([rows, own], axis=-2))
        return both
        """,
        also=(
            (
                "Prefix.forward",
                """
                B, T = ids.shape
                real = np.ones((B, T), dtype="int64") if real is None else real
                mask = np.pad(real, ((0, 0), (self.keys.shape[2], 0)), constant_values=1)
                cache = PrefixCache(self.keys, self.values)
                hidden = self.model.model(ids, attention_mask=mask, past_key_values=cache)
                return self.model.lm_head(hidden)
                """,
            ),
        ),
    ),
    Right(
        "real_start",
        "by layer, with gradients on",
        """
        listener = Recorder()
        model.model(np.array(token_ids)[None], past_key_values=listener)
        both = np.array([[k.numpy(), v.numpy()] for k, v in (listener.seen[i] for i in sorted(listener.seen))])
        return both[:, 0, 0], both[:, 1, 0]
        """,
        also=(
            ("Recorder.__init__", "self.seen, self.length = {}, 0"),
            (
                "Recorder.update",
                """
                self.seen[layer] = k, v
                return [k, v]
                """,
            ),
        ),
    ),
]
