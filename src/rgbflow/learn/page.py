"""The form of HTML pages with results: one self-contained file.

A page needs no network, script or second file. It follows the reader's light or dark setting and prints in light.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from rgbflow.shown import html_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

PAGE_INCHES = 11  # width of a figure across the whole page

PALETTES = {
    "light": {
        "paper": "#fdfdfb", "ink": "#1c2126", "soft": "#626b75", "line": "#e2e3de", "track": "#ebece7",
        "both": "#55616d", "rgb": "#c65f30", "flow": "#2f7cac", "fusion": "#4c9067", "deep": "#16395a",
        "warn": "#8c2f14", "warn-paper": "#fcf0ea",
    },
    "dark": {
        "paper": "#14171a", "ink": "#e6e8e9", "soft": "#98a1aa", "line": "#2b3036", "track": "#262b30",
        "both": "#98a6b3", "rgb": "#e28b5f", "flow": "#6bb0da", "fusion": "#82c398", "deep": "#a5d3f2",
        "warn": "#f3b59c", "warn-paper": "#35201a",
    },
}  # fmt: skip


def page(title: str, sections: Iterable[str]) -> str:
    """The whole page; the title is text, the sections are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html_text(title)}</title>\n<style>{_style()}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def provenance_section(provenance: Mapping[str, str]) -> str:
    if not provenance:
        return ""
    entries = "".join(f"<dt>{html_text(key)}</dt><dd>{html_text(value)}</dd>" for key, value in provenance.items())
    return section("Origin of the figures", "", f"<dl>{entries}</dl>\n")


def section(heading: str, note: str, body: str) -> str:
    """A section of the page; heading, note and body are HTML."""
    note = f'<p class="note">{note}</p>\n' if note else ""
    return f"<section>\n<h2>{heading}</h2>\n{note}{body}</section>\n"


def grid(rows: Sequence[Mapping[str, object]]) -> str:
    """A table of plain records that have the same keys."""
    head = "".join(f"<th>{html_text(key)}</th>" for key in rows[0])
    lines = "".join(
        f"<tr>{''.join(f'<td>{html_text(str(value))}</td>' for value in row.values())}</tr>\n" for row in rows
    )
    return f'<div class="wide"><table class="grid"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>\n'


def interval_text(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1f}&ndash;{interval[1]:.1f}"


def themed(draw: Callable[[Mapping[str, str]], Figure], alt: str) -> str:
    """A figure drawn for light and for dark paper; print takes the light one."""
    light, dark = (_svg(draw, PALETTES[theme]) for theme in ("light", "dark"))
    return (
        f'<div class="wide"><picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{html_text(alt)}"></picture></div>\n'
    )


def _svg(draw: Callable[[Mapping[str, str]], Figure], palette: Mapping[str, str]) -> str:
    """The figure that `draw(palette)` returns as a data URI; the same figure always gives the same bytes."""
    import matplotlib

    settings: dict[RcKeyType, object] = {
        "svg.fonttype": "none",  # the reader's fonts know more alphabets than ours
        "svg.hashsalt": "rgbflow",
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": palette["line"],
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.edgecolor": palette["line"],
        "text.color": palette["ink"],
        "axes.titlecolor": palette["ink"],
        "axes.labelcolor": palette["soft"],
        "xtick.color": palette["soft"],
        "ytick.color": palette["soft"],
    }
    buffer = BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # measured with a font that may lack the letter
        draw(palette).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _style() -> str:
    light, dark = (_variables(PALETTES[theme]) for theme in ("light", "dark"))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{STYLE}"


def _variables(palette: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


STYLE = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font-variant-numeric:tabular-nums;
 font:15px/1.5 system-ui,"Segoe UI","Helvetica Neue","DejaVu Sans",sans-serif;
 -webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:1120px;margin:0 auto;padding:56px 28px 72px}
h1,.headline{font-family:"Iowan Old Style",Charter,"Bitstream Charter",Georgia,"DejaVu Serif",serif}
h1{font-size:15px;font-weight:400;font-style:italic;color:var(--soft);margin:0 0 10px}
.headline{font-size:30px;line-height:1.28;letter-spacing:-.01em;max-width:30em;margin:0 0 30px;
 text-wrap:balance}
