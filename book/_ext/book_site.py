"""Local Sphinx extension of the book: the two editions, Chinese search, and pages filled from data files."""

from __future__ import annotations

import csv
import html
import json
import re
from itertools import pairwise
from pathlib import Path

import yaml
from babel.messages import mofile, pofile
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.search.en import SearchEnglish
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

LOGGER = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
CJK = "\u3400-\u4dbf\u4e00-\u9fff"
RUN = re.compile(rf"[{CJK}]+|[^\W{CJK}]+")

EMPTY_HEADER = re.compile(r"<th\b[^>]*>(?:\s|&nbsp;|<p>\s*</p>)*</th>")

SMALLEST_P = 0.0005  # of `compare`: 4,000 resamples cannot show less

WORDS = {
    "en": {
        "chapter": "Chapter",
        "seconds": "Run time",
        "compared": "Compared code cells",
        "data": "Data",
        "models": "Models",
        "none": "none",
        "seconds_value": "{:.0f} s",
        "compared_value": "{} of {} ({:.0%})",
        "other": "Chinese",
        "protocols": {
            "leave_one_out": "leave-one-out",
            "random_811": "random 8:1:1",
            "global_time": "global time",
            "cold_items": "cold items",
            "cold_users_0": "cold users, no click",
        },
        "joint": ", ",
        "board": {
            "protocol": "Protocol",
            "model": "Model",
            "ndcg": "NDCG@10",
            "sd": "sd",
            "interval": "95% interval",
            "hit": "HR@10",
            "popularity": "minus popularity",
            "EASE-recency": "minus EASE-recency",
            "best": "minus the best",
            "seeds": "Seeds",
            "seconds": "Training, s",
            "config": "Settings",
        },
        "caption": "Models and controls under five protocols, MovieLens-100K",
        "filter": "Model contains",
        "all": "all protocols",
        "shown": "rows shown",
        "sort": "Sort by",
        "read_next": "Read next",
    },
    "zh": {
        "chapter": "章节",
        "seconds": "运行时间",
        "compared": "输出受比对的代码单元",
        "data": "数据",
        "models": "模型",
        "none": "无",
        "seconds_value": "{:.0f} 秒",
        "compared_value": "{} / {}（{:.0%}）",
        "other": "英文",
        "protocols": {
            "leave_one_out": "留一法",
            "random_811": "随机 8:1:1",
            "global_time": "全局时间",
            "cold_items": "冷启动物品",
            "cold_users_0": "冷启动用户，零次点击",
        },
        "joint": "，",
        "board": {
            "protocol": "评测方案",
            "model": "模型",
            "ndcg": "NDCG@10",
            "sd": "标准差",
            "interval": "95% 区间",
            "hit": "HR@10",
            "popularity": "与热门基线之差",
            "EASE-recency": "与 EASE 近期加权之差",
            "best": "与最佳之差",
            "seeds": "种子数",
            "seconds": "训练秒数",
            "config": "设置",
        },
        "caption": "五种评测方案下的模型与对照，MovieLens-100K",
        "filter": "模型名称包含",
        "all": "全部方案",
        "shown": "行",
        "sort": "排序依据：",
        "read_next": "接着读",
    },
}


def edition(config) -> str:
    """ "en" or "zh": the edition that is being built."""
    return "zh" if (config.language or "en").startswith("zh") else "en"


# --- search ------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Words of an index entry: Chinese runs as single characters and overlapping pairs, the rest whole."""
    words: list[str] = []
    for run in RUN.findall(text):
        if re.match(f"[{CJK}]", run):
            words += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        else:
            words.append(run)
    return words


class SearchWords(SearchEnglish):
    """English search that also finds a word whose stem is a stop word ("one" in "leave-one-out")."""

    js_stemmer_code = (
        SearchEnglish.js_stemmer_code
        + """
const PorterStemmer = Stemmer;
Stemmer = function () {
  const porter = new PorterStemmer();
  this.stemWord = (word) => {
    const stem = porter.stemWord(word);
    return stopwords.includes(stem) ? word : stem;
  };
};
"""
    )

    def stem(self, word: str) -> str:
        stem = super().stem(word)
        return word if stem in self.stopwords else stem


