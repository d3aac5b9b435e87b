"""What takes the generator minutes in section 6.7: ``python -m benchmarks.bench_generative [--model NAME] [stage …]``.

Gemma 3 270M, or the model named, ranks sampled candidates of 100 test and 40 validation users (zero-shot; 50 of the
test users few-shot and tuned by LoRA), answers with letters, and continues lists. Each stage keeps its arrays in
``_build/generative/NAME``; what is there goes into one table: scores by row and place, no user and no item named.
Gemma's is the table that section 6.7 reads; another model's stays in its folder unless ``--out`` says otherwise.
"""

from __future__ import annotations

import argparse
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from recsys_lib.datasets import load_movielens_100k
from recsys_lib.generation import TextGenerator
from recsys_lib.llm_ranking import (
    history_prompt,
    next_line_ranks,
    sample_candidates,
    slot_probabilities,
    target_ranks,
    title_log_likelihood,
)
from recsys_lib.local_server import open_model
from recsys_lib.splits import leave_one_out

GEMMA, STAGES = "gemma-3-270m", ("zero", "few", "letters", "memory", "lora")
CACHE = Path(__file__).resolve().parent.parent / "_build" / "generative"
FILE = Path(__file__).resolve().parent.parent / "recsys_lib" / "generative_scores.csv"
LAST, TEST, VALIDATION, SHOTS, STEPS, BATCH, FEWER = 10, 100, 40, 3, 40, 8, 50
QUESTION = "Watched: {history}\nWhich film comes next?\n{options}\nAnswer:"

data = load_movielens_100k("title")
split = leave_one_out(data)
titles = data.items["title"].to_numpy(dtype=object)
everyone = np.random.default_rng(0).permutation(data.n_users)
PARTS = {
    "test": (everyone[:TEST], split.fit_part, split.test),
    "validation": (everyone[TEST : TEST + VALIDATION], split.train, split.validation),
}
others = everyone[TEST + VALIDATION :]  # whose lists serve as examples and for training
train_lists = split.train.histories()
EXAMPLES = [[titles[i] for i in train_lists[u][-LAST - 1 :]] for u in others[:SHOTS]]


def candidates_of(part: str) -> tuple[np.ndarray, list[np.ndarray], list[list[str]]]:
    """Users, candidate items (uniform, then popularity-sampled; 20 each, the target first), histories as titles."""
    users, known, held = PARTS[part]
    targets = held.items[np.searchsorted(held.users, users)]  # one row a user, sorted by user
    everything = data.interactions.histories()
    counts = np.bincount(known.items, minlength=data.n_items)
    seen = [everything[u] for u in users]
    both = [sample_candidates(seen, targets, w, seed=0) for w in (np.ones(data.n_items), counts)]
    lists = known.histories()
    return users, both, [[titles[i] for i in lists[u][-LAST:]] for u in users]


def scores(model: Any, part: str, examples: Any = (), users: int | None = None) -> np.ndarray:
    """Log-likelihoods (users, 40): the 20 candidates with uniform, then the 20 with popularity-sampled negatives."""
    _, both, lists = candidates_of(part)
    rows = []
    for items, history in list(zip(np.hstack(both), lists, strict=True))[:users]:
        unique, back = np.unique(items, return_inverse=True)
        found = title_log_likelihood(model, history_prompt(history, examples), list(titles[unique]))
        rows.append(found[back])
    return np.array(rows)


def prior(model: Any, examples: Any = (), items: Any = None) -> np.ndarray:
    """Log-likelihood of every title, or of some, after the same prompt without a history (items,)."""
    items = np.arange(len(titles)) if items is None else items
    order = items[np.argsort([len(titles[i]) for i in items], kind="stable")]
    found = np.full(len(titles), np.nan)
    for first in range(0, len(order), 80):
        some = order[first : first + 80]
        found[some] = title_log_likelihood(model, history_prompt([], examples), list(titles[some]))
    return found


def loss_of(model: Any, tokenizer: Any, prompts: list[str], targets: list[str]) -> torch.Tensor:
    """Mean loss over the target titles' tokens; the vocabulary is large, so logits are made at those places only."""
    rows = [(tokenizer(p)["input_ids"], tokenizer(t + "\n", add_special_tokens=False)["input_ids"])
            for p, t in zip(prompts, targets, strict=True)]  # fmt: skip
    longest = max(len(p) + len(t) for p, t in rows)
    ids, mask = (
        torch.zeros(len(rows), longest, dtype=torch.long),
        torch.zeros(len(rows), longest, dtype=torch.long),
    )
    places = []
    for k, (p, t) in enumerate(rows):
        ids[k, : len(p) + len(t)] = torch.tensor(p + t)
        mask[k, : len(p) + len(t)] = 1
        places += [(k, j) for j in range(len(p) - 1, len(p) + len(t) - 1)]
    row, place = torch.tensor(places).T
    hidden = model.get_base_model().model(input_ids=ids, attention_mask=mask).last_hidden_state
    logits = model.get_base_model().lm_head(hidden[row, place]).float()
    return torch.nn.functional.cross_entropy(logits, ids[row, place + 1])


