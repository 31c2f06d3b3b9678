"""Fixtures that tests of the classroom share: pytest tests/classroom."""

import pytest

from minilora.classroom.sandbox.runner import Sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox
