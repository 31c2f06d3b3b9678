"""What a page is made of: one HTML file that opens from disk, without the network."""

from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fdfdfb; --ink: #23272b; --soft: #5d656d; --line: #d9dcdf; --panel: #f3f4f2; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17191c; --ink: #e2e4e6; --soft: #a3abb3; --line: #3a3f45; --panel: #212428; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts th { vertical-align: top; font-weight: 600; }
figure { margin: 1.6rem 0; }
img { display: block; width: 100%; max-width: 42rem; height: auto; background: #fff; border-radius: .4rem; }
figcaption { max-width: 42rem; margin-top: .5rem; }
.beside { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
pre { background: var(--panel); border-radius: .4rem; padding: .8rem; margin: 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .82rem/1.5 ui-monospace, monospace; }
li { margin: .3rem 0; }
"""


def page(title: str, *parts: str, script: str = "", style: str = "") -> str:
    """Write the whole file. script, style: what it has beside its parts."""
    allowed = "; script-src 'unsafe-inline'" if script else ""
    script = script.replace("</", "<\\/")  # which would end it
    code = f"\n<script>\n{script}\n</script>" if script else ""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'{allowed}\">\n"
        f"<title>minilora: {text(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>{code}\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Make any text harmless: markup escaped, and a replacement sign for control and invisible characters."""
    return escape("".join(c if c.isprintable() or c in "\n\t\u00a0" else "\ufffd" for c in str(value)))
