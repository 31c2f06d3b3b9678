"""pytest tests/test_crawl.py: docs/crawl.py, which follows the links of the built site, sees what is wrong with one."""

from pathlib import Path

import pytest

from docs.crawl import crawl, main

pytestmark = pytest.mark.host

SITE = {
    "index.html": '<meta http-equiv="refresh" content="0; url=docs/a%20page.html"><a href="docs/a%20page.html">in</a>',
    "docs/a page.html": '<p id="here"><a href="../lessons/b.html#r=8&amp;s=1">b</a> <img src="x.svg"> '
    '<a href="#here">up</a> <a href="https://example.org/nowhere">other</a>',
    "docs/x.svg": "<svg/>",
    "lessons/b.html": '<meta property="og:image" content="../docs/x.svg"><a href="../docs/a%20page.html#here">back</a>',
}


def written(folder: Path, pages: dict[str, str]) -> Path:
    for name, text in pages.items():
        (folder / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "site" / name).write_text(text, "utf-8")
    return folder / "site"


def test_a_good_site_passes(tmp_path):
    assert crawl(written(tmp_path, SITE), {"lessons/b.html"}) == []


@pytest.mark.parametrize(
    ("page", "text", "message"),
    [
        (
            "lessons/b.html",
            '<a href="c.html">c</a><a href="../docs/a%20page.html">a</a>',
            "leads to nothing: lessons/c",
        ),
        ("lessons/b.html", '<a href="../docs/a%20page.html#there">a</a>', "a place that is not there: docs/a%20page"),
        ("lessons/b.html", "<p>The end.", "lessons/b.html leads to no other page"),
        ("lessons/b.html", '<a href="b.html#here" id="here">again</a>', "lessons/b.html leads to no other page"),
        (
            "lessons/b.html",
            '<meta property="og:image" content="b.png"><a href="../index.html">x</a>',
            "nothing: lessons/b",
        ),
        ("lessons/b.html", '<script src="/b.js"></script><a href="../index.html">x</a>', "nothing: http://127.0.0.1"),
        ("lessons/b.html", '<a href="../docs/">a folder</a><a href="../index.html">x</a>', "leads to nothing: docs/"),
        ("lessons/lost.html", '<a href="b.html">b</a>', "no link reaches lessons/lost.html"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, page, text, message):
    (line,) = crawl(written(tmp_path, SITE | {page: text}), set())
    assert message in line


def test_a_lesson_without_its_page_is_named(tmp_path, capsys):
    assert main(str(written(tmp_path, SITE))) == 1
    assert "no link reaches lessons/08_lora/live.html\n" in capsys.readouterr().out
