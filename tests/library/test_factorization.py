"""The training loop, saving and the factorisation models."""

import json

import numpy as np
import pandas as pd
import pytest
from two_tastes import share_in_order, two_tastes

torch = pytest.importorskip("torch")
pytest.importorskip("implicit")

from recsys_lib.datasets import Interactions
from recsys_lib.evaluation import evaluate
from recsys_lib.models.factorization import BPRMF, IALS
from recsys_lib.models.training import NegativeSampler, TrainedModel, batches
from recsys_lib.splits import leave_one_out

MODELS = {
    "bpr": lambda **kw: BPRMF(8, learning_rate=0.05, epochs=40, batch_size=32, **kw),
    "ials": lambda **kw: IALS(4, iterations=10, alpha=5.0, **kw),
}


@pytest.mark.parametrize("name", MODELS)
def test_learns_two_tastes(name):
    scores = MODELS[name]().fit(two_tastes()).score(np.arange(20))
    assert share_in_order(scores) > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_overfits_twenty_interactions(name):
    rng = np.random.default_rng(1)
    cells = rng.choice(40, 20, replace=False)  # 5 users, 8 items
    data = Interactions(pd.DataFrame({"user": cells // 8, "item": cells % 8}), 5, 8)
    model = MODELS["bpr"]() if name == "bpr" else IALS(8, iterations=30, regularization=0.01, alpha=40.0)
    scores = model.fit(data).score(np.arange(5))
    taken = data.matrix().toarray() > 0
    pairs = scores[:, :, None] > scores[:, None, :]
    assert pairs[taken[:, :, None] & ~taken[:, None, :]].all()


@pytest.mark.parametrize("name", MODELS)
def test_equal_seeds_give_equal_scores(name):
    data = two_tastes()
    users = np.arange(20)
    first, second, other = (MODELS[name](seed=seed).fit(data).score(users) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_products_of_the_factors(name):
    model = MODELS[name]().fit(two_tastes())
    np.testing.assert_allclose(
        model.score(np.arange(20)), model.user_factors @ model.item_factors.T, rtol=1e-5, atol=1e-6
    )


def test_ials_item_factors_solve_the_normal_equations():
    data = two_tastes()
    model = IALS(3, regularization=0.5, alpha=4.0, iterations=3).fit(data)
    users, matrix = model.user_factors.astype(float), data.matrix().toarray()
    for item in range(12):
        weight = np.where(matrix[:, item] > 0, 4.0, 1.0)
        left = users.T @ (weight[:, None] * users) + 0.5 * np.eye(3)
        expected = np.linalg.solve(left, users.T @ (weight * matrix[:, item]))
        np.testing.assert_allclose(model.item_factors[item], expected, rtol=2e-3, atol=1e-4)


def test_permuting_item_ids_permutes_the_scores_of_ials():
    """iALS starts from random factors, but converges: codes must not matter to the ranking."""
    data = two_tastes()
    order = np.random.default_rng(5).permutation(12)
    renamed = Interactions(data.frame.assign(item=order[data.items]), 20, 12)
    first = IALS(2, iterations=200, alpha=5.0).fit(data).score(np.arange(20))
    second = IALS(2, iterations=200, alpha=5.0).fit(renamed).score(np.arange(20))
    np.testing.assert_allclose(first, second[:, order], atol=2e-2)


def test_permuting_ids_with_initial_vectors_changes_nothing():
    data = two_tastes()
    order = np.random.default_rng(5).permutation(12)
    renamed = Interactions(data.frame.assign(item=order[data.items]), 20, 12)

    class Started(BPRMF):
        start = torch.randn(12, 8, generator=torch.Generator().manual_seed(0)) / 10

        def build(self, train):
            network = super().build(train)
            with torch.no_grad():
                network.items.weight[self.codes] = self.start
            return network

        def losses(self, rng):  # full batch, negatives by rule: the next item of the user's other half
            for _ in range(1):
                users, items = (torch.tensor(x) for x in (self.train.users, self.train.items))
                place = torch.argsort(self.codes)[items]
                other = self.codes[(place + 6) % 12]
                yield -torch.nn.functional.logsigmoid(
                    self.network(users, items) - self.network(users, other)
                ).mean()

    results = []
    for rows, codes in ((data, np.arange(12)), (renamed, order)):
        model = Started(8, learning_rate=0.05, epochs=5)
        model.codes = torch.from_numpy(codes)
        results.append(model.fit(rows).score(np.arange(20))[:, codes])
    np.testing.assert_allclose(*results, atol=1e-5)


class Scripted(TrainedModel):
    """Reaches a given validation NDCG at each epoch: its one parameter counts the epochs."""

    def __init__(self, plan, **kwargs):
        super().__init__(**kwargs)
        self.plan = plan

    def build(self, train):
        network = torch.nn.Module()
        network.register_buffer("epoch", torch.zeros(1))
        network.weight = torch.nn.Parameter(torch.zeros(1))
        return network

    def losses(self, rng):
        self.network.epoch += 1
        yield (self.network.weight * 0).sum()

    def user_scores(self, users):
        good = self.plan[int(self.network.epoch) - 1]
        return torch.from_numpy(self.truth[users] * good)


def scripted(plan, **kwargs):
    data = two_tastes()
    split = leave_one_out(data)
    model = Scripted(plan, **kwargs)
    model.truth = split.validation.matrix().toarray()
    return model, split


def test_early_stopping_keeps_the_best_epoch():
    model, split = scripted([1, -1, 1, -1, -1, -1, 1, 1], patience=3, epochs=8)
    model.fit(split.train, split.validation)
    assert model.best_epoch == 1
    assert int(model.network.epoch) == 1  # the weights of the best epoch
    assert [row["epoch"] for row in model.history] == [1, 2, 3, 4]
    assert evaluate(model, split.validation, seen=split.train).mean() == 1.0


def test_refit_takes_the_best_number_of_epochs():
    model, split = scripted([-1, 1, -1, -1, -1], patience=2, epochs=5)
    model.fit(split.train, split.validation).refit(split.fit_part)
    assert int(model.network.epoch) == 2
    assert len(model.train) == len(split.fit_part)


def test_every_other_epoch():
    model, split = scripted([1, -1, 1, -1, 1, -1], patience=2, epochs=6, every=2)
    model.fit(split.train, split.validation)
    assert [row["epoch"] for row in model.history if "ndcg" in row] == [2, 4, 6]


def test_training_leaves_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    MODELS["bpr"]().fit(two_tastes())
    assert torch.equal(before, torch.get_rng_state())


def test_saved_model_gives_equal_scores(tmp_path):
    data = two_tastes()
    model = MODELS["bpr"](seed=2).fit(data)
    model.save(tmp_path / "new" / "model")
    again = BPRMF.load(tmp_path / "new" / "model")
    np.testing.assert_array_equal(model.score(np.arange(20)), again.score(np.arange(20)))
    assert again.dimensions == 8 and again.seed == 2 and again.learning_rate == 0.05
    assert sorted(path.name for path in (tmp_path / "new" / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    with pytest.raises(FileExistsError, match="remove it"):
        model.save(tmp_path / "new" / "model")


def test_damaged_or_foreign_models_are_refused(tmp_path):
    MODELS["bpr"]().fit(two_tastes()).save(tmp_path / "m")
    with pytest.raises(ValueError, match="holds a BPRMF"):
        Scripted.load(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged"):
        BPRMF.load(tmp_path / "m")


def test_interrupted_saving_leaves_nothing(tmp_path, monkeypatch):
    model = MODELS["bpr"]().fit(two_tastes())
    monkeypatch.setattr(json, "dumps", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_clear_errors():
    data = two_tastes()
    empty = Interactions(data.frame.iloc[:0], 20, 12)
    with pytest.raises(ValueError, match="interactions to learn from"):
        BPRMF().fit(empty)
    with pytest.raises(ValueError, match="interactions to learn from"):
        IALS().fit(empty)
    with pytest.raises(RuntimeError, match="call fit"):
        BPRMF().score([0])
    with pytest.raises(RuntimeError, match="call fit"):
        BPRMF().save("x")
    with pytest.raises(ValueError, match="epochs"):
        BPRMF(epochs=0)
    with pytest.raises(ValueError, match="dimensions"):
        BPRMF(0)
    with pytest.raises(ValueError, match="above 0"):
        IALS(regularization=0)
    with pytest.raises(ValueError, match=r"NaN|finite"):
        BPRMF(learning_rate=1e30, epochs=3, batch_size=8).fit(data)
    with pytest.raises(ValueError, match="the users and items"):
        MODELS["bpr"]().fit(data).observe(Interactions(data.frame, 21, 12))
    assert BPRMF(epochs=1).fit(data).score([]).shape == (0, 12)


def test_observed_interactions_are_kept():
    data = two_tastes()
    model = BPRMF(epochs=1).fit(data)
    fewer = data.select(np.arange(len(data)) % 2 == 0)
    assert model.observe(fewer).observed is fewer and model.train is data


def test_negatives_are_never_taken_items_and_reach_all_others():
    data = two_tastes()
    taken = set(zip(data.users.tolist(), data.items.tolist(), strict=True))
    users = np.repeat(np.arange(20), 400)
    items = NegativeSampler(data).sample(users, np.random.default_rng(0))
    drawn = set(zip(users.tolist(), items.tolist(), strict=True))
    assert not drawn & taken
    assert drawn | taken == {(u, i) for u in range(20) for i in range(12)}


def test_user_who_took_everything_has_no_negative():
    data = Interactions(pd.DataFrame({"user": [0, 0, 1], "item": [0, 1, 0]}), 2, 2)
    with pytest.raises(ValueError, match=r"users \[0\] took all"):
        NegativeSampler(data)


def test_batches_cover_every_row_once():
    parts = list(batches(10, 4, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))


def test_methods_to_override_say_so():
    base = TrainedModel()
    for call in (
        lambda: base.build(two_tastes()),
        lambda: next(iter(base.losses(None))),
        lambda: base.user_scores([]),
    ):
        with pytest.raises((NotImplementedError, TypeError)):
            call()
