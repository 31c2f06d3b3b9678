"""pytest tests/experiments/test_sentences.py: the sentence of each study follows its numbers."""

import json
from dataclasses import asdict
from zlib import crc32

import numpy as np
import pytest

from experiments.studies import STUDIES, low_data, merge_trap, strength, targets
from minilora.measure.records import Records

pytestmark = pytest.mark.host


def imagined(study, plan, numbers=lambda key: {}) -> Records:
    """Return records of the plan in memory. Each cell has every number; `numbers(key)` replaces some of them."""
    ordinary = {"domain": 2.5, "base_text": 2.0, "total": 2_828_736, "trainable": 2_828_736, "lr": 0.00033}
    ordinary |= {"seconds": 22.0, "accuracy": 0.5, "rank": 18, "bits": 4.126, "error": 0.121, "perplexity": 128.25}
    ordinary |= {"best_step": 50, "tokens": 410.0, "prompt_ms": 105.5, "trained_ms": 10.5, "classes": 8, "steps": 48}
    ordinary |= {"relative": 1.05, "survives": 0.995, "adapter": 2.4, "float": 2.4, "requantized": 2.4}
    ordinary |= {"recalled": 0.875, "known": 1024.5, "intruders": 2.5, "effective_rank": 108.5, "by_epsilon": [2.5] * 7}
    ordinary |= {"alpha": 16.0, "low": 0.0002, "high": 0.0005, "loss": 2.25, "static": 2.5, "parts": [0.01] * 8}
    ordinary |= {"kl": 0.5, "validation": 2.5, "quiz_bits": 1.0, "english": 3.0}
    ordinary |= {"lost": 0.004, "weights_off": 0.02, "outputs_off": 0.001}
    settings = json.loads(json.dumps(asdict(plan)))
    rows = {key: {"key": list(key)} | ordinary | numbers(key) for key in study.cells(plan)}
    return Records(None, {"settings": settings}, rows)


def sentence(name: str, numbers, plan: str = "full") -> str:
    study = STUDIES[name]
    return study(imagined(study, getattr(study, plan), numbers)).sentence()


def says(text: str, *words: str) -> None:
    for each in words:
        assert each in text, text


def noisy(value: float, seed: int) -> float:
    """`value` within a hundredth of a bit, by seed."""
    return value + 0.01 * (seed - 1)


def by_value(values: dict):
    """Domain bits by the second part of the key, or of the kind; the base has 3."""

    def numbers(key: tuple) -> dict:
        if key[0] == "base":
            return {"domain": 3.0}
        return {"domain": noisy(values.get(key[1], values.get(key[0], 2.5)), key[-1])}

    return numbers


@pytest.mark.parametrize("name", STUDIES)
def test_one_run_on_another_model_is_said_and_drawn(name):
    """Its plan may leave out what `full` compares: longer runs, faster ones, all widths but one."""
    study = STUDIES[name]
    full = {"recalled": 1.0, "known": 80.0}
    result = study(imagined(study, study.large, lambda key: full if key[:2] == ("facts", 0) else {}))
    assert result.sentence() == result.sentence().strip() and result.sentence()[-1] in ".!"
    assert result.figure() is not None


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in ("merge-trap", "capacity")])
def test_scatter_alone_is_called_neither_as_published_nor_unlike_it(name):
    """Every cell of a study is drawn from one distribution, so that no two of them differ."""

    def of(key: tuple) -> dict:
        rng = np.random.default_rng(crc32(repr(key).encode()))
        numbers = dict(zip(("domain", "base_text"), rng.normal([2.5, 2.2], 0.05).tolist(), strict=True))
        numbers |= {"accuracy": rng.normal(0.3, 0.05), "intruders": rng.normal(2.5, 0.5), "loss": rng.normal(2.3, 0.05)}
        return numbers | ({"domain": 3.0, "base_text": 2.0} if key == ("base",) else {})

    for plan in ("full", "large"):
        text = sentence(name, of, plan)
        assert not any(words in text for words in ("as published", "unlike", "shown to be ahead at")), text


