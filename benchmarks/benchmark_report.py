"""docs/benchmarks.md and its picture from the sections that scripts/benchmark measured.

A section is {"title", "text", "rows", "tables"}. A row compares two sides that ran in turn: {"name", "ours": [...],
"theirs": [...], "unit", "lower": whether less is better}, one figure a round; or {"name", "missing": why}. A table is
{"head": [...], "lines": [[...], ...]}.
"""

import html
import math
import statistics
import textwrap


def number(value):
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def spread(values, unit=""):
    middle = f"{number(statistics.median(values))}{' ' + unit if unit else ''}"
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def ratios(row):
    """How many times as fast tagspace is, a round each."""
    pairs = zip(row["ours"], row["theirs"])
    return [theirs / ours if row.get("lower") else ours / theirs for ours, theirs in pairs]


def markdown_table(head, lines):
    rows = ["| " + " | ".join(map(str, line)) + " |" for line in [head, *lines]]
    rows.insert(1, "|---" + "|---:" * (len(head) - 1) + "|")
    return "\n".join(rows)


def section_text(section):
    parts = [
        f"## {section['title']}",
        textwrap.fill(section["text"], 118, break_long_words=False, break_on_hyphens=False),
    ]
    lines, heads = [], ("tagspace", "the other")
    for row in section["rows"]:
        heads = row.get("sides", heads)
        if "missing" in row:
            lines.append([row["name"], f"not available: {row['missing']}", "", ""])
        else:
            unit = row["unit"]
            lines.append(
                [row["name"], spread(row["ours"], unit), spread(row["theirs"], unit), f"**{spread(ratios(row))}**"]
            )
    if lines:
        parts.append(markdown_table(["", *heads, "times as fast"], lines))
    parts += [markdown_table(table["head"], table["lines"]) for table in section.get("tables", [])]
    return "\n\n".join(parts)


def document(introduction, sections):
    picture = "![Times as fast as the other side: medians and spreads](benchmarks.svg)"
    return "\n\n".join([introduction.strip(), picture, *(section_text(s) for s in sections)]) + "\n"


# --- the picture ---

STYLE = """
  text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .group { font-weight: 600 }
  .axis { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .one { stroke: #59636e; stroke-width: 1.5 }
  .bar { fill: #3b82c4 }
  .slower { fill: #c4703b }
  .spread { stroke: #1f2328; stroke-width: 1.5; fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .axis { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .one { stroke: #9198a1 }
    .bar { fill: #4c94d8 }
    .slower { fill: #d98a55 }
    .spread { stroke: #e6edf3 }
  }
"""
LABELS, BARS, FIGURES, LINE = 330, 420, 130, 26  # widths and height, pixels


def picture(sections):
    """An SVG of all ratios: a bar from 1 to the median on a logarithmic axis, a line over the spread."""
    groups = [(s["title"], [(r["name"], ratios(r)) for r in s["rows"] if "missing" not in r]) for s in sections]
    groups = [(title, rows) for title, rows in groups if rows]
    values = [value for _, rows in groups for _, row in rows for value in row] or [1]
    low, high = min(0.8, min(values) * 0.9), max(2.5, max(values) * 1.1)

    def place(value):
        return LABELS + BARS * math.log(value / low) / math.log(high / low)

    height = 70 + sum(LINE * len(rows) + LINE + 6 for _, rows in groups)
    width = LABELS + BARS + FIGURES
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img">'
        ),
        "<title>tagspace beside other programs: times as fast</title>",
        f"<style>{STYLE}</style>",
        '<text class="title" x="16" y="26">tagspace: times as fast as</text>',
        f'<text class="axis" x="{width - 16}" y="26" text-anchor="end">medians; lines: lowest to highest round</text>',
    ]
    for tick in ticks:
        x = place(tick)
        out.append(
            f'<line class="{"one" if tick == 1 else "grid"}" x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="{height - 26}"/>'
        )
        out.append(f'<text class="axis" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{tick:g}×</text>')
    y = 44
    for title, rows in groups:
        y += LINE
        out.append(f'<text class="group" x="16" y="{y - 8}">{html.escape(title)}</text>')
        for name, row in rows:
            median, begin, end = statistics.median(row), min(row), max(row)
            left, right = sorted((place(1), place(median)))
            middle = y + LINE / 2 - 1
            out.append(f'<text x="28" y="{middle + 4:.1f}">{html.escape(name)}</text>')
            out.append(
                f'<rect class="{"bar" if median >= 1 else "slower"}" x="{left:.1f}" y="{middle - 8:.1f}" '
                f'width="{max(right - left, 1):.1f}" height="16" rx="2"/>'
            )
            if len(row) > 1:
                out.append(
                    f'<path class="spread" d="M{place(begin):.1f} {middle - 4:.1f}v8m0-4H{place(end):.1f}m0-4v8"/>'
                )
            out.append(
                f'<text x="{max(place(end), place(median), place(1)) + 8:.1f}"'
                f' y="{middle + 4:.1f}">{number(median)}×</text>'
            )
            y += LINE
        y += 6
    return "\n".join([*out, "</svg>"]) + "\n"
