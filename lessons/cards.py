"""Pictures for sharing: a page as it stands beside its link in a chat, a third of its size. See pages.py."""

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from minilora.errors import MiniloraError

WIDE, TALL = 1200, 630  # pixels of a picture for sharing
PICTURE = """
body:has(#guess) {
  height: 630px; overflow: hidden; padding: 36px 44px; display: flex; flex-direction: column-reverse;
  h1, .more, .lead, nav span + span, main ~ nav, .stage :is(.row, .said), .fine, #guess :not(label, span, em) {
    display: none }
  main { display: grid; grid: 1fr / 25.5rem 1fr; gap: 20px 32px; max-width: none; width: 100%; flex: 1; padding: 0 }
  main.across { grid: auto 1fr / 1fr }
  .say { display: block }
  .say::after { content: attr(data-background); display: block; margin-top: 14px; font-size: 1.7rem; line-height: 1.25;
    color: var(--soft) }
  #guess span::first-letter { text-transform: uppercase }
  #guess { background: none; padding: 0; font-size: 2.8rem; line-height: 1.2; margin: 0; font-weight: 600 }
  .stage { grid-area: 1 / 2; position: static; align-self: center; padding: 0 }
  svg text:not(.big) { font-size: 17px !important }
  .stage svg { max-height: 32.5rem }
  .across .stage { grid-area: auto }
  .sums p { font-size: 1.6rem }
  #plane { text { font-size: 23px !important } circle { r: 15px } rect { display: none }
    .title + .title { transform: translateY(-66px) } }
  nav { font-size: 1.4rem; margin: 0; padding: 0 }
  nav a { text-decoration: none }
  nav span { gap: .4rem }
  nav a::after { content: none }
  nav a:first-child::after { content: ", a course in NumPy ·"; font-size: 1em }
}
body:not(:has(#guess)) {
  height: 630px; overflow: hidden; padding: 36px 44px;
  .more, nav, .title, textarea, #examples, #look, .lead, #stage ~ *, #next :is(thead, tr:nth-child(n + 5)) {
    display: none }
  main { max-width: none; width: 100%; padding: 0 }
  h1 { font-size: 2.8rem; margin: 0 }
  main::after { content: "minilora, a course in NumPy · Lesson 08"; font-size: 1.4rem; color: var(--soft) }
  #stage { display: flex; flex-direction: column-reverse; gap: 1.4rem; margin-bottom: 1.4rem }
  .sheets { gap: 1.4rem; margin: 1.6rem 0 1.4rem }
  .sheets p { font-size: 1.7rem; height: 7.5rem; padding: .3rem 1rem 0 }
  #next { font-size: 1.5rem }
  #next th:first-child { width: 11rem } #next :is(.base, .lora) { width: 6.5rem }
  #next button { font-size: 1.5rem; border: 0; background: none } #next i { height: .7rem }
  .row .long { font-size: 1.5rem }
  .row .long :is(span, b) { width: auto }
}
"""  # its style, legible in a chat: the question without <small>, its picture without .fine; or the live page
SHEETS = """A base and its LoRA go on with the same beginning of a sentence; below, bars of what each expects next, and
sliders for LoRA's rank and strength""".replace("\n", " ")  # what the live page's picture shows
FIRST = "Your guess first: "  # begins a question; its picture has no room for an answer


def card(page: str, headline: str = "") -> str:
    """Return a page as its picture for sharing shows it, with a headline in place of its question if there is one."""
    page = page.replace("</style>", f"{PICTURE}</style>", 1).replace(FIRST, "")
    if headline:
        asks = r'(?<=<form id="guess" class="row"><label><span>).*?(?=</span>)'
        page = re.sub(asks, lambda _: html.escape(headline), page, count=1, flags=re.S)
    return page


def photograph(script: Path, headline: str = "") -> None:
    """Take the picture that stands beside the page's link where it is shared, before the guess."""
    from PIL import Image

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise MiniloraError("--pictures needs Chromium")
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        flags += [f"--screenshot={folder}/page.png", f"--window-size={WIDE},{TALL}"]
        flags += ["--virtual-time-budget=2000"]  # ms, in which the live page writes
        copy, page = Path(folder, "page.html"), script.with_suffix(".html").read_text("utf-8")
        copy.write_text(card(page, headline), "utf-8")
        null = subprocess.DEVNULL  # its children may outlive it, and would hold a pipe open
        subprocess.run([browser, *flags, copy.as_uri()], check=True, stdout=null, stderr=null, timeout=120)
        with Image.open(f"{folder}/page.png") as image:
            image.convert("RGB").crop((0, 0, WIDE, TALL)).quantize(128).save(script.with_suffix(".png"), optimize=True)
