"""Both directions made one, and the error rate."""

import pytest

from nmt.alignment.links import SYMMETRIZATIONS, ErrorRate, Gold, alignment_error_rate, parse_links, pharaoh
from nmt.corpus_verbs.align_corpus import Symmetrization
from nmt.errors import DataError

# The intersection is (0, 0), (3, 3). Grown: (1, 0) and (1, 1) beside and diagonal to (0, 0), then (2, 2); not (3, 0),
# whose words have links. (5, 5) touches nothing; its words are free, so "final" takes it, and then not (5, 6), whose
# source word no longer is.
FORWARD = {(0, 0), (1, 1), (2, 2), (3, 3), (5, 5)}
BACKWARD = {(0, 0), (1, 0), (3, 3), (3, 0), (5, 6)}


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("intersection", {(0, 0), (3, 3)}),
        ("union", FORWARD | BACKWARD),
        ("grow-diag", {(0, 0), (3, 3), (1, 0), (1, 1), (2, 2)}),
        ("grow-diag-final-and", {(0, 0), (3, 3), (1, 0), (1, 1), (2, 2), (5, 5)}),
        ("forward", FORWARD),
        ("backward", BACKWARD),
    ],
)
def test_symmetrization(name, links):
    assert SYMMETRIZATIONS[name](set(FORWARD), set(BACKWARD)) == links


def test_growing_needs_a_word_that_has_no_link():
    block = {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert SYMMETRIZATIONS["grow-diag"]({(0, 0), (1, 1)}, block) == {(0, 0), (1, 1)}


def test_the_command_line_knows_each_symmetrization():
    assert [*map(str, Symmetrization)] == list(SYMMETRIZATIONS)


def test_pharaoh():
    assert pharaoh({(10, 0), (2, 3), (2, 1)}) == "2-1 2-3 10-0"
    assert parse_links("2-1 2p3 10-0") == Gold({(2, 1), (10, 0)}, {(2, 1), (2, 3), (10, 0)})
    with pytest.raises(DataError, match=r"gold.txt, line 3: a link is written 3-4.*got 2:1"):
        parse_links("0-0 2:1", "gold.txt, line 3")


def test_alignment_error_rate_is_what_is_computed_by_hand():
    gold = [parse_links("0-0 1-1 2p1"), parse_links("0-1")]
    links = [{(0, 0), (2, 1), (3, 3)}, {(0, 1), (1, 0)}]
    # |A| = 5, |S| = 3; of A, (0, 0) and (0, 1) are sure, and with (2, 1) three are possible.
    assert alignment_error_rate(zip(links, gold, strict=True)) == pytest.approx(
        ErrorRate(1 - (2 + 3) / (5 + 3), 3 / 5, 2 / 3)
    )
    assert alignment_error_rate([(gold[0].sure, gold[0])]) == ErrorRate(0.0, 1.0, 1.0)