def test_which_matrices():
    text = sentence("targets", by_value({targets.BOTH: 2.4, "o_proj": 2.2, "k_proj": 2.8}))
    says(
        text,
        "about 2,800,000 parameters",
        "gains least on k, 0.200 ± 0.010 bits/character, and most on o, 0.800 ± 0.010.",
        "On q + v, the usual choice, it gains 0.600",
    )
    least = sentence("targets", by_value({targets.BOTH: 2.8, "o_proj": 2.2}))
    assert "least on q + v, 0.200" in least and "usual" not in least


def test_data_types_from_the_least_loss_to_the_greatest():
    lost = {"nf4": 0.01, "nf4+dq": 0.02, "fp4": 0.04, "int4": 0.03, "float32": 0.0}

    def numbers(key: tuple) -> dict:
        kind, name, seed = key
        return {"base_text": 2 + lost[name], "domain": noisy(2.5 + lost[name], seed % 3)}

    text = sentence("data-types", numbers)
    says(text, "from 0.0100 ± 0.0000 (NF4) to 0.0400 ± 0.0000 (FP4)", "(NF4) to 2.539", "base in float32 it reaches")


def test_adapter_width_against_full():
    def numbers(full: float):
        wide = {4: 0.003, 16: 0.01, 64: 0.036, 256: 0.14}
        domain = by_value({4: 2.8, 0: full})
        share = lambda key: wide.get(key[1], 1.0) if len(key) > 1 else 1.0  # noqa: E731
        return lambda key: domain(key) | {"trainable": int(share(key) * 2_828_736)}

    says(
        sentence("adapter-width", numbers(2.5)),
        "(4 wide, one per block",
        "(3.6 %)",
        "within 10 % of its gain, which is 0.050, is shown.",
    )
    far = "differs by −0.300 (−0.300 to −0.300). That they come within 10 % of its gain, which is 0.080, is refuted."
    says(sentence("adapter-width", numbers(2.2)), far)


def test_prefix_start_and_length():
    def numbers(real: dict, drawn: float):
        def of(key: tuple) -> dict:
            domain = {"tokens": real, "random": dict.fromkeys(real, drawn)}
            return {"domain": 3.0 if key[0] == "base" else noisy(domain[key[0]][key[1]], key[-1])}

        return sentence("prefix-length", of)

    rising = {1: 2.9, 4: 2.8, 16: 2.7, 64: 2.6}
    says(numbers(rising, 2.8), "gains 0.100 ± 0.010 bits/character at length 1 and 0.400 ± 0.010 at length 64")
    says(numbers(rising, 2.8), "is −0.100 (−0.100 to −0.100) at length 1, +0.100", "and is undecided at length 4.")
    assert "undecided" not in numbers(rising, 2.95)
    says(numbers(dict.fromkeys(rising, 2.8), 2.8), "random numbers, is undecided at length 1, 4, 16 and 64.")


def test_low_data_saves_labels_or_not():
    def numbers(full: tuple, scratch: tuple):
        few = sorted({key[1] for key in STUDIES["low-data"].cells(STUDIES["low-data"].full)})
        level = lambda key: dict(zip(few, full if key[0] == "full" else scratch, strict=True))[key[1]]  # noqa: E731
        return sentence("low-data", lambda key: {"accuracy": noisy(level(key), key[2])})

    many = low_data.most()
    saved = f"The base is shown to be ahead at 8, 32, 128 and {many}; with 32 labels it is ahead of scratch with"
    says(numbers((0.4, 0.6, 0.7, 0.8), (0.2, 0.3, 0.4, 0.5)), f"{saved} {many}.")
    says(numbers((0.2, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5)), "At no number is the base shown to be ahead;")
    says(numbers((0.2, 0.3, 0.4, 0.5), (0.3, 0.4, 0.4, 0.5)), "Training from scratch is shown to be ahead at 8 and 32;")
    fewer = f"ahead at 8; that it needs fewer labels than the {many} of training from scratch is not shown"
    says(numbers((0.3, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5)), fewer)


def test_replay_saves_or_is_not_shown_to():
    def numbers(scatter: float):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"base_text": 2.0}
            method, share, seed = key
            return {"base_text": 2.3 - 0.2 * share + scatter * seed * bool(share) * (method == "full")}

        return sentence("replay", of)

    says(numbers(0.001), "Full fine-tuning forgets 0.300 ± 0.000 bits/character without", "lower by +0.019 (+0.0")
    says(
        numbers(0.001),
        "LoRA forgets 0.300 ± 0.000",
        "mean is lower by +0.020 (+0.020 to +0.020) with 10 % and by +0.100",
    )
    says(numbers(0.1), "would have shown 4 times out of 5")


