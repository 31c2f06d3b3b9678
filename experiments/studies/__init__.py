"""Studies that reproduce published findings in small: one file per study, and this registry.

To add a study, write a file with its class and add the class to the list below.
"""

from experiments.studies.adapter_width import AdapterWidth
from experiments.studies.batch_size import BatchSize
from experiments.studies.capacity import Capacity
from experiments.studies.data_types import DataTypes
from experiments.studies.dynamic_evaluation import DynamicEvaluation
from experiments.studies.gptq import Gptq
from experiments.studies.intruders import Intruders
from experiments.studies.low_data import LowData
from experiments.studies.merge_trap import MergeTrap
from experiments.studies.prefix_length import PrefixLength
from experiments.studies.prompting import Prompting
from experiments.studies.rank import Rank
from experiments.studies.replay import Replay
from experiments.studies.retention import Retention
from experiments.studies.strength import Strength
from experiments.studies.study import Study
from experiments.studies.targets import Targets
from minilora.errors import MiniloraError, unknown

ALL = (
    Rank,
    Targets,
    DataTypes,
    AdapterWidth,
    PrefixLength,
    LowData,
    Replay,
    Retention,
    Strength,
    Prompting,
    MergeTrap,
    Capacity,
    Intruders,
    BatchSize,
    DynamicEvaluation,
    Gptq,
)
STUDIES: dict[str, type[Study]] = {study.name: study for study in ALL}


def find(name: str) -> type[Study]:
    """Return the study called `name`. Raises MiniloraError with the nearest name."""
    if name not in STUDIES:
        raise MiniloraError(unknown("study", name, STUDIES))
    return STUDIES[name]
