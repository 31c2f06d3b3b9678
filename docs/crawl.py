"""Crawl the built site as a reader would: every link leads somewhere, and every page leads on.

    python -m docs.crawl build/site

Serves the folder on this machine, below its name as a project's Pages are, and follows every link, picture and script
from index.html. Prints what is wrong, and exits with 1 if anything is: a link or an anchor that leads to nothing, a
page that leads to no other page, or a page (each lesson's play.html and live.html included) that no link reaches.
"""

import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urljoin
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
UNLINKED = {"_modules/index.html"}  # Sphinx writes it, but its theme has no link to it


class Page(HTMLParser):
    """The links of a page, and the places in it that a link can lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.places |= {attributes[name] for name in ("id", "name") if name in attributes}
        self.links |= {attributes[name] for name in ("href", "src", "action") if name in attributes}
        if attributes.get("property") == "og:image":
            self.links.add(attributes["content"])
        if attributes.get("http-equiv") == "refresh":
            self.links.add(attributes["content"].partition("url=")[2])


class Handler(SimpleHTTPRequestHandler):
    def list_directory(self, path):
        """Refuse, as GitHub does."""
        self.send_error(404)

    def log_message(self, *args):
        """Keep quiet."""


def crawl(folder: Path, expected: set[str]) -> list[str]:
    """Return what is wrong with the site in `folder`, in which the pages `expected` must be."""
    folder = folder.resolve()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}"
    site = f"{origin}/{folder.name}/"
    pages: dict[str, Page | None] = {}  # by address; None: a file that is not a page
    wrong, leading, left = [], set(), [("the crawl", f"{site}index.html")]  # left: (page, its link)
    while left:
        page, link = left.pop()
        address, place = urldefrag(link)
        if not address.startswith(origin):  # another site, or data: or mailto:
            continue
        if address not in pages:
            try:
                with urlopen(address) as answer:
                    content, is_page = answer.read(), answer.headers.get_content_type() == "text/html"
            except HTTPError as error:
                error.close()
                wrong.append(f"{page} leads to nothing: {link}")
                continue
            pages[address] = new = Page(content.decode()) if is_page else None
            left += [(address, urljoin(address, one)) for one in (new.links if new else ())]
        if target := pages[address]:
            leading |= {page} - {address}
            if place and unquote(place) not in target.places and "=" not in place:  # with "=", it is a page's state
                wrong.append(f"{page} leads to a place that is not there: {link}")
    server.shutdown()
    server.server_close()
    reached = {address for address, page in pages.items() if page}
    wrong += [f"{address} leads to no other page" for address in reached - leading]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")} - UNLINKED | expected
    wrong += [f"no link reaches {path}" for path in there - {unquote(one.removeprefix(site)) for one in reached}]
    return sorted(line.replace(site, "") for line in wrong)


def main(folder: str) -> int:
    wrong = crawl(Path(folder), {page.relative_to(ROOT).as_posix() for page in ROOT.glob("lessons/*/*.html")})
    print("\n".join(wrong) or f"{folder}: every link leads somewhere, and every page leads on")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