def test_curves_are_read_between_their_points():
    paths = [[(0.0, 0.0), (0.2, 0.1), (0.4, 0.5)], [(0.0, 0.0), (0.3, 0.4), (0.25, 0.2)]]
    # With 0.2 forgotten, the first has 0.25, and the second goes back there; with 0.3, the second is ahead.
    most = [strength.most_learned(paths, forgotten) for forgotten in (0.0, 0.1, 0.2, 0.3, 0.6)]
    assert most == pytest.approx([0.0, 0.2, 0.25, 0.3, 0.4]) and strength.most_learned(paths, -0.1) is None


def test_prompting_ahead_and_behind_and_when_training_pays_off():
    def numbers(prompt: float, trained: float, ms: float = 105.5):
        def of(key: tuple) -> dict:
            if key[0] == "cost":
                return {"prompt_ms": ms}
            return {"accuracy": noisy(prompt if key[0] == "prompt" else trained, key[2])}

        return sentence("prompting", of)

    says(numbers(0.12, 0.5), "training is shown to be ahead with 1, 2, 4, 8 and 16", "paid off after 232 queries")
    slower = numbers(0.5, 0.3, ms=10.0)
    says(slower, "the prompt is shown to be ahead with 1, 2, 4, 8 and 16. A query takes 10.0 ms")
    assert "paid off" not in slower
    says(numbers(0.3, 0.3), "neither is shown to be ahead with any number")
    at_chance = numbers(0.14, 0.13)  # the prompt without examples has 14 % as well
    assert "neither is shown to be above chance (12.5 %)" in at_chance and "paid off" not in at_chance


def test_merge_trap_says_what_is_left():
    def numbers(rounded: float):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0}
            _, size, seed = key
            survives = merge_trap.EXPECTED.get(size, 100) / 100
            levels = {"float": noisy(2.5, seed), "requantized": noisy(rounded, seed)}
            return {"relative": size or 0.4, "survives": survives} | levels

        return sentence("merge-trap", of)

    says(
        numbers(2.5),
        "If an update has 2 % of the weight's norm ‖W‖, rounding to 4 bits again leaves 2 % of it; at 30 % of the",
        "norm, it leaves 99 %.",
        "100 % of the gain",
    )
    says(numbers(2.8), "the model has 2.800 ± 0.010. So 100 ± 0 % of the update and 40 % of the gain are left.")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({0.5: (0.3, 0.05)}, "Its lead in learning over the best training that forgot no more is +0.200 ("),
        (
            {0.75: (0.5, 0.1)},
            "λ = 0.75, set after training, LoRA has learned 0.500 ± 0.010 bits/character and forgotten 0.100 ± ",
        ),
        ({0.75: (0.5, -0.1)}, "No training forgot as little with every seed"),
    ],
)
def test_strength_reaches_what_training_did_not_or_does_not(points, words):
    def of(key: tuple) -> dict:
        if key[0] == "base":
            return {"domain": 3.0, "base_text": 2.0}
        if key[0] == "training":  # all on one line, up to 0.4 and 0.2
            _, factor, steps, step, _ = key
            won, lost = 0.4 * factor * step / 60, 0.2 * factor * step / 60
        else:
            won, lost = points.get(key[1], (0.2 * min(key[1], 1), 0.3 * key[1]))
            won = noisy(won, key[-1])
        return {"domain": 3.0 - won, "base_text": 2.0 + lost}

    says(sentence("strength", of), words)


def test_capacity_knee_and_bits_per_parameter():
    def numbers(of_rank, full: float = 1.0):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {}
            kind, rank, count, seed = key
            recalled = 0.5 if kind == "longer" else of_rank(rank, count) if rank else full
            return {"known": 90.0 * rank, "trainable": 704 * rank or 2_828_736, "recalled": recalled}

        return sentence("capacity", of)

    rising = numbers(lambda rank, count: 1.0 if count <= 2 * rank else 0.5)
    says(
        rising,
        "recalls all of the facts",
        "84 at rank 1, 84 at rank 2, 338 at rank 4, 338 at rank 8 and 1,351",
    )
    says(rising, "For each parameter that trains, it stores at most 0.13 ± 0.00 bits")
    says(numbers(lambda rank, count: 1.0, full=0.8), "recalls at least 80 % of the", "above 4,096 at rank 16")