def tuned(name: str, seed: int = 0) -> tuple[TextGenerator, list[float]]:
    """LoRA of rank 8 on the lists of the other users: the ten films before, then the next."""
    torch.manual_seed(seed)
    generator = TextGenerator.from_pretrained(name)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    model: Any = get_peft_model(generator.model, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, rng, losses = torch.optim.AdamW(trained, lr=1e-3), np.random.default_rng(seed), []
    for _ in range(STEPS):
        prompts, targets = [], []
        for user in rng.choice(others[SHOTS:], BATCH, replace=False):
            end = rng.integers(1, len(train_lists[user]))
            prompts.append(history_prompt([titles[i] for i in train_lists[user][max(0, end - LAST) : end]]))
            targets.append(titles[train_lists[user][end]])
        loss = loss_of(model, generator.tokenizer, prompts, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return TextGenerator(model.merge_and_unload(), generator.tokenizer), losses


def letters(model: Any, users: int = 40) -> np.ndarray:
    """Probabilities (users, rotations, slots) of five letters: the target and the first four popular negatives."""
    _, both, lists = candidates_of("test")

    def asked(history: list[str]) -> Any:
        def prompt_of(shown: list[str]) -> str:
            options = "\n".join(f"{letter}. {title}" for letter, title in zip("ABCDE", shown, strict=True))
            return QUESTION.format(history=", ".join(history), options=options)

        return prompt_of

    return np.array(
        [
            slot_probabilities(model, asked(lists[k]), [titles[i] for i in both[1][k][:5]])
            for k in range(users)
        ]
    )


ELEMENTS = """Hydrogen Helium Lithium Beryllium Boron Carbon Nitrogen Oxygen Fluorine Neon Sodium Magnesium Aluminium
Silicon Phosphorus Sulfur Chlorine Argon Potassium Calcium Scandium Titanium Vanadium Chromium Manganese Iron Cobalt
Nickel Copper Zinc Gallium Germanium Arsenic Selenium Bromine Krypton Rubidium Strontium Yttrium Zirconium Niobium
Molybdenum Technetium Ruthenium Rhodium Palladium Silver Cadmium Indium Tin Antimony Tellurium Iodine Xenon"""


def memory(model: Any) -> dict[str, np.ndarray]:
    """Ranks among ten: the next film of the data set's order, forwards and backwards; elements; a film's year."""
    found, rng = {}, np.random.default_rng(0)
    for name, lines, n in (("films", list(titles), 40), ("elements", ELEMENTS.split(), 30)):
        starts = rng.choice(len(lines) - 20, n, replace=False).tolist()
        found[f"{name}_forward"] = next_line_ranks(model, lines, starts)
        found[f"{name}_backward"] = next_line_ranks(model, lines[::-1], starts)
    years = data.items["year"].to_numpy(dtype=float)
    films = rng.choice(np.flatnonzero(years > 0), 41, replace=False)
    right: list[float] = []
    wrong: list[float] = []
    for film, other in pairwise(films):
        rest = rng.choice(np.unique(years[(years > 0) & (years != years[film])]), 9, replace=False)
        some = [f"{int(y)})" for y in (years[film], *rest)]
        for result, title in ((right, titles[film]), (wrong, titles[other])):
            result.append(target_ranks(model.log_likelihood(f"{title} (", some)[None])[0])
    return found | {"year_own": np.array(right), "year_other": np.array(wrong)}


def folder_of(name: str) -> Path:
    """Where the arrays of a model are kept: its name, or its address, as a folder."""
    return CACHE / re.sub(r"[^A-Za-z0-9.-]+", "_", name)


def _save(model: str, name: str, value: Any) -> None:
    folder_of(model).mkdir(parents=True, exist_ok=True)
    np.save(folder_of(model) / f"{name}.npy", np.asarray(value))


def run(stage: str, name: str = GEMMA) -> None:
    """One stage, zero, few, letters, memory or lora, of the model of that name (see `open_model`)."""
    if stage == "lora":
        model, losses = tuned(name)
        print([round(x, 2) for x in losses], flush=True)
        _save(name, "lora_loss", losses)
    else:
        model = open_model(name)
    if stage == "letters":
        _save(name, "letters", letters(model))
        return
    if stage == "memory":
        for key, ranks in memory(model).items():
            _save(name, key, ranks)
        return
    if stage == "zero":
        for part in ("validation", "test"):
            _save(name, f"zero_{part}", scores(model, part))
        _save(name, "zero_prior", prior(model))
        return
    examples = EXAMPLES if stage == "few" else ()
    _save(name, f"{stage}_test", scores(model, "test", examples, FEWER))
    items = np.unique(np.hstack(candidates_of("test")[1])[:FEWER])
    _save(name, f"{stage}_prior", prior(model, examples, items))


def table(name: str = GEMMA, out: Path | None = None) -> Path:
    """Write what is in the model's folder as one table, a line a row: the array's name, then its values."""
    lines = []
    for path in sorted(folder_of(name).glob("*.npy")):
        values = np.load(path)
        for row in values.reshape(len(values), -1) if values.ndim > 1 else values[None]:
            lines.append(",".join([path.stem, *("" if np.isnan(v) else f"{v:.3f}" for v in row)]))
    out = out or (FILE if name == GEMMA else folder_of(name) / FILE.name)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def main(arguments: list[str] | None = None) -> None:
    """Run the stages asked for and write the table."""
    parser = argparse.ArgumentParser(description="Scores of a language model for section 6.7")
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"of {', '.join(STAGES)} (all of them)")
    parser.add_argument("--model", default=GEMMA, help="packaged or hub model, or a local server's address")
    parser.add_argument("--out", type=Path, help="the table's file")
    wish = parser.parse_args(arguments)
    server = wish.model.startswith(("http://", "https://"))
    stages = wish.stages or [s for s in STAGES if not (server and s == "lora")]
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    if server and "lora" in stages:
        parser.error("a server's model cannot be tuned: leave out the stage lora")
    for stage in stages:
        run(stage, wish.model)
    print(table(wish.model, wish.out))


if __name__ == "__main__":
    main()
