"""The frame of an HTML report: one file with its style inside, light or dark as the reader has it.

Kept as Python so that every way of installing the package carries it.
"""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6675; --page: #ffffff;
  --card: #f6f7f9; --line: #dfe3e8; --mark: #fff3e8; --lead: #e4572e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b4; --page: #14181e; --card: #1c2129; --line: #323a45;
    --mark: #33241c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 18px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 10px; }
p { margin: 0 0 10px; max-width: 78ch; }
.lead { background: var(--card); border-left: 4px solid var(--lead); border-radius: 4px;
  padding: 16px 20px; }
.lead p { font-size: 18px; font-weight: 600; margin: 0; max-width: none; }
.lead ul { margin: 8px 0 0; padding-left: 20px; }
.wide { overflow-x: auto; margin-top: 14px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
th, td { padding: 6px 14px 6px 0; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; font-weight: 600; padding-left: 8px; }
.dollars th:nth-child(2), .dollars td:nth-child(2), .ratios th:nth-child(3),
.ratios td:nth-child(3) { text-align: left; }
td small { color: var(--soft); font-size: 12px; }
tr.learned td { background: var(--mark); }
tr.oracle td, tr.bound td { color: var(--soft); font-style: italic; }
.note, figcaption { color: var(--soft); font-size: 13px; margin-top: 8px; max-width: 100ch; }
figure { margin: 0; }
figure svg { display: block; width: 100%; max-width: 980px; height: auto; color: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 0 0 14px;
  font-size: 14px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; }
pre { background: var(--card); padding: 14px 16px; border-radius: 4px; overflow-x: auto;
  font-size: 12.5px; line-height: 1.45; }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""


def page(title: str, body: str) -> str:
    """Return a complete HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
