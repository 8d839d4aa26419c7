"""One chart of the results, readable on a light and on a dark page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEXT, BAR, OURS = "#768390", "#9aa4af", "#2f81f7"


@dataclass(frozen=True)
class Row:
    label: str
    microseconds: float
    remark: str = ""
    is_ours: bool = False


def draw(path: Path, rows: list[Row], title: str, note: str) -> None:
    """Writes an SVG of one bar a row, the texts as text."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "text.color": TEXT})
    figure, axes = pyplot.subplots(figsize=(8.4, 0.46 * len(rows) + 1.1))
    widths = [row.microseconds for row in rows]
    bars = axes.barh(
        range(len(rows)), widths, height=0.64, color=[OURS if row.is_ours else BAR for row in rows]
    )
    for bar, row in zip(bars, rows, strict=True):
        text = " · ".join(filter(None, (f"{row.microseconds:.1f}", row.remark)))
        right, middle = row.microseconds + max(widths) * 0.015, bar.get_y() + bar.get_height() / 2
        axes.text(right, middle, text, va="center", fontsize=11, weight="bold" if row.is_ours else "normal")
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=11, color=TEXT)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, max(widths) * 1.45)
    axes.set_frame_on(False)
    figure.text(0.012, 0.94, title, fontsize=13, weight="bold", va="center")
    figure.text(0.012, 0.04, note, fontsize=9, va="center")
    figure.tight_layout(rect=(0, 0.06, 0.96, 0.91))
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
