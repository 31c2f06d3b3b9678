"""Runs beside the student's code, where Tensors and models live: builds, calls, and hands plain values back.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np

from minilora import Tensor, no_grad
from minilora.models.llama import LlamaConfig, LlamaForCausalLM


def tiny() -> LlamaForCausalLM:
    """Make a model of two layers with two query heads sharing one key head, and weights large enough to matter."""
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config, seed=1)


def observe(module, logits) -> dict:
    """Return the logits of a call, and which parameters train and get a gradient."""
    facts = {"logits": logits, "trains": [name for name, p in module.named_parameters() if p.requires_grad]}
    if isinstance(logits, Tensor) and logits.requires_grad:
        (logits * logits).sum().backward()
    return facts | {"reached": [name for name, p in module.named_parameters() if p.grad is not None]}


def kinds_of(*values) -> list:
    return [type(value).__name__ for value in values]


def masked(student, P, real):
    """mask, positions = mask_and_positions(P, real); and of both the rows of the real tokens"""
    mask, positions = student.mask_and_positions(P, real)
    facts = {"kinds": kinds_of(mask, positions), "shapes": (np.shape(mask), np.shape(positions))}
    if facts["shapes"] != ((*real.shape, P + real.shape[1]), real.shape):
        return facts
    return facts | {"mask": np.asarray(mask)[real == 1], "positions": np.asarray(positions)[real == 1]}


def soft_twice(student, token_ids, ids, more, moved):
    """soft and another one = SoftPrompt(model, …); soft(ids); backward; soft(more); soft(ids) with another prompt"""
    model = tiny()
    soft = student.SoftPrompt(model, token_ids)
    student.SoftPrompt(model, token_ids[::-1] + [0])
    table = model.model.embed_tokens.weight
    facts = {"kinds": kinds_of(soft.prompt, soft.model), "prompt": soft.prompt.numpy().copy()}
    facts["trains"] = [name for name, p in soft.named_parameters() if p.requires_grad]
    facts["logits"] = logits = soft(ids)
    (logits * logits).sum().backward()
    facts |= {"gradient": soft.prompt.grad, "table's gradient": table.grad, "more": soft(more)}
    soft.prompt.data = moved
    return facts | {"moved": soft(ids)}


def prompted(student, token_ids, ids):
    """soft = SoftPrompt(model, token_ids); logits = soft(ids)"""
    soft = student.SoftPrompt(tiny(), token_ids)
    start = soft.prompt.numpy() if isinstance(soft.prompt, Tensor) else None
    return {"kind": type(soft.prompt).__name__, "prompt": start} | ({} if start is None else observe(soft, soft(ids)))


def attention(student, q, k, v, prefix_k, prefix_v, mask):
    """y, share = prefix_attention(…); ((y * y).sum() + (share * share).sum()).backward()"""
    tensors = [Tensor(a, requires_grad=True) for a in (q, k, v, prefix_k, prefix_v)]
    y, share = student.prefix_attention(*tensors, mask)
    flowing = [(t * t).sum() for t in (y, share) if isinstance(t, Tensor) and t.requires_grad]
    if flowing:
        sum(flowing).backward()
    names = ("q", "k", "v", "prefix_k", "prefix_v")
    return {"y": y, "share": share} | {f"d{name}": t.grad for name, t in zip(names, tensors, strict=True)}


def cached(student, keys, values, layer, k, v):
    """cache = PrefixCache(keys, values); found = cache.update(layer, k, v); cache.update(layer, k, v) once more"""
    cache = student.PrefixCache(Tensor(keys), Tensor(values))
    length = cache.length
    first, again = (cache.update(layer, Tensor(k), Tensor(v)) for _ in range(2))
    return {"length": length, "found": first, "again": again, "after": cache.length}


def joined(student, keys, values, layer, k, v, other, more_k, more_v):
    """cache = PrefixCache(keys, values); cache.update(layer, k, v); backward; cache.update(other, more_k, more_v)"""
    tensors = [Tensor(a, requires_grad=True) for a in (keys, values, k, v)]
    cache = student.PrefixCache(*tensors[:2])
    student.PrefixCache(*(t.detach()[:, :, :1] for t in tensors[1::-1]))
    facts = {"length": cache.length}
    pair = cache.update(layer, *tensors[2:])
    facts |= {"kinds": kinds_of(*pair), "k": pair[0], "v": pair[1]}
    sum((t * t).sum() for t in pair).backward()
    facts |= {f"d{name}": t.grad for name, t in zip(("keys", "values", "k", "v"), tensors, strict=True)}
    again = cache.update(other, Tensor(more_k), Tensor(more_v))
    return facts | {"again": tuple(again), "after": cache.length}


def prefix_twice(student, keys, values, ids, real, more):
    """prefix = Prefix(model, keys, values); prefix(ids, real), backward; prefix(more), also with twice the keys"""
    prefix = student.Prefix(tiny(), keys, values)
    student.Prefix(prefix.model, values, keys)
    facts = {"kinds": kinds_of(prefix.keys, prefix.values, prefix.model)}
    facts["trains"] = sorted(name for name, p in prefix.named_parameters() if p.requires_grad)
    logits = prefix(ids) if real is None else prefix(ids, real)
    seen = logits if real is None else logits * real[:, :, None].astype("float32")
    (seen * seen).sum().backward()
    facts |= {"logits": seen, "dkeys": prefix.keys.grad, "dvalues": prefix.values.grad}
    facts["reached"] = sorted(name for name, p in prefix.named_parameters() if p.grad is not None)
    facts["more"] = prefix(more)
    prefix.keys.data = 2 * prefix.keys.data
    return facts | {"moved": prefix(more)}


def noted(student, k, v):
    """recorder, another = Recorder(), Recorder(); recorder.update(layer, …) for all layers, backward"""
    recorder, another, layers = student.Recorder(), student.Recorder(), range(len(k))
    tensors = [[Tensor(a[layer], requires_grad=True) for layer in layers] for a in (k, v)]
    facts = {"length before": recorder.length}
    back = [recorder.update(layer, tensors[0][layer], tensors[1][layer]) for layer in layers]
    facts |= {"kinds": kinds_of(*(t for pair in back for t in pair)), "back": tuple(map(tuple, back))}
    sum((t * t).sum() for pair in back for t in pair).backward()
    facts |= {"dk": tuple(t.grad for t in tensors[0]), "dv": tuple(t.grad for t in tensors[1])}
    facts |= {"length": recorder.length, "seen": tuple(tuple(recorder.seen[layer]) for layer in layers)}
    another.update(0, Tensor(k[-1]), Tensor(v[-1]))
    return facts | {"another": (len(another.seen), tuple(another.seen[0]))}


def prefixed(student, keys, values, ids):
    """prefix = Prefix(model, keys, values); logits = prefix(ids); prefix(ids) once more"""
    prefix = student.Prefix(tiny(), keys, values)
    facts = observe(prefix, prefix(ids))
    with no_grad():
        return facts | {"again": prefix(ids)}


def prefixed_padded(student, keys, values, ids, real):
    """prefix = Prefix(model, keys, values); logits = prefix(ids, real)"""
    with no_grad():
        return student.Prefix(tiny(), keys, values)(ids, real)


def started(student, token_ids):
    """keys, values = real_start(model, token_ids)"""
    model = tiny()
    keys, values = student.real_start(model, token_ids)
    kind = {type(keys).__name__, type(values).__name__}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    return {"keys": keys, "values": values, "kind": sorted(kind), "frozen": frozen}


def recorded(student, k, v):
    """recorder = Recorder(); recorder.update(layer, k, v) for layer 0 and 1"""
    recorder = student.Recorder()
    back = [recorder.update(layer, Tensor(k[layer]), Tensor(v[layer])) for layer in range(2)]
    return {"length": recorder.length, "back": back, "seen": [recorder.seen[layer] for layer in range(2)]}