class SearchChinese(SearchWords):
    """Chinese search by character pairs, so that any phrase is found without a word list."""

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = r"""
var splitQuery = (query) => {
  const words = [];
  for (const run of query.match(/[\u3400-\u4dbf\u4e00-\u9fff]+|(?:(?![\u3400-\u4dbf\u4e00-\u9fff])[\p{L}\p{N}_])+/gu) || []) {
    if (!/[\u3400-\u4dbf\u4e00-\u9fff]/.test(run) || run.length === 1) words.push(run);
    else for (let i = 0; i + 1 < run.length; i++) words.push(run.slice(i, i + 2));
  }
  return words;
};
"""

    def split(self, input: str) -> list[str]:
        return split_words(input)

    def word_filter(self, word: str) -> bool:
        return bool(re.match(f"[{CJK}]", word)) or super().word_filter(word)


class search_text(nodes.General, nodes.Inline, nodes.Element):
    """Words for the search index only; nothing of it is written to the page."""


class IndexAcrossMarkup(SphinxPostTransform):
    """Let the index see a Chinese phrase whole although bold or a link cuts it, and the words of diagrams."""

    default_priority = 900

    def run(self, **kwargs) -> None:
        if self.app.builder.name != "html":
            return
        for node in list(self.document.findall(nodes.TextElement)):
            parts = [part.astext() for part in node.findall(nodes.Text)]
            if len(parts) > 1 and not isinstance(node.parent, nodes.TextElement):
                joints = " ".join(a[-1:] + b[:1] for a, b in pairwise(parts))
                node += search_text("", nodes.Text(joints))
        for node in list(self.document.findall(lambda n: n.tagname == "mermaid")):
            node += search_text("", nodes.Text(node["code"]))


def skip_node(visitor, node) -> None:
    raise nodes.SkipNode


# --- the two editions -------------------------------------------------------------------------


def counterpart(pagename: str) -> str:
    """The same page in the other edition: "book/en/glossary" and "book/zh/glossary"."""
    parts = pagename.split("/")
    if len(parts) > 2 and parts[1] in ("en", "zh"):
        parts[1] = "zh" if parts[1] == "en" else "en"
    return "/".join(parts)


def add_page_context(app, pagename, templatename, context, doctree) -> None:
    """Give the templates the link to the other edition, and mend what the page's body lacks."""
    if context.get("body"):
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        if edition(app.config) == "zh":
            body = body.replace("<em>et al.</em>", "等")
        body = body.replace(' aria-label="Toggle hidden content"', "")  # it hides the visible name
        body = EMPTY_HEADER.sub("<td></td>", body)
        body = body.replace("<td>NaN</td>", "<td>–</td>")  # what a model without chance has for its sd
        if 'class="leaderboard"' in body:
            app.add_js_file("leaderboard.js", loading_method="defer")
        context["body"] = re.sub(r"<td>(?=\s*(?!inf\b)[^\W\d_])", '<td class="words">', body)
        context["body"] += read_next(app, pagename)
    other = "en" if edition(app.config) == "zh" else "zh"
    up = "../" * (pagename.count("/") + 1)
    languages = {"en": "en", "zh": "zh-CN"}
    context["other_edition"] = {
        "url": f"{up}{other}/{counterpart(pagename)}.html",
        "label": {"en": "English", "zh": "简体中文"}[other],
        "language": languages[other],
    }
    context["this_edition"] = {
        "url": pagename.rsplit("/", 1)[-1] + ".html",
        "language": languages[edition(app.config)],
    }


def read_next(app, pagename: str) -> str:
    """The links of book/read_next.yml at the foot of a page; a target that is not in the book is left out."""
    path = ROOT / "book/read_next.yml"
    folder, _, name = pagename.rpartition("/")
    if folder.partition("/")[0] not in ("book", "notebooks") or not path.exists():
        return ""
    places = {docname.rpartition("/")[2]: docname for docname in app.env.found_docs}
    links = []
    for target in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(name, []):
        docname = places.get(target)
        if docname and docname != pagename and docname in app.env.titles:
            title = html.escape(app.env.titles[docname].astext())
            links.append(f'<li><a href="{app.builder.get_relative_uri(pagename, docname)}">{title}</a></li>')
    words = WORDS[edition(app.config)]["read_next"]
    items = "".join(links)
    return items and (
        f'<nav class="read-next" aria-labelledby="read-next"><p id="read-next">{words}</p><ul>{items}</ul></nav>'
    )


