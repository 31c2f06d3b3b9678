"""Studies that reproduce the shapes of published figures in small: one file per study, and this registry.

A study more is a file with its class, and a name in the list below.
"""

from minilora.errors import MiniloraError, unknown
from minilora.measure.studies.adapter_width import AdapterWidth
from minilora.measure.studies.capacity import Capacity
from minilora.measure.studies.data_types import DataTypes
from minilora.measure.studies.forgetting import Forgetting
from minilora.measure.studies.intruders import Intruders
from minilora.measure.studies.low_data import LowData
from minilora.measure.studies.merge_trap import MergeTrap
from minilora.measure.studies.prefix_length import PrefixLength
from minilora.measure.studies.prompting import Prompting
from minilora.measure.studies.rank import Rank
from minilora.measure.studies.strength import Strength
from minilora.measure.studies.study import Study
from minilora.measure.studies.targets import Targets

ALL = (
    Rank,
    Targets,
    DataTypes,
    AdapterWidth,
    PrefixLength,
    LowData,
    Forgetting,
    Strength,
    Prompting,
    MergeTrap,
    Capacity,
    Intruders,
)
STUDIES: dict[str, type[Study]] = {study.name: study for study in ALL}


def find(name: str) -> type[Study]:
    """The study called so. Raises MiniloraError with the nearest name."""
    if name not in STUDIES:
        raise MiniloraError(unknown("study", name, STUDIES))
    return STUDIES[name]
