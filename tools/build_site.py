"""Build both editions into _build/site/ with warnings as errors.

Writes index.html (a chooser), en/ and zh/. Needs no torch: outputs are stored in the notebooks.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EDITIONS = {
    "en": ["--config", "_config.yml", "--toc", "_toc.yml"],
    "zh": ["--config", "book/zh/_config.yml", "--toc", "book/zh/_toc.yml"],
}


def build_edition(root: Path, language: str, extra: list[str]) -> tuple[int, str]:
    """Build one edition into _build/<language>; returns the exit code and everything printed."""
    output = root / "_build" / language
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        ".",
        *EDITIONS[language],
        "--path-output",
        str(output.relative_to(root)),
        "-W",
        "-n",
        "--keep-going",
        "--all",
        "-q",
        *extra,
    ]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # without colours
    output.mkdir(parents=True, exist_ok=True)
    (output / "build.log").write_text(log, encoding="utf-8")
    return done.returncode, log


def assemble(root: Path, site: Path, began: float) -> dict[str, int]:
    """Put both editions and the chooser together; returns the number of pages of each edition."""
    fresh = site.with_name(site.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for language in EDITIONS:
        html = root / "_build" / language / "_build" / "html"
        shutil.copytree(
            html,
            fresh / language,
            ignore=shutil.ignore_patterns(".buildinfo", "*.map", "*webpack-macros.html"),
        )
    shutil.copyfile(root / "tools/chooser.html", fresh / "index.html")
    shutil.copyfile(root / "book/_static/favicon.svg", fresh / "favicon.svg")
    (fresh / ".nojekyll").touch()
    os.utime(fresh / ".nojekyll", (began, began))  # the tests compare it with the sources
    shutil.rmtree(site, ignore_errors=True)
    fresh.rename(site)
    return {language: len(list((site / language).glob("[bn]*/*/*.html"))) for language in EDITIONS}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the book's folder (tests build a small copy)"
    )
    parser.add_argument("extra", nargs="*", help="further options for jupyter-book build")
    options = parser.parse_args()
    root = options.root.resolve()
    site = root / "_build" / "site"
    began = time.time()
    print("Building both editions …", flush=True)
    with ThreadPoolExecutor(len(EDITIONS)) as pool:
        builds = {lang: pool.submit(build_edition, root, lang, options.extra) for lang in EDITIONS}
    results = {language: build.result() for language, build in builds.items()}
    failed = [language for language, (code, _) in results.items() if code]
    for language in failed:
        print(f"\n--- {language}: the build failed or gave warnings; its log follows\n{results[language][1]}")
    if failed:
        return 1
    pages = assemble(root, site, began)
    print(
        f"English edition: {pages['en']} pages. Chinese edition: {pages['zh']} pages. "
        f"No warnings, {time.time() - began:.0f} s."
    )
    print(f"Written to {os.path.relpath(site)}/. Read it with `make serve`, then open http://localhost:8000/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
