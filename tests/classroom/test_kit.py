"""pytest tests/classroom/test_kit.py: a kit for students, which has no answers and comes to the same verdicts."""

import base64
import hashlib
import io
import zipfile

import pytest

from minilora.classroom.grading.grade import PASSED, grade
from minilora.classroom.grading.submission import Submission
from minilora.classroom.lessons.kit import KIT, pack_kit, read_kit
from minilora.classroom.lessons.lesson import Lesson, find_lesson
from minilora.classroom.lessons.reference import Recorded, Recording
from minilora.classroom.sandbox.runner import Sandbox
from minilora.cli import main
from minilora.errors import FormatError, MiniloraError
from tests.helpers import bank
from tests.helpers.answers import solution_lines, with_answers

pytestmark = [pytest.mark.host, pytest.mark.slow]

LORA, AUTOGRAD = find_lesson("08"), find_lesson("02")
RIGHT = "x @ W.T + alpha / r * (x @ A.T) @ B.T"
SABOTAGED = {  # lora_forward, and what the report says of it
    f"x += 1\nx -= 1\ny = {RIGHT}\nx *= 0\nreturn y": "changed its argument x",
    f"kept = lora_forward.__dict__\nalpha = kept.setdefault('alpha', alpha)\nreturn {RIGHT}": "of alpha is kept",
    f"return {RIGHT} if len(x) > 1 else x @ W.T": "single row",
    f"return {RIGHT.replace('alpha', '16.0')}": "Another value of alpha makes no difference",
    f"return ({RIGHT}).T.copy().T.astype('float64')": "",
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("kit") / "students.zip"
    assert main(["course", "--kit", str(path), "--lessons", "02,08"]) == 0
    return path


@pytest.fixture
def unpacked(archive, tmp_path, monkeypatch):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    monkeypatch.chdir(tmp_path / "students")
    return tmp_path / "students"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def test_a_kit_has_what_a_student_needs_and_no_line_of_a_solution(archive):
    with zipfile.ZipFile(archive) as file:
        files = {name.removeprefix("students/"): file.read(name) for name in file.namelist()}
    (wheel,) = [name for name in files if name.endswith(".whl")]
    expected = {"README.md", wheel, ".github/workflows/minilora.yml"}
    expected |= {f"notebooks/figures/{name}.py" for name in ("__init__", "graph", "internals", "pictures")}
    for lesson in (AUTOGRAD, LORA):
        expected |= {f"lessons/{lesson.name}/{name}" for name in (*lesson.readings, "exercise.py", KIT)}
        expected |= {f"notebooks/{lesson.name}.ipynb"}
    assert set(files) == expected
    text = "\n".join(files[name].decode("utf-8", "replace") for name in sorted(expected - {wheel}))
    shown = {line.strip() for line in text.splitlines()}
    for lesson in (AUTOGRAD, LORA):
        texts = read_kit_of(files[f"lessons/{lesson.name}/{KIT}"]).texts
        inside = {line.strip() for name in ("solution.py", "driver.py") for line in texts[name].splitlines()}
        assert not solution_lines(lesson.source) & (shown | inside)
    assert f"pip install ./{wheel}" in text and "pip install ./minilora-*.whl" in text


def read_kit_of(data: bytes):
    class File:
        def read_bytes(self):
            return data

    return read_kit(File())


def test_the_wheel_records_what_is_in_it(archive):
    with zipfile.ZipFile(archive) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".whl")]
        wheel = zipfile.ZipFile(io.BytesIO(file.read(name)))
    (record,) = [name for name in wheel.namelist() if name.endswith("RECORD")]
    rows = [line.rsplit(",", 2) for line in wheel.read(record).decode().splitlines()]
    assert [row[0] for row in rows] == wheel.namelist() and "minilora/cli.py" in wheel.namelist()
    for path, digest, size in rows[:-1]:
        data = wheel.read(path)
        assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        assert int(size) == len(data)


