"""Sphinx settings for the site: lessons, notebooks, documents and the API reference.

    pip install -e ".[site]"
    sphinx-build -W -c docs . build/site        (then open build/site/index.html)
    python -m docs.crawl build/site             follows every link of it

.github/workflows/pages.yml does so as well, with -D html_baseurl=ADDRESS, which pictures for sharing need.
"""

import inspect
import re
import shutil
import sys
from dataclasses import fields, is_dataclass
from functools import partial
from html import escape, unescape
from pathlib import Path
from urllib.parse import urljoin

sys.path.insert(0, str(Path(__file__).parents[1]))

from docutils import nodes

from lessons.pages import shortened
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
smartquotes_action = "qe"  # leave --option as it is, instead of a dash
html_title = "minilora"
html_domain_indices = False  # no link leads to the list of modules
html_static_path, html_css_files, html_favicon = ["static"], ["site.css"], "static/icon.svg"
html_search_scorer = str(Path(__file__).parent / "static" / "scorer.js")
nb_execution_mode = "off"  # the notebooks are committed with their pictures
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository that are not pages
autodoc_member_order = "bysource"
autoclass_content = "both"  # also __init__'s docstring
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"


def docstring_as_prose(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn a docstring into reStructuredText: paragraphs and lists of arguments; indented parts keep their layout.

    The comments on the fields of a dataclass or a NamedTuple follow its docstring.
    """
    if not any(lines) or lines[0].startswith("Create new instance of"):  # of a NamedTuple's __new__
        lines.clear()
        return
    names = _parameters(obj)
    text = "\n".join(lines).strip("\n")
    text = re.sub(r"(?<=\n)(    .*)\n\n(?=    )", r"\1\n    \n", text)  # what is indented stays together
    parts = [_part(part.split("\n"), names) for part in re.split(r"\n\n", text)]
    if inspect.isclass(obj):
        parts.append([f"* **{field}**: {_inline(comment)}" for field, comment in _fields(obj)])
    lines[:] = [line for part in parts if part for line in (*part, "")]


def _parameters(obj) -> set[str]:
    try:
        return {*inspect.signature(obj).parameters}
    except (TypeError, ValueError):  # a module, a property, or a class without a signature
        return set()


def _part(rows: list[str], names: set[str]) -> list[str]:
    """Convert a part of a docstring between empty lines. names: arguments, shown in bold if `name:` explains them."""
    if all(row.startswith("    ") for row in rows):
        return [".. code-block:: text", "", *(f"    {row}" for row in rows)]
    is_list = len(rows) > 1 and all(re.match(r"\w[\w, *]*: |    ", row) for row in rows)
    items = re.split(r"\n(?! )", "\n".join(rows)) if is_list else ["\n".join(rows)]
    one = "|".join(re.escape(name.replace("_", r"\_")) for name in names) or "(?!)"
    named = re.compile(rf"(^|[.;)] )((?:{one})(?:, (?:{one}))*)(?=: )")
    texts = [_inline(re.sub(r"\s*\n\s*", " ", item), named) for item in items]
    return [f"* {text}" for text in texts] if is_list else texts


def _inline(text: str, named: re.Pattern[str] | None = None) -> str:
    """Convert `code` to reStructuredText, and escape what would be markup there."""
    plain, *others = re.split(r"(`[^`]+`)", text)
    parts = [(plain, ""), *zip(others[1::2], others[::2], strict=True)]
    out = ""
    for words, code in parts:
        words = re.sub(r"[\\*|_]", r"\\\g<0>", words)
        out += f"\\ ``{code.strip('`')}``\\ " * bool(code)
        out += named.sub(r"\1**\2**", words) if named else words
    return out.removeprefix("\\ ")


def _fields(cls: type) -> list[tuple[str, str]]:
    """Return (field, comment) of the fields of a dataclass or a NamedTuple that have a comment on their first line.

    Inherited ones come last; those that every method's configuration has are listed with PeftConfig alone.
    """
    names = getattr(cls, "_fields", ()) or ([field.name for field in fields(cls)] if is_dataclass(cls) else [])
    comments: dict[str, str] = {}
    for owner in cls.__mro__ if names else ():
        if owner is cls or owner.__module__.startswith("minilora.") and owner.__name__ != "PeftConfig":
            commented = re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(owner), re.MULTILINE)
            comments |= {name: comment for name, comment in commented if name not in comments}
    return [(name, comment) for name, comment in comments.items() if name in names]


def add_table_of_lessons(app, name: str, source: list[str]) -> None:
    """Fill in the table of lessons on the front page, from the first lines of their readings."""
    if name == root_doc:
        source[0] = source[0].replace("<!-- lessons -->", "\n".join(map(_row, [None, *all_lessons()])))


def _row(lesson: Lesson | None) -> str:
    if lesson is None:
        return "| | lesson | minutes | | | | |\n|---|---|---:|---|---|---|---|"
    folder, notebook = f"../lessons/{lesson.name}", f"../notebooks/{lesson.name}.ipynb"
    pages = [("play.html", "play"), ("live.html", "live")]
    play = " · ".join(f"[{word}]({folder}/{page})" for page, word in pages if (lesson.folder / page).is_file())
    minutes, level, _ = (lesson.folder / "README.md").read_text("utf-8").partition("\n")[0].strip("*").split(" · ")
    links = f"[notebook]({notebook}) | [exercise]({folder}/exercise.py) | {play}"
    return f"| {lesson.number:02} | [{lesson.title}]({folder}/README.md) | {minutes.split()[0]} | {level} | {links} |"


PLAY_PAGES = ("play.html", "live.html")


def open_play_pages(app, name: str, template: str, context: dict, doctree) -> None:
    """Make links to a lesson's page open it; Sphinx would make them downloads."""
    for file, (_, copy) in app.env.dlfiles.items():
        if Path(file).name in PLAY_PAGES:
            here = context["pathto"](str(file), resource=True)
            pattern = rf'<a class="reference download internal" download="" href="[^"]*{re.escape(str(copy))}">'
            context["body"] = re.sub(pattern, f'<a class="reference internal" href="{here}">', context.get("body", ""))


def describe(app, name: str, template: str, context: dict, doctree) -> None:
    """Give each page what is shown where its link is shared: a lesson's question, or the first paragraph of others."""
    if doctree is None or "og:" in context.get("metatags", ""):
        return
    texts = [paragraph.astext().replace("\n", " ") for paragraph in doctree.findall(nodes.paragraph)]
    questions = [question for text in texts if (question := text.partition("A question first. ")[2])]
    sentences = [text for text in texts if len(text) > 60 and text[-1] in ".?:" and " · " not in text]
    title = unescape(re.sub("<[^>]*>", "", context["title"]))
    about = {"og:title": f"minilora: {title}", "og:type": "article", "twitter:card": "summary_large_image"}
    about["og:image"] = context["pathto"]("_static/share.png", resource=True)
    description = ""
    if questions + sentences:
        description = shortened((questions + sentences)[0])
        about["og:description"] = description
    context["metatags"] += f'\n<meta name="description" content="{escape(description)}" />' * bool(description)
    for key, text in about.items():
        kind = "property" if key.startswith("og:") else "name"
        context["metatags"] += f'\n<meta {kind}="{key}" content="{escape(text)}" />'


def keep_options_whole(app, name: str, template: str, context: dict, doctree) -> None:
    """Keep each --option on one line, since browsers break lines at hyphens."""
    mark = partial(re.sub, r"(?<![\w-])--[a-z][\w-]*", r'<span class="option">\g<0></span>')
    code = re.compile(r"<(pre|code)\b.*?</\1>", re.DOTALL)
    context["body"] = code.sub(lambda match: mark(match[0]), context.get("body", ""))


def copy_play_pages(app, error) -> None:
    """Copy each lesson's page beside its reading in the site, with links to the site's files."""
    if error is not None:
        return
    downloads = {Path(file): f"_downloads/{copy}" for file, (_, copy) in app.env.dlfiles.items()}
    for page in (path.relative_to(ROOT) for path in ROOT.glob("lessons/*/*.html") if path.name in PLAY_PAGES):
        text = re.sub(r'href="(\w+)\.md"', r'href="\1.html"', (ROOT / page).read_text("utf-8"))
        text = text.replace('href="../../README.md"', f'href="../../{root_doc}.html"')
        text = re.sub(r'href="(../../docs/[\w-]+)\.md"', r'href="\1.html"', text)
        text = text.replace('href="exercise.py"', f'href="../../{downloads[page.with_name("exercise.py")]}"')
        (Path(app.outdir) / page).write_text(text, "utf-8")
        if (picture := ROOT / page.with_suffix(".png")).is_file():
            shutil.copy(picture, Path(app.outdir) / page.parent)  # for sharing
        (Path(app.outdir) / downloads[page]).unlink(missing_ok=True)  # Sphinx's own copy, whose links are dead


def write_the_entrance(app, error) -> None:
    """Lead from the site's root to its front page, and show the same where the link to either is shared."""
    if error is not None:
        return
    front = Path(app.outdir, f"{root_doc}.html")
    shown = "\n".join(re.findall(r'<meta content="[^"]*" property="[^"]*" />', front.read_text("utf-8")))
    shown = shown.replace("../", "")
    Path(app.outdir, "index.html").write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html_title}</title>\n{shown}\n'
        f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        f'<p><a href="{root_doc}.html">{html_title}</a></p>\n</html>\n',
        "utf-8",
    )