def test_intruders_more_or_not_and_what_they_forget():
    some = {0: 0.1, 1: 3.0, 8: 1.0, 64: 0.5}

    def numbers(counts: dict, faster: float = 2.0):
        def of(key: tuple) -> dict:
            if key[0] == "base":
                return {"domain": 3.0, "base_text": 2.0}
            kind, rank, scale, seed = key
            count = faster if kind == "faster" else counts[rank]
            row = {"intruders": count, "effective_rank": 100.0 / (rank + 1)}
            row |= {"domain": 2.8 + 0.005 * seed + 0.02 * (1 - scale)}
            return row | {"base_text": 2.1 + 0.005 * seed - 0.04 * (1 - scale)}

        return sentence("intruders", of)

    says(
        numbers(some),
        "After full fine-tuning, a matrix has 0.10 ± 0.00 intruders",
        "3.00 ± 0.00 at rank 1",
        "2.00 ± 0.00 at rank 8 with 3 times the learning rate",
    )
    says(
        numbers(some),
        "If the intruders of r = 1 are scaled to 0.75 of their size",
        "gained changes by −0.005 (",
        "forgotten by −0.010 (",
    )
    assert numbers(dict.fromkeys(some, 0.0), faster=0.0).endswith("There are no intruders to scale back.")


def test_rank_and_its_best_rate():
    def of(key: tuple) -> dict:
        rule, rank, seed = key
        best = 0.01 * (rank**-0.5 if rule == "2r" else 1.0)
        return {"lr": best, "loss": 2.25 - (0.05 if rank == 64 else 0.0)}

    text = sentence("rank", of)
    says(
        text,
        "rank 64 saves +0.050 (",
        "With alpha = 2r, it falls to 0.12 times what it was (0.12 to 0.12).",
    )
    says(text, "With alpha = 16, it is not shown to change: it comes to 1 times what it was (1 to 1).")


def test_lora_lags_with_large_batches():
    text = sentence("batch-size", lambda key: {"domain": 2.5 + 0.05 * (key[:2] == ("lora", 64))})
    says(text, "by 0.000 ± 0.000 with batches of 2 and by 0.050 ± 0.000 with batches of 64")


def test_reading_gains_or_is_not_shown_to():
    def numbers(scatter: float):
        gain = {"full": 0.02, "sgd": 0.03, "lora": 0.01, "norms": 0.005}
        of = lambda key: {"parts": [gain[key[1]] + scatter * (key[2] - 2)] * 8}  # noqa: E731
        return sentence("dynamic-evaluation", of)

    best = "On numpy-docs, which costs 2.500 bits/character without such steps, the gain is largest with all weights,"
    says(numbers(0.0001), best, "plain steps: +0.240 (+0.237 to +0.243), or 10 %. It is smallest with norms: +0.040 (")
    says(numbers(0.0001), "0 of the 8 gains are not shown to be above 0.")
    says(numbers(0.01), "8 of the 8 gains are not shown")


def test_gptq_against_the_nearest_code():
    def numbers(int4: float):
        lost = {("int4", "nearest"): 0.006, ("int4", "gptq"): int4, ("nf4", "nearest"): 0.004, ("nf4", "gptq"): 0.002}
        off = {"nearest": (0.01, 0.002), "gptq": (0.02, 0.001)}

        def of(key: tuple) -> dict:
            weights, outputs = off[key[1]]
            noise = 0.0001 * key[2] * (key[1] == "gptq")
            return {"lost": lost[key[:2]] + noise, "weights_off": weights, "outputs_off": outputs}

        return sentence("gptq", of)

    says(numbers(0.001), "INT4 by GPTQ loses less than NF4 by the nearest code: −0.0027", "2.0 times", "0.50 times")
    says(numbers(0.0065), "loses more than NF4")
    says(numbers(0.0037), "is not told apart from NF4")
