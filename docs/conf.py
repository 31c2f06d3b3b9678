"""The site: lessons, notebooks, documents and the reference, by Sphinx.

pip install -e ".[site]" && sphinx-build -W -c docs . build/site      (then open build/site/docs/index.html)
"""

import re
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parents[1]))

from sphinx.util import logging

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
smartquotes_action = "qe"  # -- is an option's, no dash
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
toc_object_entries_show_parents = "hide"


def as_it_is_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings here are laid out for a terminal; the page keeps their lines, and joins those that were full."""
    if not any(lines):
        return
    kept: list[str] = []
    for before, line in pairwise(["", *lines]):
        if _goes_on(before, line):
            kept[-1] += f" {line.strip()}"
        else:
            kept.append(line)
    lines[:] = [".. code-block:: text", "", *(f"    {line}" for line in kept), ""]


def _goes_on(before: str, line: str) -> bool:
    """Whether a sentence goes on in the next line because its first word found no room; columns stay as they are."""
    word, texts = line.strip().partition(" ")[0], (before.strip(), line.strip())
    return (
        all(texts)
        and len(before) + len(word) >= 120 - 11  # a method's docstring begins there
        and before.index(texts[0]) <= line.index(texts[1])
        and not any("  " in text for text in texts)
        and not word.endswith(("-", ":"))
    )


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


def whole_options(app, name: str, template: str, context: dict, doctree) -> None:
    """--option of a command goes to the next line as a whole (a browser would part it at a hyphen)."""
    mark = partial(re.sub, r"(?<![\w-])--[a-z][\w-]*", r'<span class="option">\g<0></span>')
    code = re.compile(r"<(pre|code)\b.*?</\1>", re.DOTALL)
    context["body"] = code.sub(lambda found: mark(found[0]), context.get("body", ""))


def copy_pages(app, error) -> None:
    """The pages, beside the readings of the site that was built, with links to its files."""
    if error is not None:
        return
    downloads = {Path(file): f"_downloads/{copy}" for file, (_, copy) in app.env.dlfiles.items()}
    for page in (path.relative_to(ROOT) for path in ROOT.glob("lessons/*/play.html")):
        text = (ROOT / page).read_text("utf-8").replace('href="README.md"', 'href="README.html"')
        text = text.replace('href="exercise.py"', f'href="../../{downloads[page.with_name("exercise.py")]}"')
        (Path(app.outdir) / page).write_text(text, "utf-8")
        (Path(app.outdir) / downloads[page]).unlink(missing_ok=True)  # a second one, where its links lead nowhere


def check_links(app, error) -> None:
    """A warning for each link of the site to a file or a place in a page that it does not have."""
    if error is not None:
        return
    pages = {page.resolve(): page.read_text("utf-8") for page in Path(app.outdir).rglob("*.html")}
    places = {page: {unquote(place) for place in re.findall(r'\bid="([^"]+)"', text)} for page, text in pages.items()}
    for page, text in pages.items():
        for link in sorted(set(re.findall(r'<[^>]* (?:href|src)="(?!\w+:)([^"]*)"', text))):
            path, _, place = unquote(link.partition("?")[0]).partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.is_file() or (place and target in pages and place not in places[target]):
                logging.getLogger(__name__).warning("%s leads to nothing: %s", page.relative_to(app.outdir), link)


def setup(app) -> None:
    app.connect("html-page-context", pages_that_answer)
    app.connect("html-page-context", whole_options)
    app.connect("build-finished", copy_pages)
    app.connect("build-finished", check_links)
    app.connect("source-read", lessons_as_a_table)
    app.connect("autodoc-process-docstring", as_it_is_written)
