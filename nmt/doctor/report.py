"""What was found, for people and programs: lines of text, one JSON object, or one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np

from nmt.data.corpus import describe_counts
from nmt.doctor.findings import Examination, Finding
from nmt.filters.features import Array

SEVERITIES = ("fatal", "warning", "note")
_SHOWN = 100


def is_fatal(results: Mapping[str, Examination]) -> bool:
    """Whether a training would be wasted."""
    return any(finding.severity == "fatal" for result in results.values() for finding in result.findings)


def sorted_findings(result: Examination) -> list[Finding]:
    """The findings of a corpus, the gravest first."""
    return sorted(result.findings, key=lambda finding: (SEVERITIES.index(finding.severity), -(finding.count or 0)))


def share(finding: Finding) -> str:
    """How many of how many, in words; empty if it is said of the whole corpus."""
    if finding.count is None or not finding.total:
        return ""
    return f"{finding.count:,} of {finding.total:,} pairs ({finding.count / finding.total:.2%})"


def summary(result: Examination) -> str:
    """How many pairs were read, and what of them `--clean` would leave."""
    part = result.lines_in_warnings / max(1, result.pairs)
    return f"{counted(result)}; {result.lines_in_warnings:,} pairs in warnings ({part:.2%})"


def counted(result: Examination) -> str:
    """How many were read, kept and dropped by reason."""
    dropped = result.dropped() + result.left_out
    return describe_counts(result.pairs - sum(result.dropped().values()), dropped)


def text_lines(results: Mapping[str, Examination], remarks: Sequence[str]) -> Iterator[str]:
    """The report in lines."""
    for name, result in results.items():
        yield f"{name}: {summary(result)}"
        for finding in sorted_findings(result):
            parts = [share(finding), finding.sentence]
            yield f"  {finding.severity}: {finding.check}: {' '.join(filter(None, parts))}"
            for example in finding.examples:
                texts = " ||| ".join(_cut(text) for text in (example.source, example.target))
                shown = f": {texts}" if example.source or example.target else ""
                yield f"      {example.place}{shown}"
            if finding.cost:
                yield f"    cost: {finding.cost}"
            if finding.remedy:
                yield f"    remedy: {finding.remedy}"
        if result.longest:
            longest = result.longest[0]
            yield f"  the longest pair: {longest.place}: {_cut(longest.source)}"
    yield from remarks


def _cut(text: str) -> str:
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in shown)


def as_json(results: Mapping[str, Examination], remarks: Sequence[str]) -> dict[str, Any]:
    """The report as JSON values: all that is in the text, and the histograms."""
    corpora = {
        name: {
            "pairs": result.pairs,
            "left_out": dict(result.left_out),
            "dropped": dict(result.dropped()),
            "pairs_in_warnings": result.lines_in_warnings,
            "usual_ratio": result.ratio,
            "source_words": result.lengths[0].tolist(),
            "target_words": result.lengths[1].tolist(),
            "ratios": result.ratios.tolist(),
            "longest": [asdict(example) for example in result.longest],
            "findings": [asdict(finding) for finding in sorted_findings(result)],
        }
        for name, result in results.items()
    }
    return {"fatal": is_fatal(results), "corpora": corpora, "remarks": list(remarks)}


_STYLE = """
:root { color-scheme: light dark; --line: #8888; --bar: #3b7dd8; --fatal: #c62828; --warning: #b26a00; --note: #52708a }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { border-top: 1px solid var(--line); padding-top: 1rem }
section.finding { border-left: 4px solid var(--line); padding: .1rem 1rem; margin: 1rem 0; break-inside: avoid }
.fatal { border-color: var(--fatal) !important } .warning { border-color: var(--warning) !important }
.fatal b { color: var(--fatal) } .warning b { color: var(--warning) } .note b { color: var(--note) }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td, th { border: 1px solid var(--line); padding: .2rem .5rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere } th:first-child, td:first-child { width: 22% }
figure { display: inline-block; margin: .5rem 1rem .5rem 0 } figcaption { font-size: .85rem }
svg rect { fill: var(--bar) } svg text { font-size: 10px; fill: currentColor } svg line { stroke: var(--line) }
@media print { body { max-width: none; margin: 0 } }
"""


def as_html(results: Mapping[str, Examination], remarks: Sequence[str], *, title: str) -> str:
    """The report as one page, which loads nothing from elsewhere and opens in any browser."""
    verdict = "A training would be wasted." if is_fatal(results) else "Nothing found that would waste a training."
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p>{verdict}</p>\n"
    ]
    for name, result in results.items():
        parts.append(f"<h2>{escape(name)}</h2>\n<p>{escape(summary(result))}</p>\n")
        if result.pairs:
            for side, counts in zip(("source", "target"), result.lengths, strict=True):
                parts.append(_histogram(*_words(counts), f"words a line, {side}"))
            labels = [f"{2 ** (step / 8 - 4):.2g}" for step in range(len(result.ratios))]
            parts.append(_histogram(result.ratios, labels, "characters of a target per character of its source"))
        parts += [_finding(finding) for finding in sorted_findings(result)]
        if result.longest:
            parts.append("<h3>The longest pairs</h3>\n" + _examples(result.longest))
    if remarks:
        parts.append("<h2>The run</h2>\n" + "".join(f"<p>{escape(remark)}</p>\n" for remark in remarks))
    return "".join([*parts, "</body>\n</html>\n"])


def _words(counts: Array) -> tuple[Array, list[str]]:
    """Counts by words, those above where nearly all end in one, with what is written below them."""
    most = int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())) + 1
    width = max(1, -(-most // 64))
    stop = min(len(counts), width * 64)
    starts = np.arange(0, stop, width)
    shown = np.add.reduceat(counts[:stop], starts)
    shown[-1] += counts[stop:].sum()
    return shown, [str(start) for start in starts]


def _histogram(counts: Array, labels: Sequence[str], caption: str) -> str:
    width, height, step = 6 * len(counts), 90, 6
    top = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{step * place}" y="{height - height * count / top:.1f}" width="{step - 1}" '
        f'height="{height * count / top:.1f}"><title>{labels[place]}: {count:,}</title></rect>'
        for place, count in enumerate(counts.tolist())
        if count
    )
    words = "".join(
        f'<text x="{step * place}" y="{height + 12}">{labels[place]}</text>' for place in range(0, len(counts), 8)
    )
    return (
        f'<figure><svg role="img" width="{width}" height="{height + 16}" viewBox="0 0 {width} {height + 16}">'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}"/>{bars}{words}</svg>'
        f"<figcaption>{escape(caption)}; the highest bar: {top:,} pairs</figcaption></figure>\n"
    )


def _finding(finding: Finding) -> str:
    told = escape(" ".join(filter(None, [share(finding), finding.sentence])))
    more = "".join(
        f"<p>{label}: {escape(text)}</p>\n"
        for label, text in (("Cost", finding.cost), ("Remedy", finding.remedy))
        if text
    )
    return (
        f'<section class="finding {finding.severity}">\n'
        f"<p><b>{finding.severity}: {escape(finding.check)}</b> {told}</p>\n"
        f"{more}{_examples(finding.examples) if finding.examples else ''}</section>\n"
    )


def _examples(examples: Sequence[Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(example.place)}</td><td dir=auto>{escape(_cut(example.source))}</td>"
        f"<td dir=auto>{escape(_cut(example.target))}</td></tr>\n"
        for example in examples
    )
    return f"<table>\n<tr><th>where</th><th>source</th><th>target</th></tr>\n{rows}</table>\n"
