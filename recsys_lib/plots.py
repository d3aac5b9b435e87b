"""Figures with one look: colour-blind safe, readable on light and dark pages, Chinese labels everywhere.

Words inside figures are short and bilingual ("Score 得分") and come from the caller. Every helper draws into
``ax`` (a new figure by default), returns the axes, and imports matplotlib only when it is called. The Chinese
glyphs come from the font subset in ``recsys_lib/fonts`` (SIL Open Font License).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recsys_lib.evaluation import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT = Path(__file__).parent / "fonts" / "NotoSansCJKsc-Subset.otf"
BACKGROUND = "#fcfcfa"  # opaque, so that black text stays readable on a dark page
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"]  # Okabe and Ito
MUTED = "#767676"


def use_style() -> None:
    """Set the book's look for all figures drawn afterwards; every helper calls it."""
    import matplotlib
    from cycler import cycler
    from matplotlib import font_manager

    if str(FONT) not in {font.fname for font in font_manager.fontManager.ttflist}:
        font_manager.fontManager.addfont(str(FONT))
    matplotlib.rcParams.update(
        {
            "font.family": ["Noto Sans CJK SC", "DejaVu Sans"],
            "font.size": 11,
            "axes.unicode_minus": False,
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.facecolor": BACKGROUND,
            "savefig.facecolor": BACKGROUND,
            "savefig.transparent": False,
            "figure.constrained_layout.use": True,
            "axes.facecolor": BACKGROUND,
            "axes.prop_cycle": cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.grid": False,
            "grid.color": "#d9d9d4",
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
            "image.cmap": "cividis",
            "lines.linewidth": 2.0,
            "legend.frameon": False,
        }
    )


def _axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """Return ``ax``, or the axes of a new figure in the book's look."""
    use_style()
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size)[1] if ax is None else ax


def _label(ax: Axes, title: str, x_label: str, y_label: str) -> Axes:
    ax.set_title(title)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    return ax


