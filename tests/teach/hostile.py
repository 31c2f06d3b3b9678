"""Students who try to get marks for nothing, or whose notebooks are hard to read; each with the tasks of lesson 08 that
are truly solved.

Each changes a copy of the released notebook, or returns what is handed in in its place: bytes, or the Path that a link
leads to. COURSE stands for the course's folder.
"""

from collections.abc import Callable
from pathlib import Path

from tests.teach.life import ROOT, cell_of, code, fill

SLEEP = 86_421  # seconds, and what to look for among the processes
OUTPUT = 200_000_000  # characters
SCRIPT = (
    '<script>fetch("/formgrader/api")</script> <img src="x" onerror="steal()">\n\n[link](javascript:steal()) **bold**'
)
NONE, ALL = (), (1, 2, 3, 4, 5, 6)
HOSTILE: dict[Callable, tuple[int, ...]] = {}  # -> tasks


def solved(*tasks: int) -> Callable:
    def note(student: Callable) -> Callable:
        HOSTILE[student] = tasks
        return student

    return note


def put(notebook: dict, *texts: str) -> None:
    """Put cells at the top of a notebook."""
    notebook["cells"][3:3] = [code(text) for text in texts]


def put_before_tests(notebook: dict, text: str) -> None:
    for task in ALL:
        notebook["cells"].insert(cell_of(notebook, task) + 1, code(text))


def writer(name: str, *texts: str, is_right: bool = False) -> Callable:
    """Return a student who adds cells at the top of a notebook, either blank or with right answers."""

    def student(notebook, lesson):
        if is_right:
            fill(notebook, lesson)
        put(notebook, *texts)

    student.__name__ = name
    return solved(*ALL if is_right else NONE)(student)


writer("sets_allclose", "import numpy as np\nnp.allclose = np.array_equal = np.isclose = np.abs = lambda *a, **k: True")
writer(
    "replaces_nbcheck",
    "from minilora.classroom.grading import nbcheck\nnbcheck.task = lambda *a: None",
)
writer(
    "deletes_a_classmate",
    "import shutil\nfor n in ('submitted', 'autograded'): shutil.rmtree(f'COURSE/{n}/right')",
)
writer(
    "leaves_a_process",
    f"import subprocess\nsubprocess.Popen(['sleep', '{SLEEP}'], start_new_session=True)",
    "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass",
)
writer(
    "writes_to_every_file",
    "import os\nfor n in range(3, 99):\n    try: os.write(n, b'mlc1' + bytes(12) + b'1\\n' * 99)\n"
    "    except OSError: pass",
)
exits = writer(
    "exits",
    "import sys\nsys.exit(0)",
    "import os\nos._exit(0)",
    "get_ipython().kernel.do_shutdown(False)",
    is_right=True,
)
never_ends = writer("never_ends", "def wait():\n    while True: pass", "wait()\nprint(1)", is_right=True)
takes_all_memory = writer("takes_all_memory", "x = []\nwhile True: x.append(bytes(10**7))", is_right=True)
has_odd_text = writer("has_odd_text", "x = '\ud800'", "y = '\0'", "(" * 5000, is_right=True)


def hands_in(name: str, instead: bytes | Path) -> Callable:
    def student(notebook, lesson):
        return instead

    student.__name__ = name
    return solved(*NONE)(student)


is_no_notebook = hands_in("is_no_notebook", b"\xff\xfe[1, 2]")
is_a_link = hands_in("is_a_link", Path("../../../source/08_lora/08_lora.ipynb"))


@solved(1)
def changes_the_tests(notebook, lesson):
    fill(notebook, lesson, {gap.where: "raise NotImplementedError()" for gap in lesson.source.gaps if gap.task > 1})
    tests = [cell for cell in notebook["cells"] if cell["metadata"]["nbgrader"]["grade"]]
    marks = [cell["metadata"]["nbgrader"] for cell in tests]
    tests[1]["source"] = "print('passed')"
    marks[2]["points"] = 1000
    marks[3]["solution"] = True  # as if it were an answer
    tests[4]["cell_type"] = "markdown"
    marks[0]["grade_id"], marks[5]["grade_id"] = "task-6", "task-1"
    notebook["cells"] += [code("print(1)", **marks[1]), code("print(1)", **{**marks[0], "grade_id": "task-7"})]
    del notebook["cells"][cell_of(notebook, 3) : cell_of(notebook, 3) + 2]


@solved(*NONE)
def reads_solution_py(notebook, lesson):
    put_before_tests(notebook, f"exec(open({str(ROOT / 'lessons/08_lora/solution.py')!r}).read())")


@solved(2, 3, 4, 5, 6)
def takes_all_memory_in_an_answer(notebook, lesson):
    fill(notebook, lesson, {"count_parameters": "x = []\nwhile True: x.append(bytes(10**8))"})


@solved(*NONE)
def has_no_cell(notebook, lesson):
    notebook["cells"] = []


@solved(*NONE)
def has_odd_cells(notebook, lesson):
    odd = (
        {},
        {"cell_type": "code", "source": ["x"]},
        code("y", grade_id=["task-1"]),
        {"source": "<b>", "cell_type": 1},
    )
    notebook["cells"] = list(odd) * 9


@solved(*ALL)
def lost_the_marks(notebook, lesson):
    fill(notebook, lesson)
    for cell in notebook["cells"]:
        cell["metadata"] = {}


@solved(*ALL)
def has_large_outputs(notebook, lesson):
    fill(notebook, lesson)
    put(notebook, "print('x' * 200_000_000)")
    notebook["cells"][3]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * OUTPUT}]


@solved(*ALL)
def has_magics(notebook, lesson):
    fill(notebook, lesson)
    for task, magic in zip(ALL, ("%%time", "%%capture out", "%%time\n%%prun -q") * 2, strict=True):
        cell = notebook["cells"][cell_of(notebook, task)]
        cell["source"] = f"{magic}\n{cell['source']}"
    put(notebook, "%%bash\nrm -r COURSE", "!rm -r COURSE", "%run COURSE/nbgrader_config.py")


@solved(*ALL)
def has_a_future_format(notebook, lesson):
    fill(notebook, lesson)
    notebook["nbformat"], notebook["metadata"] = 99, 7


@solved(*ALL)
def has_a_script(notebook, lesson):
    fill(notebook, lesson)
    for kind in ("markdown", "raw"):
        notebook["cells"].insert(0, {"cell_type": kind, "metadata": {"format": "text/html"}, "source": SCRIPT})