def hide_test_marks(app, doctree) -> None:
    """Leave out the comment that tells the tests to compare a cell's output."""
    for block in doctree.findall(nodes.literal_block):
        if block.astext().startswith("# NBVAL_CHECK_OUTPUT\n"):
            block.rawsource = block.astext().split("\n", 1)[1]
            block.children = [nodes.Text(block.rawsource)]


def compile_theme_catalogue(app) -> None:
    """Compile booktheme.po beside the doctrees; Sphinx compiles only its own catalogue."""
    source = ROOT / "book/_locale" / app.config.language / "LC_MESSAGES/booktheme.po"
    if not source.exists():
        return
    locale = Path(app.doctreedir) / "locale"
    target = locale / app.config.language / "LC_MESSAGES/booktheme.mo"
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as po, target.open("wb") as mo:
        mofile.write_mo(mo, pofile.read_po(po, app.config.language))
    app.add_message_catalog("booktheme", str(locale))


def share_html_handlers(app) -> None:
    """sphinx-exercise registers handlers for 'singlehtml' only, which would hide all others there."""
    handlers = app.registry.translation_handlers
    if "singlehtml" in handlers:
        handlers["singlehtml"] = {**handlers.get("html", {}), **handlers["singlehtml"]}


# --- pages filled from data files -------------------------------------------------------------


def read_status(env) -> dict:
    """The chapters of status.json, which `make execute` writes."""
    path = ROOT / "status.json"
    env.note_dependency(str(path))
    return json.loads(path.read_text(encoding="utf-8"))["chapters"] if path.exists() else {}


def read_lines(env, path: Path) -> list[dict]:
    """The lines of a csv file; none where there is no file."""
    env.note_dependency(str(path))
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def chapter_link(env, docname: str, chapter: str, content: nodes.Node) -> nodes.Node:
    """A link to a chapter's page in the language of the page that is being read."""
    return page_link(docname, f"/notebooks/{edition(env.config)}/{chapter}", content)


def page_link(docname: str, target: str, content: nodes.Node) -> nodes.Node:
    """A link from the page ``docname`` to the page ``target``."""
    link = addnodes.pending_xref(
        "", content, refdomain="std", reftype="doc", reftarget=target, refexplicit=True, refwarn=True
    )
    link["refdoc"] = docname
    return link


class MeasuredRole(SphinxRole):
    """{measured}`chapter/check name:.3f`: a value that the chapter's check cell recorded, linked to it."""

    def run(self):
        chapter, _, rest = self.text.partition("/")
        checks = read_status(self.env).get(chapter, {}).get("checks", {})
        name, _, form = (rest, "", "") if rest in checks else rest.rpartition(":")
        try:
            shown = format(checks[name]["value"], form or "g").replace("-", "\N{MINUS SIGN}")
        except (KeyError, ValueError):
            LOGGER.warning("no recorded value %r: see status.json", self.text, location=self.get_location())
            return [nodes.inline(self.text, self.text)], []
        content = nodes.inline(shown, shown)
        return [chapter_link(self.env, self.env.docname, chapter, content)], []


class RankedRole(SphinxRole):
    """{ranked}`protocol/model:.3f`: the mean NDCG@10 of a row of the leaderboard, linked to that page.

    A third part takes another column: {ranked}`protocol/model/ci_low:.3f`.
    """

    def run(self):
        name, _, form = self.text.rpartition(":")
        lines = read_lines(self.env, ROOT / "benchmarks/results/leaderboard.csv")
        rows = {f"{row['protocol']}/{row['model']}": row for row in lines if row["metric"] == "NDCG@10"}
        column = "mean"
        if name.count("/") == 2:
            name, _, column = name.rpartition("/")
        try:
            shown = format(float(rows[name][column]), form)
        except (KeyError, ValueError):
            LOGGER.warning("no row %r in leaderboard.csv", self.text, location=self.get_location())
            return [nodes.inline(self.text, self.text)], []
        target = f"/book/{edition(self.env.config)}/leaderboard"
        return [page_link(self.env.docname, target, nodes.inline(shown, shown))], []