def heatmap(
    matrix: ArrayLike,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    title: str = "",
    bar_label: str = "",
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix as coloured cells with its numbers in them.

    Parameters
    ----------
    matrix : array (n, m)
    row_labels, column_labels : n and m strings
    title, bar_label : str
        Title, and what the colours measure.
    limits : (low, high), optional
        Values of the first and last colour; the matrix's own by default.
    decimals : int
        Decimals of the numbers in the cells; with more than 150 cells none are written.
    ax : matplotlib axes, optional

    Raises
    ------
    ValueError
        If the labels do not match the matrix.
    """
    values = np.asarray(matrix, dtype=float)
    if values.shape != (len(row_labels), len(column_labels)):
        labels = (len(row_labels), len(column_labels))
        raise ValueError(f"labels for a matrix of shape {labels}, but its shape is {values.shape}")
    rows, columns = values.shape
    ax = _axes(ax, (2.6 + 0.75 * min(columns, 16), 1.6 + 0.5 * min(rows, 16)))
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    image = ax.imshow(values, vmin=low, vmax=high, aspect="auto")
    ax.set_xticks(range(columns), column_labels, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(rows), row_labels)
    ax.spines[:].set_visible(False)
    if values.size <= 150:
        for (i, j), value in np.ndenumerate(values):
            color = "black" if (value - low) > 0.45 * (high - low) else "white"
            ax.text(j, i, f"{value:.{decimals}f}", ha="center", va="center", color=color, fontsize=9)
    ax.figure.colorbar(image, ax=ax, label=bar_label)
    ax.set_title(title)
    return ax


def report_plot(
    report: Report | pd.DataFrame, metric: str = "ndcg", *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw each row of a report as a point, with its 95% interval where the metric is NDCG.

    Parameters
    ----------
    report : Report, or its ``values()``
    metric : "ndcg", "hit", "mrr" or "recall"
        Other metrics than NDCG show ± 1 sd over seeds where there are several.
    title : str
    ax : matplotlib axes, optional
    """
    table = report.values() if isinstance(report, Report) else report
    names = {"ndcg": "NDCG", "hit": "HR", "mrr": "MRR", "recall": "Recall 召回率"}
    if table.empty or metric not in names:
        raise ValueError(f"an empty report, or a metric outside {', '.join(names)}: {metric!r}")
    table = table.iloc[::-1]  # first row on top
    place = np.arange(len(table))
    if metric == "ndcg":
        error = np.abs(table[["low", "high"]].to_numpy().T - table["ndcg"].to_numpy())
        about = "95% CI 区间"
    else:
        error = np.tile(table[f"{metric}_sd"].fillna(0.0).to_numpy(), (2, 1))
        about = "± sd"
    ax = _axes(ax, (7.0, 1.2 + 0.4 * len(table)))
    ax.errorbar(
        table[metric], place, xerr=error, fmt="o", color=COLORS[0], ecolor=MUTED, capsize=3, elinewidth=1.5
    )
    ax.set_yticks(place, [str(name) for name in table.index])
    ax.set_ylim(-0.6, len(table) - 0.4)
    ax.margins(x=0.1)
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    ax.grid(axis="x")
    k = next(iter(report.rows.values()))[0].k if isinstance(report, Report) else None
    at = f"@{k}" if k else ""
    return _label(ax, title, f"{names[metric]}{at} ({about})", "")


def long_tail(
    counts: ArrayLike,
    *,
    title: str = "",
    x_label: str = "Items by popularity 物品（按热度）",
    y_label: str = "Interactions 交互数",
    head: float = 0.2,
    ax: Axes | None = None,
) -> Axes:
    """Draw the counts of all items from the most to the least popular, the head share shaded and named.

    Parameters
    ----------
    counts : array (n_items,)
        Interactions of each item.
    head : float in (0, 1)
        Share of the items that count as the head.
    """
    ordered = np.sort(np.asarray(counts, dtype=float))[::-1]
    if not len(ordered) or ordered.sum() <= 0:
        raise ValueError("counts must hold at least one positive number")
    cut = max(1, round(head * len(ordered)))
    share = ordered[:cut].sum() / ordered.sum()
    place = np.arange(1, len(ordered) + 1)
    ax = _axes(ax)
    ax.plot(place, ordered, color=COLORS[0])
    ax.fill_between(place[:cut], ordered[:cut], color=COLORS[4], alpha=0.5)
    ax.fill_between(place[cut - 1 :], ordered[cut - 1 :], color=COLORS[5], alpha=0.5)
    ax.annotate(
        f"top 前 {cut / len(ordered):.0%}: {share:.0%}",
        (place[cut - 1], ordered[cut - 1]),
        (0.35, 0.7),
        textcoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": MUTED},
    )
    return _label(ax, title, x_label, y_label)


def bars(
    values: Mapping[str, float] | pd.Series,
    *,
    errors: Sequence[float] | None = None,
    title: str = "",
    x_label: str = "",
    decimals: int = 3,
    highlight: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw named numbers as horizontal bars, the first on top, each with its number.

    Parameters
    ----------
    values : name -> number
    errors : as many numbers, optional
        Half widths of error bars.
    highlight : names drawn in the second colour
    """
    series = pd.Series(values, dtype=float)
    names, numbers = [str(name) for name in series.index], series.to_numpy()
    place = np.arange(len(names))[::-1]
    ax = _axes(ax, (7.0, 1.2 + 0.4 * len(names)))
    colors = [COLORS[1] if name in highlight else COLORS[0] for name in names]
    ax.barh(place, numbers, color=colors, xerr=errors, ecolor=MUTED, height=0.65)
    shift = np.zeros(len(names)) if errors is None else np.asarray(errors, dtype=float)
    for y, number, extra in zip(place, numbers, shift, strict=True):
        at = number + extra if number >= 0 else number - extra
        ax.annotate(
            f"{number:.{decimals}f}", (at, y), (4 if number >= 0 else -4, 0), textcoords="offset points",
            va="center", ha="left" if number >= 0 else "right", fontsize=9,
        )  # fmt: skip
    ax.margins(x=0.15)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(place, names)
    return _label(ax, title, x_label, "")


def histogram(
    groups: Mapping[str, ArrayLike],
    *,
    bins: int | Sequence[float] = 30,
    title: str = "",
    x_label: str = "",
    y_label: str = "Share 占比",
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of one or more named groups of numbers over the same bins, as shares."""
    arrays = {name: np.asarray(values, dtype=float).ravel() for name, values in groups.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins=bins)
    ax = _axes(ax)
    for name, values in arrays.items():
        share = np.histogram(values, edges)[0] / len(values)
        ax.stairs(share, edges, fill=True, alpha=0.35, label=name)
        ax.stairs(share, edges, color=ax.patches[-1].get_facecolor()[:3], linewidth=1.5)
    if len(arrays) > 1:
        ax.legend()
    return _label(ax, title, x_label, y_label)


def lines(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves, each (x, y), told apart by colour and marker."""
    ax = _axes(ax)
    for (name, (x, y)), marker in zip(curves.items(), _markers(len(curves)), strict=True):
        ax.plot(np.asarray(x), np.asarray(y), marker=marker, markersize=5, label=name)
    ax.grid(axis="y")
    if len(curves) > 1:
        ax.legend()
    return _label(ax, title, x_label, y_label)


def scatter(
    points: ArrayLike,
    labels: Sequence[str] | None = None,
    *,
    groups: Sequence[str] | None = None,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw points of the plane, with a text beside each and a colour and marker for each group.

    Parameters
    ----------
    points : array (n, 2)
    labels, groups : n strings, optional
    """
    xy = np.asarray(points, dtype=float)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points must have shape (n, 2), got {xy.shape}")
    for name, given in (("labels", labels), ("groups", groups)):
        if given is not None and len(given) != len(xy):
            raise ValueError(f"{len(given)} {name} for {len(xy)} points")
    ax = _axes(ax)
    member = np.asarray([""] * len(xy) if groups is None else list(groups))
    names: list[Any] = list(dict.fromkeys(member))
    for name, marker in zip(names, _markers(len(names)), strict=True):
        ax.scatter(xy[member == name, 0], xy[member == name, 1], label=name, marker=marker, s=36)
    for text, (x, y) in zip(labels or [], xy, strict=labels is not None):
        ax.annotate(text, (x, y), (4, 4), textcoords="offset points", fontsize=9)
    if groups is not None:
        ax.legend()
    return _label(ax, title, x_label, y_label)


def _markers(n: int) -> list[str]:
    return [("o", "s", "^", "D", "v", "P", "X")[i % 7] for i in range(n)]
