"""pytest tests/demo/test_page.py: the page of the demo, and the folder that it goes to."""

import base64
from html.parser import HTMLParser

import pytest

from minilora.demo import figures, report
from minilora.demo.claims import AdaptedResult
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from minilora.show import html
from tests.demo.test_report import made_up

pytestmark = pytest.mark.host


@pytest.fixture
def results() -> AdaptedResult:
    return AdaptedResult(made_up())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of one whole report, from records whose texts are hostile."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "report"
    attack = "<script>alert(1)</script><img src='https://example.org/x.png'>\u202e\x1b[31m"
    report.check_folder(folder)
    known = made_up()
    there = Records.open(folder / report.RECORDS, report.KIND, known.header["settings"])
    there.header |= known.header
    for key, row in known.rows.items():
        there.add(key, **{name: value for name, value in row.items() if name != "key"})
    for method in ("base", "lora"):
        there.rows["text", method, 0]["continuation"] = attack
    del there.rows["text", "full", 0]["continuation"]
    there.rows["pretraining",]["samples"][0][1] = attack
    there.header["machine"]["blas"] = there.header["settings"]["command"] = attack
    assert report.write_report(AdaptedResult(there), folder) == folder / "report.html"
    return folder


def test_one_number_of_labels_is_no_curve(results, tmp_path):
    """A figure of before does not stay."""
    rows = results.records.rows
    for key in [key for key in rows if key[-1] == 128]:
        del rows[key]
    (tmp_path / "accuracy_against_labels.png").write_bytes(b"old")
    report.write_report(results, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"report", "pretraining", "adaptation"}


@pytest.mark.slow
def test_each_figure_is_written(written):
    assert sorted(path.stem for path in written.glob("*.png")) == sorted(draw.__name__ for draw in figures.FIGURES)
    for path in written.glob("*.png"):
        raw = path.read_bytes()
        assert raw.startswith(b"\x89PNG\r\n\x1a\n") and b"Software" not in raw and len(raw) > 10_000
        assert int.from_bytes(raw[16:20]) == 960  # pixels wide


def test_samples_stand_beside_the_curve_of_pretraining(results):
    text = Page(report.page(results, {})).text
    assert [f"at step {step}Return the {step}\n" in text for step in (0, 20, 60, 140, 200)] == [1, 0, 1, 1, 1]
    assert "and $x$ so on \u4e2d \ufffd[31m" in text
    figure = figures.pretraining(results)
    assert len(figure.axes) == 2 and figure.axes[1].lines[0].get_ydata()[-1] == pytest.approx(2.6)
    results.records.rows["pretraining",]["base"] = None
    assert not figures.pretraining(results).legends


class Page(HTMLParser):
    """What a browser would find: the elements in order, with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open = [], "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_hostile_text_stays_text(written):
    raw = (written / "report.html").read_text("utf-8")
    page = Page(raw)
    assert page.open == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "embed", "a"})
    assert page.text.count("<script>alert(1)</script>") == 6  # a sample, 2 continuations, machine, 2 command
    assert "\x1b" not in raw and "\u202e" not in raw


def test_the_page_holds_its_pictures_and_refers_to_nothing_outside(written):
    page = Page((written / "report.html").read_text("utf-8"))
    sources = [attributes["src"] for attributes in page.all("img")]
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True) for source in sources]
    assert sorted(pictures) == sorted(path.read_bytes() for path in written.glob("*.png"))
    for tag, attributes in page.elements:
        outside = {"href", "srcset", "background", "action", "style"} | ({"src"} if tag != "img" else set())
        assert not outside & attributes.keys() and not any(name.startswith("on") for name in attributes)
    assert "url(" not in html.STYLE and "@import" not in html.STYLE
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.all("meta"))


def test_the_page_tells_the_story(results):
    text = Page(report.page(results, {draw.__name__: b"png" for draw in figures.FIGURES})).text
    for heading in ("1. Pretrain", "2. Fine-tune", "3. What transfer bought", "Settings"):
        assert heading in text
    assert all(caption in text for caption in figures.FIGURES.values())
    assert "2.530 ± 0.005" in text and "60.0 ± 2.0 %" in text and "29.0 points more" in text
    assert f"numpy-docs, SHA-256 {'cd' * 32}" in text and "openblas 0.3.30" in text and "0, 1, 2" in text
    assert "quick run" not in text
    results.records.header["settings"]["quick"] = True
    assert "quick run" in Page(report.page(results, {})).text


def test_results_are_saved_whole_and_no_temporary_file_stays(written):
    saved = Records.read(written / report.RECORDS, report.KIND)
    assert saved.header == made_up().header | saved.header and saved.rows.keys() == made_up().rows.keys()
    assert list(saved.of("task")) == list(made_up().of("task"))
    expected = {"report.html", report.RECORDS, *(f"{draw.__name__}.png" for draw in figures.FIGURES)}
    assert {path.name for path in written.iterdir()} == expected


def test_a_folder_is_made_and_a_report_of_before_may_be_replaced(tmp_path):
    report.check_folder(tmp_path / "runs" / "demo")
    assert list((tmp_path / "runs" / "demo").iterdir()) == []
    (tmp_path / "runs" / "demo" / ".hidden").write_text("a system's own")
    report.check_folder(tmp_path / "runs" / "demo")
    (tmp_path / "report.html").write_text("old")
    report.check_folder(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(MiniloraError, match="holds other things and no report: choose another --out"):
        report.check_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(MiniloraError, match="cannot create the folder .*thesis.tex"):
        report.check_folder(tmp_path / "thesis.tex")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(report.tempfile, "TemporaryFile", refuse)  # chmod does not stop the superuser
    with pytest.raises(MiniloraError, match="cannot write into the folder .*: Permission denied"):
        report.check_folder(tmp_path)