h2{font-size:17px;font-weight:650;margin:0 0 2px}
section{border-top:1px solid var(--line);padding-top:22px;margin-top:40px}
.note,.basis,.lead{color:var(--soft);margin:0 0 16px;max-width:68em}
.lead{margin:14px 0 4px;font-size:13px}
.basis{margin:18px 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:32px}
.tile{max-width:360px}
.tile span{display:block}
.tile .name{font-weight:650;color:var(--own)}
.tile .big{font-size:46px;line-height:1.15;font-weight:300;letter-spacing:-.02em}
.tile small{font-size:22px;margin-left:.18em;color:var(--soft)}
.tile .whisker{position:relative;height:6px;margin:8px 0 6px;background:var(--track);border-radius:3px}
.whisker i,.whisker b{position:absolute;top:0;height:6px;border-radius:3px;background:var(--own)}
.whisker i{opacity:.38}
.whisker b{width:4px;height:14px;top:-4px;margin-left:-2px;box-shadow:0 0 0 1.5px var(--paper)}
.interval{color:var(--soft);font-size:13px}
.fusion{--own:var(--fusion)}.rgb{--own:var(--rgb)}.flow{--own:var(--flow)}
.both{--own:var(--both)}.wrong{--own:var(--track)}
.warning{margin:18px 0 0;padding:12px 16px;border-left:3px solid var(--warn);
 background:var(--warn-paper);color:var(--warn)}
.examples{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:26px 32px}
figure{margin:0;break-inside:avoid}
.strip{display:grid;gap:3px}
.strip img{width:100%;display:block;border-radius:2px;box-shadow:0 0 0 1px var(--line)}
figcaption{font-size:13px;color:var(--soft);margin-top:6px;overflow-wrap:anywhere}
figcaption strong{color:var(--ink);font-weight:650;margin-right:.6em}
.said{font-size:13px;overflow-wrap:anywhere}
.said img{margin-bottom:4px}
.said b{color:var(--own);font-weight:650;margin-right:.3em}
.said .right{color:var(--fusion)}
.said .right::after{content:" ✓"}
.mistake{color:var(--warn)}
.wide{overflow-x:auto}
.wide img{display:block;max-width:none}
table{border-collapse:collapse}
th{font-weight:400;color:var(--soft);font-size:13px;text-align:left}
thead th{border-bottom:1px solid var(--line);padding:4px 0 6px}
td,tbody th{padding:7px 0;border-bottom:1px solid var(--line);vertical-align:baseline}
.figures td,.figures th{white-space:nowrap}
.figures td{text-align:right;padding-left:44px;font-size:17px}
.figures td.interval{padding-left:12px;font-size:13px}
.figures thead th{text-align:right;padding-left:44px}
.figures tbody th{color:var(--ink);font-weight:650;font-size:15px;padding-right:16px}
.grid{font-size:13px;margin-bottom:18px}
.grid td,.grid th{padding:6px 18px 6px 0;vertical-align:baseline}
.grid td,.grid tbody th{white-space:nowrap}
.grid thead th{vertical-align:bottom}
.grid tbody th{color:var(--ink);font-weight:650}
.grid strong{font-size:15px}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;background:var(--own);margin-right:9px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 22px;margin:0 0 14px;padding:0;font-size:13px}
.legend span{color:var(--soft);margin-left:.3em}
.swatch{display:inline-block;width:18px;height:9px;border-radius:2px;background:var(--own);margin-right:7px}
.bars.two{columns:2;column-gap:44px}
.bar{display:grid;grid-template-columns:11em 1fr 3.4em;align-items:center;gap:12px;font-size:13px;
 line-height:23px;break-inside:avoid}
.bar .class{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bar .track{display:flex;gap:1px;height:13px;background:var(--track);border-radius:2px;overflow:hidden}
.bar .track i{background:var(--own)}
.bar .count{color:var(--soft);text-align:right}
.mistakes{font-size:13px;width:100%;min-width:620px}
.mistakes td,.mistakes th{padding:5px 18px 5px 0}
.mistakes .clip{overflow-wrap:anywhere;color:var(--soft)}
.mistakes .score{text-align:right;color:var(--soft);padding-right:26px;width:1%}
.mistakes .right{color:var(--fusion);font-weight:650}
.mistakes .right::after{content:" ✓"}
dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 24px;margin:14px 0 0;font-size:13px}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere;
 font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
@media (max-width:700px){main{padding:28px 16px}.headline{font-size:23px}.bars.two{columns:1}
 .bar{grid-template-columns:8em 1fr 3em}
 .figures td,.figures thead th{padding-left:20px}}
@media print{@page{margin:14mm}body{font-size:11px}main{max-width:none;padding:0}
 section{margin-top:22px;padding-top:12px}
 h2{break-after:avoid}tr,.wide{break-inside:avoid}.headline{font-size:22px}.wide img{max-width:100%}
 .tiles{grid-template-columns:repeat(3,1fr)}.examples{grid-template-columns:1fr 1fr;gap:14px 22px}
 .mistakes{min-width:0}}
"""
