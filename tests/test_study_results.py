"""pytest tests/test_study_results.py: measured numbers in the project's texts are what the committed records say."""

import pytest

from minilora.errors import MiniloraError
from minilora.study import compare_views, results
from minilora.study.studies import STUDIES

pytestmark = pytest.mark.host
KNOWN = {"comparison.lora.share": "5.9 %"}


def test_the_page_is_what_the_records_say():
    assert (results.ROOT / results.PAGE).read_text() == results.page()
    figures = {path.stem for path in (results.ROOT / results.FIGURES).glob("*.png")}
    assert figures == set(compare_views.FIGURES) | {f"study-{name}" for name in STUDIES}
    assert set(results.measured_studies()) == set(STUDIES)


@pytest.mark.parametrize("path", results.texts(), ids=lambda path: str(path.relative_to(results.ROOT)))
def test_marked_numbers_are_what_the_records_say(path):
    text = path.read_text()
    assert text == results.fill(text, results.values())


def test_readme_has_such_numbers():
    assert results.MARKED.search((results.ROOT / "README.md").read_text())


def test_a_number_is_replaced_where_it_is_marked_and_nowhere_else():
    text = "5 % and <!-- measured: comparison.lora.share -->5 %<!-- / -->, 5 %"
    filled = "5 % and <!-- measured: comparison.lora.share -->5.9 %<!-- / -->, 5 %"
    assert results.fill(text, KNOWN) == filled == results.fill(filled, KNOWN)


def test_a_name_that_was_not_measured_is_an_error():
    with pytest.raises(MiniloraError, match=r"README.md: nothing measured is called comparison\.lorra\.share"):
        results.fill("<!-- measured: comparison.lorra.share -->1<!-- / -->", KNOWN, "README.md")
