import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont

from recsys_lib import plots
from recsys_lib.evaluation import Report, Result

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def fresh_figures():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def report():
    table = Report("p")
    rng = np.random.default_rng(0)
    for name, level in (("Popularity 热度", 0.2), ("EASE", 0.4)):
        frame = pd.DataFrame(dict.fromkeys(("hit", "ndcg", "mrr", "recall"), level + 0.1 * rng.random(50)))
        table.add(Result(name, 10, frame, pd.DataFrame()))
    return table


FIGURES = {
    "heatmap": lambda: plots.heatmap(
        [[1, 0.2], [0.5, -0.3]],
        ["手机", "耳机"],
        ["item 物品", "衬衫"],
        title="Cosine 余弦",
        bar_label="Score 得分",
    ),
    "report": lambda: plots.report_plot(report(), title="Results 结果"),
    "report by hit rate": lambda: plots.report_plot(report().values(), "hit"),
    "long tail": lambda: plots.long_tail(np.arange(1, 101) ** 2, title="Long tail 长尾"),
    "bars": lambda: plots.bars(
        {"甲": 0.5, "乙": -0.2}, errors=[0.1, 0.1], x_label="Difference 差值", highlight=["乙"]
    ),
    "bars without errors": lambda: plots.bars(pd.Series([1.0, 2.0], index=["a", "b"])),
    "histogram": lambda: plots.histogram(
        {"raw 原始": np.arange(50), "centred 中心化": np.arange(25)}, x_label="余弦"
    ),
    "one histogram": lambda: plots.histogram({"raw": [0, 1, 1]}, bins=[0, 1, 2]),
    "lines": lambda: plots.lines({"训练": ([1, 2], [3, 1]), "验证": ([1, 2], [4, 2])}, x_label="Step 步"),
    "one line": lambda: plots.lines({"loss": ([1, 2], [3, 1])}),
    "scatter": lambda: plots.scatter(
        [[0, 1], [1, 0]], ["手机", "衬衫"], groups=["电子", "服装"], title="二维"
    ),
    "plain scatter": lambda: plots.scatter([[0, 1], [1, 0]]),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=list(FIGURES))
def test_every_figure_draws_without_a_warning_and_opaque(draw, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        ax = draw()
        ax.figure.savefig(tmp_path / "figure.png")
    pixels = plt.imread(tmp_path / "figure.png")
    assert pixels[..., 3].min() == 1.0  # no transparent pixel
    corner = tuple(round(255 * float(c)) for c in pixels[0, 0, :3])
    assert "#{:02x}{:02x}{:02x}".format(*corner) == plots.BACKGROUND
    assert pixels[..., 0].std() > 0.01  # something was drawn


def test_helpers_draw_into_given_axes():
    plots.use_style()
    ax = plt.subplots()[1]
    assert plots.lines({"a": ([0, 1], [0, 1])}, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


def test_heatmap_writes_readable_numbers():
    ax = plots.heatmap([[0.0, 1.0]], ["r"], ["a", "b"], limits=(0, 1), decimals=1)
    assert [(t.get_text(), t.get_color()) for t in ax.texts] == [("0.0", "white"), ("1.0", "black")]
    assert not plots.heatmap(np.ones((20, 20)), [""] * 20, [""] * 20).texts  # too many to read


def test_report_plot_shows_the_reports_numbers():
    table = report()
    ax = plots.report_plot(table)
    values = table.values().iloc[::-1]
    drawn = ax.containers[0].lines[0]
    assert drawn.get_xdata() == pytest.approx(values["ndcg"].to_numpy())
    segments = ax.containers[0].lines[2][0].get_segments()
    assert [tuple(s[:, 0]) for s in segments] == [
        pytest.approx((low, high)) for low, high in zip(values["low"], values["high"], strict=True)
    ]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["EASE", "Popularity 热度"]
    assert ax.get_xlabel() == "NDCG@10 (95% CI 区间)"
    assert ax.get_xlim()[0] <= 0


def test_long_tail_names_the_share_of_the_head():
    ax = plots.long_tail([0, 80, 10, 5, 5], head=0.2)
    assert "20%: 80%" in ax.texts[0].get_text()


def contrast(a, b):
    """Contrast ratio of two colours as web accessibility guidelines define it."""

    def luminance(color):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in matplotlib.colors.to_rgb(color)
        ]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_background():
    assert contrast(plots.MUTED, plots.BACKGROUND) >= 4.4
    assert all(
        contrast(color, plots.BACKGROUND) >= 3
        for color in (plots.COLORS[0], plots.COLORS[1], plots.COLORS[2])
    )
    assert contrast("black", plots.BACKGROUND) > 15


def test_the_font_has_the_characters_that_figures_need():
    held = TTFont(plots.FONT).getBestCmap()
    level_1 = [
        bytes([row, cell]).decode("gb2312", "ignore")
        for row in range(0xB0, 0xD8)
        for cell in range(0xA1, 0xFF)
    ]
    level_1 = [character for character in level_1 if character]
    assert len(level_1) == 3755
    assert all(ord(c) in held for c in level_1)
    assert all(ord(c) in held for c in "αβλμσΣ±×→≤≥−·…，。：；！？（）《》“”、éü①")
    assert plots.FONT.stat().st_size < 1_000_000
    licence = (plots.FONT.parent / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence and "Adobe" in licence


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.heatmap([[1, 2]], ["a"], ["b"]), "its shape is"),
        (lambda: plots.report_plot(Report("p")), "empty report"),
        (lambda: plots.report_plot(report(), "auc"), "auc"),
        (lambda: plots.long_tail([]), "positive"),
        (lambda: plots.scatter([[1, 2, 3]]), "shape"),
        (lambda: plots.scatter([[1, 2]], labels=["a", "b"]), "2 labels for 1 points"),
        (lambda: plots.scatter([[1, 2]], groups=[]), "0 groups for 1 points"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
