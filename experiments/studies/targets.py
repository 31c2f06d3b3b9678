"""Which matrices should a fixed number of parameters change?"""

from experiments.bench import Bench
from experiments.studies.study import NEAR, Study, StudySettings, compared, seen
from minilora.measure.statistics import Interval
from minilora.models.llama import LlamaForCausalLM
from minilora.nn import Linear
from minilora.quant import linears_of_blocks
from minilora.show.grids import Grid, listed, show_count
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
SINGLE = ("q_proj", "k_proj", "v_proj", "o_proj")
SPREAD = 2  # the rank over all linears that sets the number of parameters


def options(model: LlamaForCausalLM, names: str) -> Options:
    """Return the rank with which `names` come nearest to the parameters of rank SPREAD over all linears."""
    rank = max(1, round(SPREAD * cost(model, ALL) / cost(model, names)))
    return Options(rank=rank, targets=names if names == ALL else names.split(","))


def cost(model: LlamaForCausalLM, names: str) -> int:
    """Return parameters of an update of rank 1 over the modules called so."""
    chosen = names.split(",")
    linears = {path: model.get_submodule(path) for path in linears_of_blocks(model)}
    return sum(
        linear.in_features + linear.out_features
        for path, linear in linears.items()
        if isinstance(linear, Linear) and (names == ALL or path.rpartition(".")[2] in chosen)
    )


class Targets(Study):
    name = "targets"
    question = "Which matrices should LoRA change with a fixed number of parameters?"
    published = (
        "WikiSQL: 70.4, 70.0, 73.0 and 73.2 % for q, k, v and o alone at r = 8; 73.7 % for q + v at r = 4 and for all "
        "four at r = 2 (Hu et al. 2021, table 5). With as many parameters, attention's matrices alone learn less than "
        "the MLP's alone, and attention's add nothing to the MLP's (Schulman et al. 2025, LoRA without regret)."
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
        rows = {(WORDS[names], str(self.rank_of(names))): ("targets", names) for names in self.values}
        title, beside = "LoRA with one budget on different matrices", ("targets", BOTH)
        return self.learned_grid(title, ("matrices", "r"), rows, beside=beside)

    @styled
    def figure(self):
        """What each choice of matrices learns with the same number of parameters."""
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

    def sentence(self) -> str:
        of_attention = f"{self.attention_sentence()} " if set(SINGLE) & set(self.values) else ""
        return of_attention + self.mlp_sentence()

    def mlp_lead(self, names: str = MLP, other: str = ATTENTION) -> Interval:
        """Return by how much the MLP's matrices gain more than attention's, corrected for two comparisons."""
        return self.gains(("targets", names), ("targets", other), 2)

    def mlp_sentence(self) -> str:
        """Return the MLP against attention, and against both."""
        count = {names: show_count(self.first("trainable", "targets", names)) for names in (MLP, ATTENTION, ALL)}
        over, both = self.mlp_lead(), self.mlp_lead(ALL, MLP)
        leads = compared(over, "more, as published", "less, unlike published", "undecided")
        adds = compared(both, "unlike published, attention's matrices add to the MLP's", "less", "undecided")
        if both.high <= NEAR * self.gained("targets", MLP).mean:
            adds = f"attention's matrices add less than {100 * NEAR:.0f} % to the MLP's gain, as published"
        return (
            f"With {count[MLP]} parameters, the MLP's matrices gain {over.show(3)} bits/character against attention's "
            f"with {count[ATTENTION]}: {leads}. All linears with {count[ALL]} gain {both.show(3)} against the MLP's: "
            f"{adds}.{seen([over, both])}"
        )

    def attention_sentence(self) -> str:
        """Return q + v against every other choice, and what that says of one matrix alone."""
        others = [names for names in self.values if names != BOTH]
        leads = {n: self.gains(("targets", BOTH), ("targets", n), len(others)) for n in others}
        orders = {n: compared(leads[n], "more than", "less than") for n in others}
        alone = [orders[names] for names in SINGLE if names in orders]
        published = "over each matrix alone is undecided"
        if "less than" in alone:
            published = "does not show: one matrix of higher rank wins"
        elif set(alone) == {"more than"}:
            published = "over each matrix alone shows"
        groups: dict[str, list[str]] = {}
        for n in others:
            groups.setdefault(orders[n], []).append(WORDS[n])
        return (
            f"q + v at rank {self.rank_of(BOTH)} gains {self.gained('targets', BOTH).show(3)} bits/character, "
            f"{', '.join(f'{order} {listed(names)}' for order, names in groups.items())}. The published lead of q + v "
            f"{published}.{seen(leads.values())}"
        )
