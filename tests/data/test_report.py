from nmt.data.corpus import CorpusReport


def test_a_report_is_one_line_with_reasons():
    report = CorpusReport(
        pairs_read=29000, kept=28990, dropped_empty=3, dropped_nul=0, dropped_too_long=7, max_length=100
    )
    assert report.dropped == 10
    assert report.describe() == (
        "29,000 pairs read, 28,990 kept, 10 dropped: 7 longer than 100 tokens, 3 with an empty side"
    )


def test_a_report_without_drops_is_short():
    report = CorpusReport(pairs_read=5, kept=5, dropped_empty=0, dropped_nul=0, dropped_too_long=0, max_length=9)
    assert report.describe() == "5 pairs read, 5 kept, 0 dropped"
