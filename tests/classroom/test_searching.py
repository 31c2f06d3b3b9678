"""pytest tests/classroom/test_searching.py: what a search finds in wrong answers, and what every function owes."""

import copy
from types import ModuleType

import numpy as np
import pytest

from minilora import nn
from minilora.classroom.grading.grade import FAILED, PASSED, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.lesson import Lesson
from minilora.classroom.sandbox.duties import Duties
from minilora.errors import MiniloraError
from minilora.quant import quantize_4bit
from tests.helpers.answers import with_answers
from tests.saboteurs.tried import NOTICED, try_all

pytestmark = pytest.mark.host

SOLUTION = '''
import numpy as np

from minilora import Tensor, nn


def shares(scores: np.ndarray, temperature: float) -> np.ndarray:
    """scores (..., n) -> float64 (..., n), each row positive with the sum 1."""
    ### BEGIN SOLUTION task 1: softmax
    powers = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature).astype("float64")
    return powers / powers.sum(axis=-1, keepdims=True)
    ### END SOLUTION


def ends(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest of scores (n,), each (1,)."""
    ### BEGIN SOLUTION task 4: both ends
    return scores.min(keepdims=True), scores.max(keepdims=True)
    ### END SOLUTION


class Gate(nn.Module):
    """weight: what x is multiplied by."""

    def __init__(self, weight: np.ndarray):
        ### BEGIN SOLUTION task 2: a gate
        self.weight = nn.Parameter(weight)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION task 2: a gate
        return x * self.weight
        ### END SOLUTION


def noise(n: int, seed: int) -> np.ndarray:
    """n numbers between 0 and 1, random by seed."""
    ### BEGIN SOLUTION task 3: noise
    return np.random.default_rng(seed).random(n)
    ### END SOLUTION
'''
CHECKS = """
import numpy as np

from minilora.classroom import promise, search, task

USES = ("minilora.Tensor", "minilora.nn")
PROMISES = {
    "shares": promise(within="further axes"),
    "Gate.__init__": promise(outside="trains False, trains True"),
}


def scores(d):
    return d.array(*d.shape((0, 1, 2)), d.size()), d.number(1.0, 0.5, 3.0)


@task(1, hints=("vague", "plainer", "plain"))
def sharing(student):
    search(student.shares, scores, dtypes=True)


@task(2, hints=("vague", "plainer", "plain"))
def gating(student):
    search(student.driver.gated, lambda d: [d.array(n := d.size()), d.array(d.size(), n)], hints={"dx": "No gradient."})


def facts_of_noise(result):
    return {
        "length": len(result["first"]),
        "between 0 and 1": result["first"].min() >= 0 and result["first"].max() <= 1,
        "by seed": (result["first"] == result["again"]).all() and not (result["first"] == result["other"]).any(),
    }


@task(3, hints=("vague", "plainer", "plain"))
def drawing(student):
    hints = {"by seed": "A seed gives its own numbers."}
    search(student.driver.drawn, lambda d: [d.number(2, 3, 5), d.number(0, 1, 7)], facts=facts_of_noise, hints=hints)


@task(4, hints=("vague", "plainer", "plain"))
def ending(student):
    search(student.ends, lambda d: [d.eighths(d.size())])
    student.ends(np.zeros(1)).value[0][0]
"""
DRIVER = '''
from minilora import Tensor


def gated(student, weight, x):
    """y = Gate(weight)(x); (y * y).sum().backward()"""
    x, gate = Tensor(x, requires_grad=True), student.Gate(weight)
    y = gate(x)
    (y * y).sum().backward()
    return {"y": y, "weight": gate.weight, "dx": x.grad, "dweight": gate.weight.grad}


def drawn(student, n, seed):
    """noise(n, seed), once more, and with another seed"""
    return {"first": student.noise(n, seed), "again": student.noise(n, seed), "other": student.noise(n, seed + 1)}
'''

POWERS = "powers = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature).astype('float64')"
RIGHT = f"{POWERS}\nreturn powers / powers.sum(axis=-1, keepdims=True)"
MEMORY = "kept = shares.__dict__.setdefault('kept', {})\n"

