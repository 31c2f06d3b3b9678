"""The site: lessons, notebooks, documents and the reference, by Sphinx.

pip install -e ".[site]" && sphinx-build -W -c docs . build/site      (then open build/site/docs/index.html)
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from minilora import __version__
from minilora.classroom.lessons.lesson import Lesson, all_lessons

ROOT = Path(__file__).parents[1]
project, author, copyright = "minilora", "The minilora authors", "The minilora authors, MIT license"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
include_patterns = ["docs/*.md", "docs/api/*.md", "lessons/*/*.md", "notebooks/*.ipynb", "C*.md"]
exclude_patterns = ["lessons/*/teaching.md"]
root_doc = "docs/index"
html_theme = "furo"
html_title = "minilora"
html_static_path, html_css_files = ["static"], ["site.css"]
html_search_scorer = str(Path(__file__).parent / "static" / "scorer.js")
nb_execution_mode = "off"  # the notebooks are committed with their pictures
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository that are no pages
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "none"


def as_it_is_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings here are laid out for a terminal; the page keeps their lines."""
    if any(lines):
        lines[:] = [".. code-block:: text", "", *(f"    {line}" for line in lines), ""]


def lessons_as_a_table(app, name: str, source: list[str]) -> None:
    """The front page says of each lesson what the first lines of its reading say."""
    if name == root_doc:
        source[0] = source[0].replace("<!-- lessons -->", "\n".join(map(_row, [None, *all_lessons()])))


def _row(lesson: Lesson | None) -> str:
    if lesson is None:
        return "| | lesson | minutes | | | | |\n|---|---|---:|---|---|---|---|"
    folder, notebook = f"../lessons/{lesson.name}", f"../notebooks/{lesson.name}.ipynb"
    play = f"[page]({folder}/play.html)" if (lesson.folder / "play.html").is_file() else ""
    minutes, level, _ = (lesson.folder / "README.md").read_text("utf-8").partition("\n")[0].strip("*").split(" · ")
    links = f"[notebook]({notebook}) | [exercise]({folder}/exercise.py) | {play}"
    return f"| {lesson.number:02} | [{lesson.title}]({folder}/README.md) | {minutes.split()[0]} | {level} | {links} |"


def pages_that_answer(app, name: str, template: str, context: dict, doctree) -> None:
    """A link to a lesson's play.html opens it, where Sphinx would have it downloaded."""
    for file, (_, copy) in app.env.dlfiles.items():
        if Path(file).name == "play.html":
            here = context["pathto"](str(file), resource=True)
            pattern = rf'<a class="reference download internal" download="" href="[^"]*{re.escape(str(copy))}">'
            context["body"] = re.sub(pattern, f'<a class="reference internal" href="{here}">', context.get("body", ""))


def copy_pages(app, error) -> None:
    """The pages, beside the readings of the site that was built."""
    if error is not None:
        return
    for page in ROOT.glob("lessons/*/play.html"):
        text = page.read_text("utf-8").replace('href="README.md"', 'href="README.html"')
        (Path(app.outdir) / page.relative_to(ROOT)).write_text(text, "utf-8")


def setup(app) -> None:
    app.connect("html-page-context", pages_that_answer)
    app.connect("build-finished", copy_pages)
    app.connect("source-read", lessons_as_a_table)
    app.connect("autodoc-process-docstring", as_it_is_written)
