"""pytest tests/classroom/test_readings.py: what each page of a lesson owes its reader: pictures, links, and an end. And
the pages in front of lesson 01: what a student needs, and ways in.
"""

import doctest
import re
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lessons import diagrams
from lessons.drawing import LETTERS, SMALL, WIDTH
from minilora.classroom.lessons.lesson import all_lessons

pytestmark = pytest.mark.host

LESSONS = [lesson for lesson in all_lessons() if (lesson.folder / diagrams.SCRIPT).is_file()]
WIDEST, ALT = 88, 40  # characters of an example's line at most, and of an alt text at least
PAGES = [
    pytest.param(path, inf, id=f"{lesson.name}-{name}")
    for lesson in LESSONS
    for name, path in lesson.readings.items()
    if path.suffix == ".md"
]
DOCS = Path(__file__).parents[2] / "docs"
WAYS_IN = ("windows", "colab", "binder")
PAGES += [pytest.param(DOCS / f"{name}.md", 350, id=name) for name in WAYS_IN]
PAGES += [pytest.param(DOCS / "prerequisites.md", 1200, id="prerequisites")]
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#]+)[^)]*\)")
MEASURED = re.compile(r"<!-- measured: .*?<!-- / -->", re.DOTALL)  # written by the records, and counted as one word


@pytest.mark.parametrize("page, most_words", PAGES)
def test_a_page_can_be_read(page, most_words):
    text = page.read_text("utf-8")
    assert len(MEASURED.sub("number", text).split()) <= most_words
    examples = [line for line in text.splitlines() if line.startswith("    ")]
    assert max(map(len, examples), default=0) <= WIDEST, [line for line in examples if len(line) > WIDEST]
    assert " a character" not in text and " a token," not in text, "per character, per token"
    for alt, file in IMAGE.findall(text):
        assert len(alt) >= ALT and (page.parent / file).is_file(), f"{file}: {alt}"
    for link in LINK.findall(text):
        assert "://" in link or (page.parent / link).exists(), link


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_has_pictures_and_ways_on(lesson):
    pages = {path: path.read_text("utf-8") for path in lesson.readings.values() if path.suffix == ".md"}
    images = [page.parent / file for page, text in pages.items() for _, file in IMAGE.findall(text)]
    shown = {path for path in images if ".." not in path.parts}  # figures of docs/ are made from records
    assert len(shown) >= 2 and shown == {path for path in lesson.readings.values() if path.suffix != ".md"}
    links = {link for text in pages.values() for link in LINK.findall(text)}
    assert links >= {f"../../notebooks/{lesson.name}.ipynb", "exercise.py"}
    assert any(link.startswith("../../minilora/") for link in links), "to the library's source"
    assert any("arxiv.org" in link or "doi.org" in link or "https://" in link for link in links), "to what to read next"
    assert links >= {page.name for page in pages if page.name != "README.md"}
    assert all("<details>" in text for text in pages.values() if "**Your prediction" in text), "answers, folded"


def test_what_a_student_needs_is_computed_and_asked():
    page = DOCS / "prerequisites.md"
    failures, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert tried and not failures
    _, *topics, questions = page.read_text("utf-8").split("\n## ")
    assert len(topics) == 4 and all("    >>> " in topic and "https://" in topic for topic in topics)
    answers = re.findall(r"<details>.*?</summary>\n\n(.*?)</details>", questions, re.DOTALL)
    assert len(answers) == len(re.findall(r"^\*\*\d\.\*\* ", questions, re.MULTILINE)) == 5
    assert all("Lesson " in answer for answer in answers), "which lesson needs it"


def test_the_front_page_leads_to_every_way_in():
    front = (DOCS / "index.md").read_text("utf-8")
    linked, menus = set(LINK.findall(front)), front.partition("```{toctree}")[2].splitlines()
    for name in ("prerequisites", "browser", *WAYS_IN):
        assert f"{name}.md" in linked and name in menus
    assert all("## What was tried\n" in (DOCS / f"{name}.md").read_text("utf-8") for name in WAYS_IN)


def test_pictures_are_what_their_scripts_draw():
    assert diagrams.stale() == [], "run python -m lessons.diagrams"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_diagram_is_legible(lesson):
    for path in lesson.folder.glob("pictures/*.svg"):
        picture = ElementTree.parse(path).getroot()
        space = "{http://www.w3.org/2000/svg}"
        _, _, width, height = map(float, picture.attrib["viewBox"].split())
        assert width <= WIDTH and len(picture.findtext(f"{space}title")) >= ALT, path.name
        for text in picture.iter(f"{space}text"):
            x, y, size = (float(text.attrib[name]) for name in ("x", "y", "font-size"))
            wide = len(text.text or "") * size * (0.6 if "mono" in text.attrib.get("class", "") else 0.5)
            left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.attrib["text-anchor"]]
            assert size >= SMALL - 1 <= LETTERS, f"{path.name}: {text.text} is small"
            if "transform" not in text.attrib:
                inside = -4 <= left and left + wide <= width + 4 and 0 < y < height
                assert inside, f"{path.name}: {text.text} leaves the picture"