WRONG = {
    "overflow": (
        "powers = np.exp(np.asarray(scores, 'float64') / temperature)\nreturn powers / powers.sum(-1, keepdims=True)",
        "nan, not 1",
    ),
    "the argument changed": (f"{POWERS}\nscores -= 1\n{RIGHT}", "changed its argument scores"),
    "one buffer for all calls": (
        f"{MEMORY}{POWERS}\nbuffer = kept.setdefault(powers.shape, powers)\n"
        "buffer[...] = powers / powers.sum(axis=-1, keepdims=True)\nreturn buffer",
        "an earlier result of shares",
    ),
    "a number kept": (
        f"{MEMORY}temperature = kept.setdefault(0, temperature)\n{RIGHT}",
        "depends on temperature is kept",
    ),
    "a number ignored": (f"temperature = 1.0\n{RIGHT}", "elements differ"),
    "float32, and twice as much": (f"{RIGHT.replace('float64', 'float32')} * 2", "elements differ"),
}

REMARKED = {
    "float32": (RIGHT.replace("float64", "float32"), ["The dtype is float32, not float64"]),
    "a list": (
        f"{POWERS}\nreturn (powers / powers.sum(axis=-1, keepdims=True)).tolist()",
        ["It should be an array, not a list"],
    ),
}

KNOWN = (
    'hints={"dx": "No gradient."})',
    """hints={"y": "Another product.", "dx": "No gradient."})
    ones = np.array([2.0]), np.array([[1.0]])
    student.driver.gated(*ones)["y"].equals(np.array([[2.0]]), instead={"They are added.": np.array([[3.0]])})""",
)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lessons") / "98_shares"
    folder.mkdir()
    for name, text in {"solution": SOLUTION, "checks": CHECKS, "driver": DRIVER}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return Lesson(folder)


def changed(lesson, folder, *replacements) -> Lesson:
    """Return the lesson with other text in its files."""
    for name in ("solution", "checks", "driver"):
        text = (lesson.folder / f"{name}.py").read_text("utf-8")
        for old, new in replacements:
            text = text.replace(old, new)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return Lesson(folder.rename(folder.with_name(f"97_{folder.name}")))


def graded(lesson, sandbox, folder, answers, task=1):
    (folder / "answer.py").write_text(with_answers(lesson.source, answers), encoding="utf-8")
    return grade(lesson, Submission(folder / "answer.py", lesson), sandbox, task)[0]


def test_the_solution_agrees_with_itself(lesson, sandbox, tmp_path):
    assert {graded(lesson, sandbox, tmp_path, {}, task).verdict for task in (1, 2, 3, 4)} == {PASSED}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_found(lesson, sandbox, tmp_path, name):
    code, hint = WRONG[name]
    first = graded(lesson, sandbox, tmp_path, {"shares": code})
    assert first.verdict == FAILED and hint in first.hint, first
    assert graded(lesson, sandbox, tmp_path, {"shares": code}) == first  # the same inputs each time


@pytest.mark.parametrize("name", REMARKED)
def test_an_answer_that_breaks_a_fine_clause_alone_gets_a_remark(lesson, sandbox, tmp_path, name):
    code, remarks = REMARKED[name]
    result = graded(lesson, sandbox, tmp_path, {"shares": code})
    assert result.verdict == PASSED and len(result.remarks) == len(remarks), result
    assert all(any(words in remark for remark in result.remarks) for words in remarks), result.remarks


FINE = (
    "def scores(d):\n    return ",
    "def scores(d):\n    d.dtype = d.fine('Wrong in float32.', 'float64', 'float32')\n    return ",
)


@pytest.mark.parametrize(
    "code, verdict, remarks",
    [
        (RIGHT, PASSED, []),
        (f"{RIGHT} + (scores.dtype == 'float32')", PASSED, ["Wrong in float32."]),
        (f"{RIGHT} + (scores.dtype == 'float32') + (scores.shape[-1] == 3)", FAILED, []),
        (f"if scores.dtype == 'float32': raise TypeError\n{RIGHT}", PASSED, ["Wrong in float32."]),
        (f"{MEMORY}kept[0] = kept.get(0, 0) + (scores.dtype == 'float32')\n{RIGHT} + (kept[0] > 2)", FAILED, []),
    ],
)
def test_inputs_of_a_fine_clause_cost_a_remark_and_hide_nothing(lesson, sandbox, tmp_path, code, verdict, remarks):
    fine = changed(lesson, tmp_path, FINE)
    result = graded(fine, sandbox, fine.folder, {"shares": code})
    assert (result.verdict, result.remarks) == (verdict, remarks), result


