"""Which 4-bit codes harm a model least?"""

from dataclasses import replace

from ...backend import xp
from ...quant import Linear4bit, linears_of_blocks, quantize_model
from ...train.methods import Options
from ..drawing import LOOKS, figure_of, styled
from ..grids import Grid, Spread, show_signed
from ..records import Records
from .study import FULL, QUICK, Bench, Plan, Study, base_row, caption, listed, spread

FLOAT = "float32"
TYPES = {
    "nf4": {"quant_type": "nf4"},
    "nf4+dq": {"quant_type": "nf4", "double_quantization": True},
    "fp4": {"quant_type": "fp4"},
    "int4": {"quant_type": "int4"},
}
WORDS = {FLOAT: "float32", "nf4": "NF4", "nf4+dq": "NF4 + DQ", "fp4": "FP4", "int4": "INT4"}
BLOCKSIZE = 64


def cells(plan: Plan) -> list[tuple]:
    return [*(("base", name) for name in plan.values)] + [
        ("adapted", name, seed) for name in plan.values for seed in plan.seeds
    ]


def measure(bench: Bench, kind: str, name: str, seed: int = 0) -> dict:
    if kind == "base":
        return quantized(bench, name)
    rate = bench.text_rate("lora")
    if name == FLOAT:
        return bench.adapted("lora", rate, seed)
    return bench.adapted("qlora", rate, seed, Options(blocksize=BLOCKSIZE, **TYPES[name]))


def quantized(bench: Bench, name: str) -> dict:
    """The base in these codes: its quality, the bits that a weight takes and how far it is off."""
    lab, model = bench.lab, bench.lab.base()
    weights = {path: model.get_submodule(path).weight.data for path in linears_of_blocks(model)}
    bits, error = 32.0, 0.0
    if name != FLOAT:
        kind = TYPES[name]
        quantize_model(model, BLOCKSIZE, kind["quant_type"], kind.get("double_quantization", False))
        layers: dict[str, Linear4bit] = {path: model.get_submodule(path) for path in weights}
        off = sum(float(xp.abs(layer.dequantize() - weights[path]).sum()) for path, layer in layers.items())
        error = off / sum(float(xp.abs(weight).sum()) for weight in weights.values())
        bits = 8 * sum(layer.nbytes for layer in layers.values()) / sum(w.size for w in weights.values())
    facts, stream = bench.quality(model), lab.base_test
    perplexity = 2 ** (facts["base_text"] * stream.characters / (len(stream.ids) - 1))
    return facts | {"bits": bits, "error": error, "perplexity": perplexity}


def names(records: Records) -> list[str]:
    return records.header["settings"]["values"]


def lost(records: Records, name: str) -> float:
    """Bits a character that quantizing costs the base on its own text."""
    return records.rows["base", name]["base_text"] - base_row(records)["base_text"]


def grid(records: Records) -> Grid:
    rows = []
    for name in names(records):
        base = records.rows["base", name]
        rows.append(
            (
                WORDS[name],
                f"{base['bits']:.3f}",
                f"{100 * base['error']:.1f} %" if base["error"] else "–",
                f"{base['base_text']:.4f}",
                show_signed(lost(records, name)) if name != FLOAT else "–",
                f"{base['perplexity']:.2f}",
                spread(records, "domain", "adapted", name).show(3),
            )
        )
    first = (
        f"Blocks of {BLOCKSIZE}. Bits a weight and its mean error, of the blocks' linears; the quantized base on "
        "held-out python-docs, in bits/char, loss against float32, perplexity a token; after LoRA over it, bits/char "
        "on held-out numpy-docs."
    )
    counts = [spread(records, "domain", "adapted", name).count for name in names(records)]
    return Grid(
        "A base in 4 bits",
        ("type", "bits a\nweight", "error", "base\nbits/char", "lost", "perpl.", "adapted\nbits/char"),
        rows,
        caption(records, counts, first),
    )


@styled
def figure(records: Records):
    """What 4-bit codes cost the base, and what is left of it after adapting."""
    figure = figure_of("Data types: what 4 bits cost", 3.6)
    left, right = figure.subplots(1, 2, sharey=True)
    shown = names(records)
    words = [WORDS[name] for name in shown]
    left.barh(words, [lost(records, name) for name in shown], color=LOOKS["full"]["color"], height=0.6)
    left.set_title("the base, on its own text", fontsize=11, loc="left")
    left.set_xlabel("bits/character lost")
    left.invert_yaxis()
    found = [spread(records, "domain", "adapted", name) for name in shown]
    look = LOOKS["qlora"] | {"linestyle": "", "markersize": 8}
    right.errorbar([one.mean for one in found], words, xerr=[one.half_range for one in found], **look)
    right.set_title("after QLoRA, on the domain", fontsize=11, loc="left")
    right.set_xlabel("bits/character (less is better)")
    right.margins(x=0.15)
    right.locator_params(axis="x", nbins=4)
    return figure


def sentence(records: Records) -> str:
    four = sorted((name for name in names(records) if name != FLOAT), key=lambda name: lost(records, name))
    losses = listed(f"{WORDS[name]} {show_signed(lost(records, name))}" for name in four)
    place = {name: four.index(name) for name in four}
    right = place["nf4+dq"] < place["fp4"] < place["int4"]
    said = f"Quantizing costs the base, in bits/character on its own text: {losses}; "
    if right:
        said += "NF4 before FP4 before INT4, as published. "
    else:
        ours = " before ".join(WORDS[name] for name in four if name in ("nf4+dq", "fp4", "int4"))
        said += f"{ours}, where the published order is NF4 + DQ before FP4 before INT4. "
    after: dict[str, Spread] = {name: spread(records, "domain", "adapted", name) for name in names(records)}
    apart = [name for name in four if not after[name].overlaps(after[FLOAT])]
    if not apart:
        return said + "After QLoRA all types are level with LoRA over float32 within the seeds' scatter."
    worse = [f"{WORDS[name]} ({after[name].show(3)})" for name in apart]
    return said + f"After QLoRA, {listed(worse)} differ from LoRA over float32 ({after[FLOAT].show(3)})."


STUDY = Study(
    name="data-types",
    question="Which 4-bit codes harm a model least, before and after QLoRA?",
    published="Mean perplexity of models of 125 M to 13 B parameters: INT4 34.34, FP4 31.07 (E2M1) and 29.48 (E3M0), "
    "NF4 with double quantization 27.41 (Dettmers et al. 2023, table 2); QLoRA then matches 16-bit fine-tuning.",
    full=replace(FULL, values=(FLOAT, *TYPES)),
    quick=replace(QUICK, values=(FLOAT, *TYPES)),
    cells=cells,
    measure=measure,
    grid=grid,
    figure=figure,
    sentence=sentence,
)
