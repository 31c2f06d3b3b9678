import pytest

from notebooks import lite


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built once."""
    out = tmp_path_factory.mktemp("lite") / "site"
    lite.build(out)
    return out