INSTEAD = (
    "search(student.shares, scores, dtypes=True)",
    "search(student.shares, scores, instead=lambda s, t: {'Twice.': 2 * right(s, t), 'Once too often.': wrong(s, t)})",
)
RULES = """def right(s, t):
    p = np.exp((s - s.max(axis=-1, keepdims=True)) / t)
    return p / p.sum(-1, keepdims=True)


def wrong(s, t):
    return right(s, t) + (s.shape[-1] == 3)


"""


def test_a_case_that_a_search_found_gets_the_hint_of_the_mistake_that_explains_all(lesson, sandbox, tmp_path):
    knowing = changed(lesson, tmp_path, INSTEAD, ("@task(1", f"{RULES}@task(1"))
    hints = {f"{RIGHT} * 2": "Twice.", f"{RIGHT} + (scores.shape[-1] == 3)": "Once too often."}
    for code, hint in hints.items():
        assert hint in graded(knowing, sandbox, knowing.folder, {"shares": code}).hint
    neither = graded(knowing, sandbox, knowing.folder, {"shares": f"{RIGHT} + 0.5 * (scores.shape[-1] == 3)"})
    assert "Twice." not in neither.hint and "Once" not in neither.hint and "differ" in neither.hint


def test_the_smallest_inputs_are_shown(lesson, sandbox, tmp_path):
    result = graded(lesson, sandbox, tmp_path, {"shares": f"{RIGHT} + (scores.shape[-1] == 3)"})
    assert "scores = [" in result.call and len(result.call.partition("[")[2].partition("]")[0].split()) == 3, (
        result.call
    )


def test_a_gradient_that_is_cut_is_named(lesson, sandbox, tmp_path):
    result = graded(lesson, sandbox, tmp_path, {"Gate.forward": "return x.detach() * self.weight"}, 2)
    assert result.verdict == FAILED and "No gradient." in result.hint


def test_a_report_shows_the_first_part_that_is_wrong(lesson, sandbox, tmp_path):
    result = graded(lesson, sandbox, tmp_path, {"Gate.forward": "return x * self.weight + 1"}, 2)
    assert "part ['y']" in result.call and "{" not in result.expected + result.got, result


@pytest.mark.parametrize(
    "code, hint",
    [
        ("return np.random.default_rng([seed, n]).random(n)", None),  # other numbers that the facts allow
        ("return np.random.default_rng(seed).normal(size=n)", "['between 0 and 1']"),
        ("return np.random.default_rng(0).random(n)", "its own numbers"),
        ("return 3", "should be"),
    ],
)
def test_facts_are_compared_where_numbers_are_free(lesson, sandbox, tmp_path, code, hint):
    result = graded(lesson, sandbox, tmp_path, {"noise": code}, 3)
    assert (result.verdict == PASSED) if hint is None else hint in result.hint + result.call, result


def test_a_result_that_is_a_part_of_the_argument_gets_a_remark(lesson, sandbox, tmp_path):
    code = "i, j = scores.argmin(), scores.argmax()\nreturn scores[i : i + 1], scores[j : j + 1]"
    result = graded(lesson, sandbox, tmp_path, {"ends": code}, 4)
    assert result.verdict == PASSED and "shares memory with scores" in result.remarks[0], result
    result = graded(lesson, sandbox, tmp_path, {"ends": code.replace("1]", "1].copy()")}, 4)
    assert result.verdict == PASSED and not result.remarks


def test_a_part_of_another_kind_is_wrong_whatever_the_check_does_with_it(lesson, sandbox, tmp_path):
    result = graded(lesson, sandbox, tmp_path, {"ends": "return {'a': scores}, 1"}, 4)
    assert result.verdict == FAILED and "It should be an array" in result.hint, result


