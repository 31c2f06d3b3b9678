"""Studies that reproduce the shapes of published figures in small: one file a study, and this registry.

A study more is a file with a `STUDY` and its name in the list below.
"""

from minilora.errors import MiniloraError, unknown
from minilora.measure.studies import (
    adapter_width,
    data_types,
    forgetting,
    low_data,
    merge_trap,
    prefix_length,
    prompting,
    rank,
    targets,
)
from minilora.measure.studies.study import Study

MODULES = (
    rank,
    targets,
    data_types,
    adapter_width,
    prefix_length,
    low_data,
    forgetting,
    prompting,
    merge_trap,
)
STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in MODULES}


def find(name: str) -> Study:
    """The study called so. Raises MiniloraError with the nearest name."""
    if name not in STUDIES:
        raise MiniloraError(unknown("study", name, STUDIES))
    return STUDIES[name]
