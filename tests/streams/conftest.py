"""The stores of the tests of data."""

from tests.data.conftest import caption_store, corpus, paths, store, text, write_lines  # noqa: F401