def test_a_mistake_that_a_check_knows_goes_before_what_a_part_means(lesson, sandbox, tmp_path):
    knowing = changed(lesson, tmp_path, KNOWN)
    added, stored = "return x + self.weight", "return x * Gate.forward.__dict__.setdefault(0, self.weight)"
    assert "They are added." in graded(knowing, sandbox, knowing.folder, {"Gate.forward": added}, 2).hint
    assert "kept" in graded(knowing, sandbox, knowing.folder, {"Gate.forward": stored}, 2).hint


def test_a_search_of_inputs_that_the_solution_refuses_is_no_check(lesson, sandbox, tmp_path):
    useless = changed(lesson, tmp_path, ("lambda d: [d.eighths(d.size())]", "lambda d: [7]"))
    with pytest.raises(MiniloraError, match="the search of ends compares nothing"):
        graded(useless, sandbox, useless.folder, {}, 4)


def test_what_ends_the_process_in_a_search_is_told(lesson, sandbox, tmp_path):
    result = graded(lesson, sandbox, tmp_path, {"shares": "import os\nos._exit(1)"})
    assert result.verdict == FAILED and "ended before it gave an answer" in result.got, result


def test_what_is_raised_for_some_numbers_is_told(lesson, sandbox, tmp_path):
    code = "if seed == 7: raise ValueError\nreturn 1.0"  # of no axis, as an exception on the other side is
    assert graded(lesson, sandbox, tmp_path, {"noise": code}, 3).verdict == FAILED


def model() -> nn.Module:
    module = nn.Module()
    module.layers = [nn.Dropout(0.5, seed=0), nn.Dropout(0.5, seed=0)]
    return module


CASE = {"bar": 2.5, "options": [{"cost": 3.0, "W": np.ones(2)}, {"cost": 1.0}]}
BREACHES = [
    ("x['options'][1]['cost'] = 2.0", CASE, ("changed", "x['options'][1]['cost']", 1.0, 2.0)),
    ("x['options'][0]['W'][0] = 2.0", CASE, ("changed", "x['options'][0]['W']")),
    ("x['options'][0]['total'] = 7", CASE, ("changed", "x['options'][0]")),
    ("x.absmax[0] = 2.0", quantize_4bit(np.ones((2, 3), "float32"))[1], ("changed", "x.absmax")),
    ("x.layers[1].eval()", model(), ("mode", "the mode of x.layers.1", "training", "evaluation")),
    ("x[1].eval()", [nn.RMSNorm(2), nn.RMSNorm(2)], ("mode", "the mode of x[1]")),
    ("x.append(1.0); x.pop()", [float("nan")], (None,)),
    ("x.layers.append(x.layers[0])", model(), (None,)),
]


@pytest.mark.parametrize("body, argument, facts", BREACHES)
def test_what_is_deep_in_an_argument_may_not_change_either(body, argument, facts):
    student = ModuleType("exercise")
    exec(f"def f(x): {body}", vars(student))
    duties = Duties(student, {"f": []})
    duties.watch()
    student.f(copy.deepcopy(argument))
    recorded = [(duties.breach or {}).get(name) for name in ("duty", "name", "before", "after")]
    assert recorded[: len(facts)] == [*facts]


@pytest.mark.slow
def test_saboteurs_are_noticed(lesson, sandbox):
    trials = try_all(lesson, sandbox)
    assert [str(trial.saboteur) for trial in trials if trial.counts and trial.verdict != NOTICED] == []
    kinds = {trial.saboteur.kind for trial in trials if trial.verdict == NOTICED}
    assert kinds >= {"remembers", "keeps", "cuts_gradient", "another_dtype", "lacks"}
    assert kinds >= {"wrong_where", "wrong_later"}


def test_a_saboteur_survives_a_check_that_asks_too_little(lesson, sandbox, tmp_path):
    weak = changed(lesson, tmp_path, ("d.shape((0, 1, 2)), d.size()", "(1, 2)"), ("(1.0, 0.5, 3.0)", "(1.0)"))
    weak = try_all(weak, sandbox, only="shares")
    missed = [one.saboteur for one in weak if one.counts and one.verdict != NOTICED]
    survivors = {f"{one.kind} {one.what}" for one in missed}
    assert {"wrong_where further axes", "keeps temperature"} <= survivors