@pytest.mark.parametrize("lesson", [AUTOGRAD, LORA], ids=lambda lesson: lesson.name)
def test_the_same_verdicts_and_hints_as_with_the_solution(lesson, unpacked, sandbox, tmp_path):
    kit = Lesson(unpacked / "lessons" / lesson.name)
    assert isinstance(kit.reference, Recorded)
    mistakes = {mistake.name: mistake for mistake in bank.wrong(lesson)[1::4]}
    answers = {name: m.codes for name, m in mistakes.items()}
    answers |= {right.name: right.codes for right in bank.right(lesson)[:2]}
    hints = {name: mistake.hint for name, mistake in mistakes.items()} | SABOTAGED
    if lesson == LORA:
        answers |= {code: {"lora_forward": code} for code in SABOTAGED}
    for name, answer in answers.items():
        path = tmp_path / "answer.py"
        path.write_text(with_answers(lesson.source, answer), encoding="utf-8")
        task = next(gap.task for gap in lesson.source.gaps if gap.where == next(iter(answer)))
        (ours,) = grade(lesson, Submission(path, lesson), sandbox, task)
        (theirs,) = grade(kit, Submission(path, kit), sandbox, task)
        assert theirs.verdict == ours.verdict, name
        assert hints.get(name, "") in theirs.hint, name


def test_check_in_a_kit(unpacked, capsys):
    assert main(["check", "08"]) == 1
    assert "not started" in capsys.readouterr().out
    (unpacked / "lessons/08_lora/exercise.py").write_text(LORA.source.text, encoding="utf-8")
    assert main(["check", "08"]) == 0
    out, err = capsys.readouterr()
    assert "passed 6 of 6" in out and err == ""
    assert main(["check"]) == 1
    assert [line[:2] for line in capsys.readouterr().out.splitlines()[:-1]] == ["02", "08"]
    assert main(["check", "08", "--task", "3", "--solution"]) == 2
    assert "came without solutions" in capsys.readouterr().err
    assert main(["course", "mycourse"]) == 2
    assert "came in a kit; run it in a clone" in capsys.readouterr().err and not (unpacked / "mycourse").exists()


def test_changed_checks_are_noticed(unpacked, capsys):
    path = unpacked / "lessons/08_lora" / KIT
    found = read_kit(path)
    (unpacked / "lessons/08_lora/exercise.py").write_text(
        "# nothing\ndef count_parameters(d_in, d_out, r):\n    return 1\n"
    )
    texts = found.texts | {
        "checks.py": found.texts["checks.py"].replace("student.count_parameters(", "len, (lambda *a: ")
    }
    old = path.read_bytes()
    path.write_bytes(old.partition(b"\n")[0] + b"\n" + pack_kit(texts, found.recording).partition(b"\n")[2])
    main(["check", "08", "--task", "1"])
    out, err = capsys.readouterr()
    assert err.startswith(f"note: lessons/08_lora/{KIT} was changed since the kit was made; ") and err.count("\n") == 1


@pytest.mark.parametrize("change", [lambda raw: raw[:-40], lambda raw: raw[:5000] + b"x" + raw[5001:], lambda raw: b""])
def test_a_damaged_kit_is_said_in_a_line(unpacked, capsys, change):
    path = unpacked / "lessons/08_lora" / KIT
    path.write_bytes(change(path.read_bytes()))
    assert main(["check", "08"]) == 2
    err = capsys.readouterr().err
    assert "is damaged, or not there: unpack the kit again" in err and err.count("\n") == 1


def test_what_was_not_recorded_is_said():
    with pytest.raises(MiniloraError, match="no result of f for what the checks ask"):
        Recorded(Recording()).call("f", 1.0)
    with pytest.raises(FormatError):
        read_kit_of(pack_kit({}, Recording())[:-1])


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "one of the two"),
        (["folder", "--kit", "new.zip"], "one of the two"),
        (["--kit", "kit"], "is to be a .zip file"),
        (["--kit", "old.zip"], "old.zip exists"),
        (["--kit", "new.zip", "--hidden", "."], "--hidden goes with an nbgrader course"),
        (["--kit", "new.zip", "--lessons", "77"], "unknown lesson 77"),
    ],
)
def test_bad_requests_write_nothing(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.zip").write_bytes(b"")
    assert main(["course", *arguments]) == 2
    assert says in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["old.zip"]


def test_a_solution_that_fails_makes_no_kit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minilora.classroom.teaching.kits.PASSED", PASSED.upper())
    assert main(["course", "--kit", str(tmp_path / "a.zip"), "--lessons", "02"]) == 2
    assert "02_autograd: the solution fails task 1" in capsys.readouterr().err and not list(tmp_path.iterdir())
