"""Draw the two pictures of the README from the recorded values and from the built site.

python tools/readme_pictures.py            needs `make book` and Chromium
"""

from __future__ import annotations

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import execute
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "book/_static/readme"
ROWS = {
    "random NDCG@10": "Random 随机",
    "article recipe NDCG@10": "Article's recipe 文章的做法",
    "popularity NDCG@10": "Popularity 流行度",
    "with popularity prior NDCG@10": "Recipe repaired 修好之后",
    "EASE-recency NDCG@10": "EASE-recency 近因加权",
}


def first_result(path: Path) -> None:
    """Draw the recipe, popularity and the repaired recipe with their intervals."""
    import matplotlib.pyplot as plt

    from recsys_lib import plots

    values = execute.load_status()["05_2_making_it_work"]["checks"]
    table = pd.DataFrame(
        {
            label: [values[f"{name}{part}"]["value"] for part in ("", " low", " high")]
            for name, label in ROWS.items()
        },
        index=["ndcg", "low", "high"],
    ).T
    plots.use_style()
    fig, ax = plt.subplots(figsize=(8, 3.2))
    place = range(len(table))
    spread = [table["ndcg"] - table["low"], table["high"] - table["ndcg"]]
    ax.errorbar(table["ndcg"], place, xerr=spread, fmt="o", capsize=4, color=plots.COLORS[0])
    ax.set_yticks(place, list(table.index))
    ax.invert_yaxis()
    ax.set(xlim=(0, None), xlabel="NDCG@10, MovieLens-100K, leave-one-out 留一法, 95% CI 区间")
    fig.savefig(path, dpi=110)


def page(path: Path) -> None:
    """Photograph a chapter's results."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(ROOT / "_build/site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/en/notebooks/en/05_2_making_it_work.html"
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        tab.goto(address)
        tab.wait_for_load_state("networkidle")
        tab.locator("table.report").first.scroll_into_view_if_needed()
        tab.wait_for_timeout(500)
        tab.screenshot(path=path)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    first_result(PICTURES / "first_result.png")
    page(PICTURES / "page.png")
