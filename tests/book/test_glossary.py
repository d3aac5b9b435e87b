"""The glossary: complete in both languages, without repetition, and with every term of the source article."""

import re
from pathlib import Path

import pytest
import yaml

GLOSSARY = Path(__file__).resolve().parents[2] / "book" / "glossary.yml"
TERMS = yaml.safe_load(GLOSSARY.read_text(encoding="utf-8"))
CJK = re.compile(r"[\u4e00-\u9fff]")
ARTICLE = [
    "大型语言模型",
    "推荐系统",
    "自监督学习",
    "用户行为预测",
    "内容理解",
    "个性化推荐",
    "显性反馈",
    "隐性反馈",
    "稀疏性",
    "冷启动",
    "语义表示",
    "预训练任务",
    "基于内容",
    "协同过滤",
    "混合推荐",
    "Transformer",
    "深度学习",
    "神经网络",
    "图神经网络",
    "微调",
    "下游任务",
    "预训练",
    "BERT",
    "RoBERTa",
    "GPT",
    "点击概率",
    "多模态推荐",
    "可解释性",
    "数据依赖性",
    "计算成本",
    "模型压缩",
    "用户嵌入",
    "物品嵌入",
    "余弦相似度",
    "点积",
    "范数",
    "数据预处理",
    "上下文",
    "词典",
    "隐藏层",
    "嵌入",
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term["id"])
def test_each_term_is_complete_in_both_languages(term):
    assert set(term) == {"id", "en", "zh", "definition_en", "definition_zh"}
    assert re.fullmatch(r"[a-z0-9-]+", term["id"])
    assert not CJK.search(term["en"])
    assert CJK.search(term["zh"]) and CJK.search(term["definition_zh"])
    assert term["definition_en"].endswith(".") and 5 <= len(term["definition_en"].split()) <= 45
    assert term["definition_zh"].endswith("。") and len(term["definition_zh"]) <= 110
    assert not re.search(r"[\u4e00-\u9fff][,;:!?()]|[,;:!?()][\u4e00-\u9fff]", term["definition_zh"])


@pytest.mark.parametrize("field", ["id", "en", "zh"])
def test_no_term_stands_twice(field):
    values = [term[field].lower() for term in TERMS]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("word", ARTICLE)
def test_the_articles_terms_are_explained(word):
    assert any(word in term["zh"] + term["definition_zh"] for term in TERMS)