def complete_addresses(app, error) -> None:
    """Make the addresses of pictures for sharing absolute, and add the page's own, once html_baseurl is known."""
    base = app.config.html_baseurl
    for page in Path(app.outdir).rglob("*.html") if base and error is None else ():
        text = page.read_text("utf-8")
        there = urljoin(base, page.relative_to(app.outdir).as_posix())
        picture = r'(?<=property="og:image" content=")[^"]*|(?<=<meta content=")[^"]*(?=" property="og:image")'
        text = re.sub(picture, lambda match, there=there: urljoin(there, match[0]), text)
        own = f'<meta property="og:url" content="{there}">\n' if 'property="og:image"' in text else ""
        if page.name in PLAY_PAGES:  # Sphinx adds it to the others
            own += f'<link rel="canonical" href="{there}">\n'
        page.write_text(text.replace("<title>", f"{own}<title>", 1), "utf-8")


def setup(app) -> None:
    app.connect("html-page-context", describe)
    app.connect("html-page-context", open_play_pages)
    app.connect("html-page-context", keep_options_whole)
    app.connect("build-finished", copy_play_pages)
    app.connect("build-finished", write_the_entrance)
    app.connect("build-finished", complete_addresses)
    app.connect("source-read", add_table_of_lessons)
    app.connect("autodoc-process-docstring", docstring_as_prose)
