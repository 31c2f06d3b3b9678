import pytest

from notebooks import lite


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Build the site once."""
    out = tmp_path_factory.mktemp("lite") / "site"
    lite.build(out)
    return out