class GlossaryTable(SphinxDirective):
    """{glossary-table}: the terms of book/glossary.yml, each in both languages and with an anchor."""

    def run(self):
        path = ROOT / "book/glossary.yml"
        self.env.note_dependency(str(path))
        here = edition(self.config)
        other = "en" if here == "zh" else "zh"
        terms = yaml.safe_load(path.read_text(encoding="utf-8"))
        terms.sort(key=lambda term: term["en"].lower())
        entries = nodes.definition_list(classes=["glossary"])
        for term in terms:
            entries += self.entry(term, here, other, str(path))
        return [addnodes.glossary("", entries, sorted=False)]

    def entry(self, term: dict, here: str, other: str, source: str) -> nodes.Node:
        anchor = f"term-{term['id']}"
        name = nodes.term("", nodes.Text(term[here]), ids=[anchor])
        tag = {"en": "en", "zh": "zh-CN"}[other]
        name += nodes.raw(
            "", f' <span class="term-translation" lang="{tag}">{term[other]}</span>', format="html"
        )
        self.state.document.note_explicit_target(name)
        standard = self.env.get_domain("std")
        standard._note_term(term[here], anchor, location=name)
        standard.anonlabels[anchor] = (self.env.docname, anchor)
        standard.labels[anchor] = (self.env.docname, anchor, term[here])
        definition = nodes.definition()
        self.state.nested_parse(StringList([term[f"definition_{here}"]], source), 0, definition)
        return nodes.definition_list_item("", name, definition)


class StatusTable(SphinxDirective):
    """{status-table}: what status.json records of each chapter."""

    def run(self):
        words = WORDS[edition(self.config)]
        chapters = read_status(self.env)
        if not chapters:
            LOGGER.warning("status.json has no chapters: run `make execute`", location=self.get_location())
            return []
        columns = ["chapter", "seconds", "data", "models", "compared"]
        table = nodes.table(classes=["status"])
        group = nodes.tgroup(cols=len(columns))
        group += [nodes.colspec(colwidth=1) for _ in columns]
        group += nodes.thead("", self.row([nodes.Text(words[c]) for c in columns]))
        group += nodes.tbody(
            "", *[self.row(self.cells(name, chapters[name], words)) for name in sorted(chapters)]
        )
        table += group
        return [table]

    def cells(self, name: str, chapter: dict, words: dict) -> list[nodes.Node]:
        compared, cells = chapter["compared"], chapter["code_cells"]
        title = self.chapter_title(name)
        texts = [
            words["seconds_value"].format(chapter["seconds"]),
            ", ".join(chapter["data"]) or words["none"],
            ", ".join(chapter["models"]) or words["none"],
            words["compared_value"].format(compared, cells, compared / max(cells, 1)),
        ]
        link = chapter_link(self.env, self.env.docname, name, nodes.inline(title, title))
        return [link, *map(nodes.Text, texts)]

    def chapter_title(self, name: str) -> str:
        """The first heading of the chapter's notebook in this edition."""
        path = ROOT / "notebooks" / edition(self.config) / f"{name}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        return re.search(r"^# (.+)$", text, re.MULTILINE)[1]

    @staticmethod
    def row(cells: list[nodes.Node]) -> nodes.Node:
        return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells])


