"""The study of which matrices LoRA should change with a fixed number of parameters."""

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings
from minilora.measure.statistics import Interval
from minilora.models.llama import LlamaForCausalLM
from minilora.nn import Linear
from minilora.quant import linears_of_blocks
from minilora.show.grids import Grid, show_signed
from minilora.show.style import LOOKS, single, styled
from minilora.train.methods import Options

BOTH = "q_proj,v_proj"
ATTENTION = "q_proj,k_proj,v_proj,o_proj"
MLP = "gate_proj,up_proj,down_proj"
ALL = "all-linear"
WORDS = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "o",
    BOTH: "q + v",
    ATTENTION: "all attention",
    MLP: "all MLP",
    ALL: "all linears",
}
SPREAD = 2  # rank over all linears that sets the number of parameters


def options(model: LlamaForCausalLM, names: str) -> Options:
    """Return the rank at which `names` have most nearly as many parameters as all linears have at rank SPREAD."""
    rank = max(1, round(SPREAD * cost(model, ALL) / cost(model, names)))
    return Options(rank=rank, targets=names if names == ALL else names.split(","))


def cost(model: LlamaForCausalLM, names: str) -> int:
    """Return the parameters of an update of rank 1 to the modules in `names`, separated by commas."""
    targets = names.split(",")
    linears = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    return sum(
        linear.in_features + linear.out_features
        for path, linear in linears.items()
        if isinstance(linear, Linear) and (names == ALL or path.rpartition(".")[2] in targets)
    )


class Targets(Study):
    name = "targets"
    question = "Which matrices should LoRA change?"
    published = (
        "On WikiSQL, LoRA on q, k, v or o alone reaches 70.4, 70.0, 73.0 and 73.2 %, on q + v and on all four 73.7 % "
        "(Hu et al. 2021, table 5). The MLP's matrices learn more than attention's, which add nothing to them "
        "(Schulman et al. 2025, LoRA without regret)."
    )
    full = StudySettings(values=tuple(WORDS))
    quick = full.quick()
    large = full.large(values=(BOTH, ATTENTION, MLP, ALL))

    @staticmethod
    def runs(settings: StudySettings) -> list[tuple]:
        return [("targets", names) for names in settings.values]

    @staticmethod
    def measure(bench: Bench, kind: str, names: str, seed: int) -> dict:
        chosen = options(bench.lab.base(), names)
        rate = bench.text_rate("lora", chosen, ("lora", names))
        return bench.adapted("lora", rate, seed, chosen) | {"rank": chosen.rank}

    def rank_of(self, names: str) -> int:
        return self.first("rank", "targets", names)

    def grid(self) -> Grid:
        rows = []
        for names in self.values:
            start, more = ("targets", names), "–"
            if names != BOTH:
                more = self.gains(start, ("targets", BOTH), len(self.values) - 1).show(3)
            gained, forgot = self.gained(*start), show_signed(self.forgot(*start).mean)
            rows.append((WORDS[names], str(self.rank_of(names)), gained.show(3), more, forgot))
        return Grid(
            "LoRA on different matrices",
            ("matrices", "r", "gained", f"more than\n{WORDS[BOTH]}", "forgot"),
            rows,
            "Bits/char saved on held-out numpy-docs, and lost on held-out python-docs. More than q + v: the "
            "difference in bits gained, with 95 % intervals corrected for the column. "
            f"{self.in_words()}",
        )

    @styled
    def figure(self):
        """Bits per character that LoRA gains on NumPy's documentation when nearly the same number of parameters is
        spent on different matrices; bars are standard deviations over seeds.
        """
        figure, axes = single("Which matrices: one budget, spread in different ways")
        gains = [self.gained("targets", names) for names in self.values]
        labels = [f"{WORDS[names]} (r = {self.rank_of(names)})" for names in self.values]
        look = LOOKS["lora"] | {"linestyle": ""}
        axes.errorbar([one.mean for one in gains], labels, xerr=[one.deviation for one in gains], **look, markersize=9)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.08)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("bits/character gained on the domain (more is better)")
        return figure

    def mlp_lead(self) -> Interval:
        """Return how many more bits per character the MLP's matrices gain than attention's."""
        return self.gains(("targets", MLP), ("targets", ATTENTION))

    def sentence(self) -> str:
        gains = {WORDS[names]: self.gained("targets", names) for names in self.values}
        count = sum(self.first("trainable", "targets", names) for names in self.values) / len(self.values)
        least, *_, most = sorted(gains, key=lambda words: gains[words].mean)
        usual = f" On {WORDS[BOTH]}, the usual choice, it gains {gains[WORDS[BOTH]].show(3)}."
        return (
            f"LoRA had about {float(f'{count:.2g}'):,.0f} parameters to train, whichever matrices they were put on. It "
            f"gains least on {least}, {gains[least].show(3)} bits/character, and most on {most}, "
            f"{gains[most].show(3)}.{usual * (WORDS[BOTH] not in (least, most))}"
        )
