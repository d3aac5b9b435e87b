"""Write the repository's address wherever the book names it, or remove it everywhere with an empty one.

    python tools/set_repository.py https://github.com/OWNER/NAME

Places: both _config.yml (launch, edit and issue buttons), the badges of both READMEs, pyproject.toml,
CITATION.cff, and the install cell of every notebook. In text files the lines stand between two marks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+")

CONFIG = """\
  use_repository_button: true
  use_issues_button: true
  use_edit_page_button: true
repository: {{url: "{url}", branch: main, path_to_book: ""}}
launch_buttons:
  notebook_interface: jupyterlab
  binderhub_url: https://mybinder.org
  colab_url: https://colab.research.google.com
"""
BADGES = """\
[![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{name}/blob/main/{chapter})
[![Binder](https://mybinder.org/badge_logo.svg)](https://mybinder.org/v2/gh/{name}/main?urlpath=lab/tree/{chapter})
"""
PROJECT = """\
[project.urls]
Repository = "{url}"
Issues = "{url}/issues"
"""
CHAPTER = "notebooks/{language}/05_1_code_walkthrough.ipynb"

INSTALL_CELL = re.compile(r"try:\n    import recsys_lib\nexcept ImportError.*(?:\n[ \t]+.*)+")
NOT_SET = """\
try:
    import recsys_lib
except ImportError as error:  # in a fresh environment
    raise ImportError("Install the book's library first: see the set-up page") from error"""
SET = """\
try:
    import recsys_lib
except ImportError:  # in a fresh environment, such as Colab
    %pip install -q "recsys-lib[{extras}] @ git+{url}@main"
    import recsys_lib"""


def texts(url: str) -> dict[str, tuple[str, str, str]]:
    """Return for each file the opening mark, the lines below it, and the closing mark."""
    name = url.removeprefix("https://github.com/")

    def badges(language: str) -> str:
        return BADGES.format(name=name, chapter=CHAPTER.format(language=language)) if url else ""

    def fill(template: str, empty: str = "") -> str:
        return template.format(url=url) if url else empty

    hashes, comments = (
        ("# <repository>", "# </repository>"),
        ("<!-- <repository> -->", "<!-- </repository> -->"),
    )
    lines = {
        "_config.yml": (hashes, fill(CONFIG, 'repository: {url: ""}\n')),
        "book/zh/_config.yml": (hashes, fill(CONFIG, 'repository: {url: ""}\n')),
        "pyproject.toml": (hashes, fill(PROJECT)),
        "CITATION.cff": (hashes, fill('repository-code: "{url}"\n')),
        "README.md": (comments, badges("en")),
        "README.zh.md": (comments, badges("zh")),
    }
    return {file: (marks[0], text, marks[1]) for file, (marks, text) in lines.items()}


def between_marks(text: str, opening: str, closing: str) -> str:
    """Return what stands between two marks, which must be there once."""
    if text.count(opening) != 1 or text.count(closing) != 1:
        raise ValueError(f"the marks {opening} and {closing} must each be there once")
    return text.split(opening + "\n")[1].split(closing)[0]


def with_lines(text: str, opening: str, lines: str, closing: str) -> str:
    """Return a text with other lines between its marks."""
    return text.replace(
        opening + "\n" + between_marks(text, opening, closing) + closing, opening + "\n" + lines + closing
    )


def install_cell(notebook: dict) -> dict:
    """Return a notebook's install cell: its first code cell."""
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    if not INSTALL_CELL.search("".join(cell["source"])):
        raise ValueError("the first code cell does not import recsys_lib as the install cell does")
    return cell


def expected_install_cell(notebook: dict, url: str) -> str:
    """Return the source of a notebook's install cell for an address; its metadata may name more extras."""
    extras = ",".join(notebook["metadata"].get("book", {}).get("extras", ["models"]))
    written = SET.format(extras=extras, url=url) if url else NOT_SET
    return INSTALL_CELL.sub(lambda _: written, "".join(install_cell(notebook)["source"]))


def notebooks(root: Path) -> list[Path]:
    """Return the chapters of both editions."""
    return sorted((root / "notebooks").glob("[ez][nh]/*.ipynb"))


def differences(root: Path, url: str) -> list[str]:
    """Return the files that do not name an address (or name one although it is empty)."""
    found = []
    for file, (opening, lines, closing) in texts(url).items():
        if between_marks((root / file).read_text(encoding="utf-8"), opening, closing) != lines:
            found.append(file)
    for path in notebooks(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if "".join(install_cell(notebook)["source"]) != expected_install_cell(notebook, url):
            found.append(path.relative_to(root).as_posix())
    return found


def stored_address(root: Path) -> str:
    """Return the address that _config.yml names, or an empty text."""
    found = re.search(
        r'^repository: \{url: "(.*?)"', (root / "_config.yml").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else ""


def write(root: Path, url: str) -> None:
    """Write an address everywhere."""
    for file, (opening, lines, closing) in texts(url).items():
        path = root / file
        path.write_text(
            with_lines(path.read_text(encoding="utf-8"), opening, lines, closing), encoding="utf-8"
        )
    for path in notebooks(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        install_cell(notebook)["source"] = expected_install_cell(notebook, url).splitlines(keepends=True)
        text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="https://github.com/OWNER/NAME, or an empty text")
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder")
    options = parser.parse_args()
    url = options.url.rstrip("/").removesuffix(".git")
    if url and not ADDRESS.fullmatch(url):
        print(
            f"{url} is not of the form https://github.com/OWNER/NAME (Colab opens notebooks of GitHub only)"
        )
        return 1
    write(options.root, url)
    print(f"The repository's address is now {url}." if url else "The repository's address was removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
