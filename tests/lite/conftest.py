import pytest

from minilora.classroom.publish import lite


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built once, with records of notebook 08."""
    out = tmp_path_factory.mktemp("lite") / "site"
    lite.build(out, ["08"])
    return out
