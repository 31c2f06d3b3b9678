"""Tables, sentences and figures made from results: `pytest tests/demo/test_report.py`."""

import copy
import re
from io import StringIO

import pytest
from rich.console import Console

from experiments.comparison_report import ComparisonResult, accuracy_against_labels
from minilora import palette
from minilora.demo import claims, page
from minilora.demo.claims import AdaptedResult
from minilora.errors import MiniloraError
from minilora.measure.records import Records
from minilora.show import grids

pytestmark = pytest.mark.host

TOTAL, ADAPTER = 2_560_000, 102_400


def text_cell(method, seed, domain, base_text, trainable=TOTAL, seconds=20.0):
    numbers = {"trainable": trainable, "total": TOTAL, "seconds": seconds, "domain": domain, "base_text": base_text}
    return ("text", method, seed), numbers


def made_up() -> Records:
    """Make records with round means: the base at 2.75, full at 2.50, LoRA at 2.53, from scratch at 3.30."""
    cells = [text_cell("base", 0, 2.75, 2.10, trainable=0, seconds=0.0)]
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        cells += [
            text_cell("scratch", seed, 3.30 + shift, 4.9),
            text_cell("full", seed, 2.50 + shift, 2.21 + 2 * shift),
            text_cell("lora", seed, 2.53 + shift / 2, 2.13 + shift, ADAPTER, 13.0),
        ]
    accuracy = {"scratch": (0.31, 0.52), "feature-extraction": (0.40, 0.50), "full": (0.58, 0.75), "lora": (0.60, 0.74)}
    for method, values in accuracy.items():
        trainable = 768 if method == "feature-extraction" else TOTAL
        for labels, value in zip((16, 128), values, strict=True):
            for seed, shift in enumerate((-0.02, 0.02)):
                numbers = {"accuracy": value + shift, "seconds": 9.0, "trainable": trainable}
                cells.append((("task", method, seed, labels), numbers))
    peaks = {"base": 41_000_000, "scratch": 140_000_000, "full": 140_000_000, "lora": 84_000_000}
    cells += [(("memory", method), {"peak": peak}) for method, peak in peaks.items()]
    texts = {
        "base": {"name": "python-docs", "characters": 3_500_000},
        "domain": {"name": "numpy-docs", "characters": 12_000},
    }
    classes = {"names": ["arrays", "random", "fft", "linalg"], "test_examples": 1_640}
    cells += [(("texts",), texts), (("classes",), classes)]
    return Records(None, {"settings": {}}, {key: {"key": [*key]} | row for key, row in cells})


@pytest.fixture
def results() -> AdaptedResult:
    return AdaptedResult(made_up())


def scaled(results, method, domain=0.0, base_text=0.0):
    """Return a copy in which all seeds of `method` end `bits` higher."""
    results = copy.deepcopy(results)
    for row in results.records.of("text", method):
        row["domain"] += domain
        row["base_text"] += base_text
    return results


def cells(grid):
    """Return a grid as {method: {first line of the column's name: cell}}."""
    names = [name.replace("\n", " ") for name in grid.header]
    return {row[0]: dict(zip(names, row, strict=True)) for row in grid.rows}


# Tables


def test_the_adaptation_table_has_each_number_in_its_place(results):
    table = cells(claims.adaptation_grid(results))
    expected = {
        "base as it is": "– – 41 MB – 2.750 2.100 –",
        "from scratch": "2,560,000 100 % 140 MB 20 s 3.300 ± 0.010 4.900 ± 0.000 –",  # it never knew the base's text
        "full": "2,560,000 100 % 140 MB 20 s 2.500 ± 0.010 2.210 ± 0.020 +0.110",
        "LoRA": "102,400 4.0 % 84 MB 13 s 2.530 ± 0.005 2.130 ± 0.010 +0.030",
    }
    assert {name: " ".join([*row.values()][1:]) for name, row in table.items()} == expected
    better = cells(claims.adaptation_grid(scaled(results, "lora", base_text=-0.05)))
    assert better["LoRA"]["forgot"] == "−0.020"  # the base text got better


def test_small_shares_and_large_sizes_keep_their_digits():
    assert [grids.show_share(share) for share in (1, 0.5, 0.0994, 0.0996, 0.041, 0.00184, 0.000043)] == [
        "100 %", "50 %", "9.9 %", "10 %", "4.1 %", "0.18 %", "0.004 %",
    ]  # fmt: skip
    assert [grids.show_bytes(n) for n in (41_400_000, 999_400_000, 1_250_000_000)] == ["41 MB", "999 MB", "1.2 GB"]
    assert [grids.show_seconds(s) for s in (0.84, 9.94, 9.96, 75)] == ["0.8 s", "9.9 s", "10 s", "75 s"]


def test_a_method_without_a_name_is_an_error_and_never_dropped(results):
    results.records.rows["text", "vora", 0] = results.records.rows["text", "lora", 0]
    with pytest.raises(MiniloraError, match="unknown method in the records 'vora': .*lora"):
        AdaptedResult(results.records)


def test_the_figure_shows_the_numbers():
    results = ComparisonResult(made_up())
    axes = accuracy_against_labels(results).axes[0]
    line = next(c for c in axes.containers if c.get_label() == "feature extraction")[0]
    assert list(line.get_ydata()) == pytest.approx([40, 50]) and axes.get_ylabel() and axes.get_xlabel()
    results.records.rows = {key: row for key, row in results.records.rows.items() if key[-1] != 128}
    assert accuracy_against_labels(results) is None  # one number of labels is no curve


def test_the_demo_begins_with_three_numbers_and_a_chart(results):
    (worth, _), (share, learned), (forgot, beside) = claims.three_numbers(results)
    assert (worth, share, forgot) == ("0.80", "4.0 %", "+0.030")
    assert "gains 0.220 " in learned and learned.endswith(" 0.250") and beside.endswith(" +0.110")
    bars = claims.learned_and_forgot(scaled(results, "lora", base_text=-0.05))
    expected = {"full learned": 0.25, "LoRA learned": 0.22, "full forgot": 0.11, "LoRA forgot": -0.02}
    assert bars == pytest.approx(expected)
    output = StringIO()
    page.tell(Console(file=output, width=80), [("0.80", "bits")], "A chart", bars, grids.show_signed)
    lengths = [line.count("█") for line in output.getvalue().splitlines() if line.startswith(("full", "LoRA"))]
    assert lengths == [40, 35, 17, 0] and "−0.020" in output.getvalue() and "0.80  bits" in output.getvalue()


def test_the_page_has_the_chart_and_shows_markup_as_text(results):
    bars, grid = claims.learned_and_forgot(scaled(results, "lora", base_text=-0.05)), claims.adaptation_grid(results)
    chart = page.chart("A <chart>", bars, grids.show_signed)
    assert re.findall(r"width: ([0-9.]+)%", chart) == ["100.0", "88.0", "44.0", "0.0"] and "<td>−0.020</td>" in chart
    assert re.findall('background: ([^"]+)', chart) == 2 * [palette.GREEN] + 2 * [palette.RED], "learned and forgot"
    assert f"background: {palette.BLUE}" in page.chart("Another", {"fine-tuned": 1.0}, str)
    html = page.page("<b>", "<i>", [("<1>", "<2>")], chart, grid, [("<h>", "<p>")])
    assert all(f"&lt;{name}&gt;" in html for name in ("b", "i", "1", "2", "h", "chart"))
    assert "<h2>&lt;h&gt;</h2>" in html
    assert html.count("<tr>") == 4 + 1 + len(grid.rows) and "2.530 ± 0.005" in html and "http" not in html