class Leaderboard(SphinxDirective):
    """{leaderboard}: the files of benchmarks/results as one table, which leaderboard.js sorts and filters."""

    def run(self):
        folder = ROOT / "benchmarks/results"
        lines = {name: read_lines(self.env, folder / f"leaderboard{name}.csv") for name in ("", "_tests")}
        if not lines[""]:
            LOGGER.warning("no leaderboard: run `make leaderboard`", location=self.get_location())
            return []
        path = ROOT / "book/leaderboard.yml"
        self.env.note_dependency(str(path))
        chinese = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.words = WORDS[edition(self.config)]
        self.names = chinese if edition(self.config) == "zh" else {}
        values = {(row["protocol"], row["model"], row["metric"]): row for row in lines[""]}
        tests = {(row["protocol"], row["model"], row["against"]): row for row in lines["_tests"]}
        ranked = sorted(
            (row for row in lines[""] if row["metric"] == "NDCG@10"),
            key=lambda row: (list(self.words["protocols"]).index(row["protocol"]), -float(row["mean"])),
        )
        best: dict[str, str] = {}
        for row in ranked:
            best.setdefault(row["protocol"], row["model"])
        body = "\n".join(self.line(row, values, tests, best) for row in ranked)
        return [nodes.raw("", self.frame(body), format="html")]

    def frame(self, body: str) -> str:
        words = self.words
        options = "".join(
            f'<option value="{name}">{shown}</option>' for name, shown in words["protocols"].items()
        )
        heads = "".join(
            f'<th scope="col" data-key="{key}">{title}</th>' for key, title in words["board"].items()
        )
        return (
            f'<div class="leaderboard" data-shown="{words["shown"]}" data-sort="{words["sort"]}">'
            f'<div class="leaderboard-tools" hidden><label>{words["board"]["protocol"]} <select>{options}'
            f'<option value="">{words["all"]}</option></select></label> '
            f'<label>{words["filter"]} <input type="search" autocomplete="off" spellcheck="false"></label> '
            '<output aria-live="polite"></output></div>'
            '<div class="pst-scrollable-table-container"><table>'
            f"<caption>{words['caption']}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{body}</tbody></table></div></div>"
        )

    def line(self, row: dict, values: dict, tests: dict, best: dict) -> str:
        protocol, model = row["protocol"], row["model"]
        hit = values[protocol, model, "HR@10"]["mean"]
        interval = f"[{float(row['ci_low']):.4f}, {float(row['ci_high']):.4f}]"
        cells = [
            self.cell(f"{float(row['mean']):.4f}", row["mean"]),
            self.cell(f"{float(row['sd']):.4f}" if row["sd"] else "–", row["sd"]),
            self.cell(interval, row["ci_low"]),
            self.cell(f"{float(hit):.4f}", hit),
            *[
                self.difference(tests.get((protocol, model, against)))
                for against in ("popularity", "EASE-recency", best[protocol])
            ],
            self.cell(row["seeds"], row["seeds"]),
            self.cell(f"{float(row['train_seconds']):.1f}", row["train_seconds"]),
            f'<td class="leaderboard-config"><code>{html.escape(self.settings(row["config"]))}</code></td>',
        ]
        parts = [self.names.get(part, part) for part in model.split(", ")]
        shown = self.words["joint"].join(parts)
        name = html.escape(shown)
        if shown != model:
            name += f' <span class="leaderboard-name" lang="en">{html.escape(model)}</span>'
        return (
            f'<tr data-protocol="{protocol}"><td class="words">{self.words["protocols"][protocol]}</td>'
            f'<th scope="row">{name}</th>{"".join(cells)}</tr>'
        )

    @staticmethod
    def settings(config: str) -> str:
        """The settings of a row as they are read: ``name value; name value``."""
        plain = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in json.loads(config).items()
        }
        return "; ".join(f"{name} {value}" for name, value in plain.items())

    @staticmethod
    def cell(shown: str, value: str) -> str:
        return f'<td class="number" data-value="{value}">{shown}</td>'

    def difference(self, test: dict | None) -> str:
        if test is None:
            return self.cell("–", "")
        p = float(test["p_holm"])
        sign = "≤" if float(test["p_value"]) <= SMALLEST_P else "="
        size = f"{float(test['difference']):+.4f}".replace("-", "\N{MINUS SIGN}")
        shown = f"{size}<br>p {'&lt; 0.01' if p < 0.01 else f'{sign} {p:.2f}'}"
        return self.cell(f"<strong>{shown}</strong>" if p < 0.05 else shown, test["difference"])


def setup(app):
    app.connect("builder-inited", share_html_handlers)
    compile_theme_catalogue(app)
    app.add_search_language(SearchWords)
    if edition(app.config) == "zh":
        app.add_search_language(SearchChinese)
        app.add_post_transform(IndexAcrossMarkup)
    app.add_node(search_text, html=(skip_node, None), latex=(skip_node, None), text=(skip_node, None))
    app.add_role("measured", MeasuredRole())
    app.add_role("ranked", RankedRole())
    app.add_directive("glossary-table", GlossaryTable)
    app.add_directive("status-table", StatusTable)
    app.add_directive("leaderboard", Leaderboard)
    app.connect("doctree-read", hide_test_marks)
    app.connect("html-page-context", add_page_context)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
