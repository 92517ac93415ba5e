"""The tags that JSON records name, line by line, and those that name none."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from nmt.errors import ConfigError, DataError
from nmt.kinds import either
from nmt.text import TextPair

_LOGGER = logging.getLogger(__name__)


class RecordTags:
    """Looks at the tags of JSON records: says in which line a model does not know one, and counts those without any.

    Args:
        text: the tokenizers of the model.
    """

    def __init__(self, text: TextPair) -> None:
        self._text, self._lines, self._untagged = text, 0, 0

    def check(self, tags: Iterable[str | None], before: int | None = None) -> None:
        """Look at the tags of the next lines, None for none; there are so many lines before them if that is given.

        Raises:
            DataError: the model does not know one.
        """
        for number, tag in enumerate(tags, 1 + (self._lines if before is None else before)):
            try:
                self._text.begins(tag)
            except ConfigError as error:
                raise DataError(f"line {number}: {error}") from error
            self._lines, self._untagged = self._lines + 1, self._untagged + (tag is None)

    @property
    def counts(self) -> list[int]:
        """How many lines there were, and how many of them without a tag."""
        return [self._lines, self._untagged]

    def restore(self, counts: list[int]) -> None:
        """Go on with the counts of an earlier process."""
        self._lines, self._untagged = counts

    def report(self) -> None:
        """Log how many lines had no tag, if the model knows any."""
        if self._untagged and self._text.tags:
            count, lines, known = f"{self._untagged:,}", f"{self._lines:,}", either([*self._text.tags])
            _LOGGER.info("%s of %s records name no tag, and are read without: the model knows %s", count, lines, known)
