"""Which matrices should a fixed number of parameters change?"""

from experiments.bench import Bench
from experiments.studies.study import Study, StudySettings, compared
from minilora.models.llama import LlamaForCausalLM
from minilora.nn import Linear
from minilora.quant import linears_of_blocks
from minilora.show.grids import Grid, show_count
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
        return self.learned_grid("LoRA with one budget on different matrices", ("matrices", "r"), rows)

    @styled
    def figure(self):
        """What each choice of matrices learns with the same number of parameters."""
        figure, axes = single("Which matrices: one budget, spread in different ways")
        gains = [self.gained("targets", names) for names in self.values]
        labels = [f"{WORDS[names]} (r = {self.rank_of(names)})" for names in self.values]
        look = LOOKS["lora"] | {"linestyle": ""}
        axes.errorbar([one.mean for one in gains], labels, xerr=[one.half_range for one in gains], **look, markersize=9)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.08)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("bits/character gained on the domain (more is better)")
        return figure

    def sentence(self) -> str:
        of_attention = f"{self.attention_sentence()} " if set(SINGLE) & set(self.values) else ""
        return of_attention + self.mlp_sentence()

    def mlp_sentence(self) -> str:
        """Return the MLP against attention, and against both, by pairs of one seed."""
        count = {names: show_count(self.first("trainable", "targets", names)) for names in (MLP, ATTENTION, ALL)}
        over, both = (
            self.paired("domain", ("targets", other), ("targets", one)) for one, other in ((MLP, ATTENTION), (ALL, MLP))
        )
        neither = "the seeds do not agree" if len(self.settings["seeds"]) > 1 else "level"
        leads = {1: "as published", 0: "so the published lead does not show", -1: "unlike published"}
        adds = {
            1: "unlike published: attention's matrices add to the MLP's",
            0: "so attention's matrices add nothing that shows, as published",
            -1: "attention's matrices add nothing, as published",
        }
        order = {1: f"more {self.with_seeds}, ", 0: f"{neither}, ", -1: f"less {self.with_seeds}: "}
        return (
            f"With {count[MLP]} parameters, the MLP's matrices gain {over.show()} bits/character against attention's "
            f"with {count[ATTENTION]}: {order[over.sign]}{leads[over.sign]}. All linears with {count[ALL]} gain "
            f"{both.show()} against the MLP's: {order[both.sign]}{adds[both.sign]}."
        )

    def attention_sentence(self) -> str:
        """q + v against one matrix alone, and what learns most."""
        gains = {names: self.gained("targets", names) for names in self.values}
        best = max(gains, key=lambda names: gains[names].mean)
        alone = max((names for names in SINGLE if names in gains), key=lambda names: gains[names].mean)
        both, one = gains[BOTH], gains[alone]
        verdict = {
            "ahead of": "spreading a budget over both wins, as published",
            "level with": "the published lead of q + v does not show beyond the seeds' scatter",
            "behind": "unlike the published table, one matrix of higher rank wins",
        }
        order = compared(both, one, "ahead of", "behind")
        said = (
            f"q + v at rank {self.rank_of(BOTH)} gains {both.show(3)} bits/character, {order} the best matrix alone, "
            f"{WORDS[alone]} at rank {self.rank_of(alone)} ({one.show(3)}): {verdict[order]}. "
        )
        if best == BOTH:
            return said + "No other choice learns more."
        order = compared(gains[best], both, "more than q + v", "less than q + v", "which is level with q + v")
        return (
            f"{said}Most is learned with {WORDS[best]} at rank {self.rank_of(best)} ({gains[best].show(3)}), {order}."
        )
