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
body {
  height: 630px; overflow: hidden; padding: 32px 40px 28px; display: flex; flex-direction: column-reverse;
  .more, nav :is(span + span, a + a), main ~ nav, .lead { display: none }
  main { max-width: none; width: 100%; flex: 1; padding: 0 }
  .say::after, #stage::before { content: attr(data-background); display: block; margin-top: 12px; font-size: 2.3rem;
    line-height: 1.2; color: var(--soft) }
  nav { max-width: none; width: 100%; font-size: 1.9rem; line-height: 1.2; margin: 0; padding: 0; align-items: center }
  nav::after { content: "Guess, then try it yourself →"; order: -1; padding: .3rem 1.2rem .4rem; border-radius: 2rem;
    background: var(--ink); color: var(--page); font-weight: 600 }
  nav a { text-decoration: none }
  nav a:first-child::after { content: ", a course in NumPy"; font-size: 1em }
}
body:has(#guess) {
  h1, .stage :is(.row, .said), .fine, #guess :not(label, span, em) { display: none }
  main { display: grid; grid: 1fr / 23.75rem 1fr; gap: 12px 24px }
  main.across { grid: auto 1fr / 1fr }
  .say { display: block }
  #guess span::first-letter { text-transform: uppercase }
  #guess { background: none; padding: 0; font-size: 2.6rem; line-height: 1.2; margin: 0; font-weight: 600;
    text-wrap: balance }
  .stage { grid-area: 1 / 2; position: static; align-self: center; padding: 0 }
  svg text:not(.big) { font-size: 17.5px !important }
  .stage svg { max-height: 31rem }
  .across .stage { grid-area: auto }
  .sums p { font-size: 2rem; span { display: none } } #whole-says::after { content: " changed" }
  .sums { grid-template-columns: 1fr 0 4% 1fr 0 auto }
  .sums::after { content: "+ ?"; grid-area: rest; padding-left: 1rem; font: 700 4rem system-ui, sans-serif }
  #sum-says { font-size: 0; &::after { content: "a piece: one column × one row"; font-size: 2rem } }
  #arrows text[y="140"] { display: none } /* per cent */
  #accuracy > .over { transform: translateX(16px) }
  #bars .big { font-size: 48px }
  svg .axis { stroke-width: 1.5 }
  #plane { text { font-size: 25px !important } circle { r: 15px } g path:not([transform]) { stroke-width: 2.5 }
    rect { display: none }
    .title + .title { transform: translateY(-66px) } }
}
body:not(:has(#guess)) {
  .title, textarea, #examples, #look, .row, #stage ~ *, #next :is(thead, tr:nth-child(n + 5), td ~ td) { display: none }
  h1 { font-size: 2.8rem; margin: 0 }
  #stage { display: block }
  #stage::before { margin: 8px 0 18px }
  div:has(> .sheets) { position: relative; padding-right: 36% }
  div:has(> .sheets)::before, div:has(> .sheets)::after { content: "with half of it"; position: absolute;
    inset: 0 0 0 66%; padding: .4rem 1rem; border: 4px dashed var(--lora); font: 700 1.9rem/1.35 system-ui, sans-serif }
  div:has(> .sheets)::after { content: "?"; border: 0; font-size: 11rem; line-height: 24.5rem;
    text-align: center }
  .sheets { gap: 1.2rem; margin-bottom: .8rem }
  .sheets p { font-size: 1.9rem; height: 10.9rem; padding: .2rem 1rem 0; border-width: .4rem }
  .sheets .base b { font-size: 0; &::before { content: "without LoRA"; font-size: 1.9rem } }
  #next, #next button { font-size: 1.9rem; border: 0; background: none }
  #next :is(th, td) { padding: 0; border: 0 } #next th:first-child { width: 12rem }
  #next i { height: .9rem; transform: scaleX(1.6); transform-origin: left } /* all of them, to fill the line */
  nav::after { content: "Type a sentence, turn LoRA down →" }
}
"""  # its style, legible in a chat: the question without <small>, its picture without .fine; or the live page
FIRST = "Your guess first: "  # begins a question; its picture has no room for an answer


def card(page: str, headline: str = "") -> str:
    """Return a page as its picture for sharing shows it, with a headline in place of its question if there is one."""
    page = page.replace("</style>", f"{PICTURE}</style>", 1).replace(FIRST, "")
    page = page.replace('id="plane" viewBox="0 0 400 360"', 'id="plane" viewBox="0 0 400 310"')  # without its bars
    if headline:
        asks = r'(?<=<form id="guess" class="row"><label><span>).*?(?=</span>)|(?<=<h1>).*?(?=</h1>)'
        page = re.sub(asks, lambda _: html.escape(headline).replace(" %", "&nbsp;%"), page, flags=re.S)
    return page


def photograph(script: Path, headline: str = "") -> None:
    """Take the picture that stands beside the page's link where it is shared, before the guess."""
    from PIL import Image

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise MiniloraError("--pictures needs Chromium")
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        flags += [f"--user-data-dir={folder}", f"--screenshot={folder}/page.png", f"--window-size={WIDE},{TALL}"]
        flags += ["--virtual-time-budget=2000"]  # ms, in which the live page writes
        copy, page = Path(folder, "page.html"), script.with_suffix(".html").read_text("utf-8")
        copy.write_text(card(page, headline), "utf-8")
        null = subprocess.DEVNULL  # its children may outlive it, and would hold a pipe open
        subprocess.run([browser, *flags, copy.as_uri()], check=True, stdout=null, stderr=null, timeout=120)
        with Image.open(f"{folder}/page.png") as image:
            image.convert("RGB").crop((0, 0, WIDE, TALL)).quantize(128).save(script.with_suffix(".png"), optimize=True)
