import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from recsys_lib.datasets import Interactions
from recsys_lib.evaluation import evaluate
from recsys_lib.models.sequential import (
    CONTRASTS,
    MODES,
    BERT4Rec,
    GRU4Rec,
    ItemTable,
    SASRec,
    Transformer,
    augment,
    padded,
)

N_ITEMS = 24
SMALL = {"d": 8, "length": 6, "epochs": 3, "batch_size": 8}
VECTORS = np.random.default_rng(5).normal(size=(N_ITEMS, 10)).astype(np.float32)
MODELS = {
    "sasrec": lambda **o: SASRec(**(SMALL | o)),
    "last windows": lambda **o: SASRec(windows="last", layers=1, **(SMALL | o)),
    "gru4rec": lambda **o: GRU4Rec(width=8, **(SMALL | o)),
    "bert4rec": lambda **o: BERT4Rec(heads=2, **(SMALL | o)),
    "pretrained": lambda **o: SASRec(pretrain_epochs=2, **(SMALL | o)),
    **{c: lambda c=c, **o: SASRec(contrast=c, **(SMALL | o)) for c in CONTRASTS},
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
every_mode = pytest.mark.parametrize("mode", MODES)


def interactions(histories, n_items=N_ITEMS):
    pairs = [(user, int(item)) for user, history in enumerate(histories) for item in history]
    return Interactions(
        pd.DataFrame(pairs, columns=["user", "item"]).astype("int64"), len(histories), n_items
    )


def data(seed=0, n_users=20, least=3, n_items=N_ITEMS):
    rng = np.random.default_rng(seed)
    return interactions(
        [rng.permutation(n_items)[: rng.integers(least, 12)] for _ in range(n_users)], n_items
    )


@every_model
def test_equal_seeds_give_equal_scores_and_others_do_not(make):
    train = data()
    first, second, third = (make(seed=s).fit(train).score(range(20)) for s in (1, 1, 2))
    assert first.shape == (20, N_ITEMS) and first.dtype == np.float32 and np.isfinite(first).all()
    assert np.array_equal(first, second) and not np.allclose(first, third)


@every_model
def test_save_and_load_give_equal_scores(make, tmp_path):
    train = data()
    model = make(item_vectors=VECTORS, mode="both").fit(train).observe(data(1))
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert np.array_equal(loaded.score(range(20)), model.score(range(20)))


@every_model
def test_permuting_items_with_their_first_vectors_permutes_scores(make):
    train, order = data(), np.random.default_rng(3).permutation(N_ITEMS)
    other = interactions([order[history] for history in train.histories()])
    vectors = np.empty_like(VECTORS)
    vectors[order] = VECTORS
    scores = make(item_vectors=VECTORS).fit(train).score(range(20))
    permuted = make(item_vectors=vectors).fit(other).score(range(20))
    assert scores.std() > 1e-3
    np.testing.assert_allclose(permuted[:, order], scores, atol=0.02 * scores.std())


@every_model
def test_a_small_set_is_learned_by_heart(make):
    """Each item is followed by one other: 5 users x 4 items."""
    train = interactions(np.arange(20).reshape(5, 4), 20)
    options = {
        "d": 16,
        "epochs": 150,
        "batch_size": 5,
        "dropout": 0.0,
        "learning_rate": 0.01,
        "averaging": 0.0,
    }
    model = make(**options, weight_decay=0.0).fit(train)
    model.observe(interactions(np.arange(20).reshape(5, 4)[:, :3], 20))
    assert model.score(range(5)).argmax(axis=1).tolist() == [3, 7, 11, 15, 19]


@every_model
def test_users_without_items_get_finite_scores_and_change_nothing_for_others(make):
    histories = data().histories()
    model = make().fit(interactions([*histories, []]))
    scores = model.score(range(21))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(model.score([0, 3]), scores[[0, 3]], atol=1e-5)
    if not isinstance(model, BERT4Rec):
        assert np.ptp(scores[20]) == 0


@every_model
def test_only_the_newest_items_count_and_their_order_does(make):
    model = make().fit(data())
    old, new, turned = [1, 2, 3, 4, 5, 6, 7, 8], [0, 9, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 8, 7]
    model.observe(interactions([old, new, turned] + [[]] * 17))
    scores = model.score([0, 1, 2])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)  # two oldest of eight lie outside the length
    assert np.abs(scores[0] - scores[2]).max() > 1e-5


@pytest.mark.parametrize("make", [MODELS["sasrec"], MODELS["gru4rec"]])
def test_no_state_depends_on_later_items(make):
    model = make().fit(data())
    table = torch.randn(1, 5, 8, requires_grad=True)
    states = model.network.encoder(table, torch.tensor([5]))
    for place in range(5):
        (grad,) = torch.autograd.grad(states[0, place].pow(2).sum(), table, retain_graph=True)
        seen = grad[0].abs().sum(dim=1)
        assert (seen[: place + 1] > 0).all() and (seen[place + 1 :] == 0).all()


@pytest.mark.parametrize("causal", [True, False])
def test_padding_does_not_matter(causal):
    torch.manual_seed(0)
    net = Transformer(8, 6, 2, 2, 0.5).eval()
    rows, lengths = torch.randn(2, 6, 8), torch.tensor([3, 6])
    together = net(rows, lengths, causal)
    alone = net(rows[:1, :3], lengths[:1], causal)
    torch.testing.assert_close(together[:1, :3], alone)


def test_attention_against_its_formula():
    """One layer, one head: softmax(q k / sqrt d) v over what came before, written out with loops."""
    torch.manual_seed(0)
    net = Transformer(4, 3, 1, 1, 0.0).eval()
    x, layer = torch.randn(1, 3, 4), net.layers[0]
    states = net(x, torch.tensor([3]))[0]
    x = x[0] + net.position
    q, k, v = layer.qkv(layer.norm(x)).chunk(3, dim=1)
    for place in range(3):
        weights = torch.softmax(torch.stack([q[place] @ k[j] / 2 for j in range(place + 1)]), dim=0)
        y = x[place] + layer.out(sum(w * v[j] for j, w in enumerate(weights)))
        torch.testing.assert_close(states[place], net.norm(y + layer.feed(y)))


def test_the_loss_is_the_cross_entropy_of_every_next_item():
    model = SASRec(**SMALL).fit(interactions([[0, 1, 2], [3, 4], [5]], 6))
    loss = next(iter(model.losses(np.random.default_rng(0))))
    states = model.states(model.network.items(), [np.array([0, 1]), np.array([3])])
    logits = torch.stack([states[0, 0], states[0, 1], states[1, 0]]) @ model.network.items().T
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2, 4])))


@every_mode
def test_gradients_reach_what_is_learned(mode):
    model = SASRec(item_vectors=VECTORS, mode=mode, **SMALL).fit(data())
    model.network.zero_grad()
    next(iter(model.losses(np.random.default_rng(0)))).backward()
    for name, weight in model.network.named_parameters():
        assert (weight.grad is None) == (name == "items.mask") or not weight.grad.any(), name
        assert name == "items.mask" or weight.grad.abs().sum() > 0, name
    ids, text = model.network.items.ids is not None, model.network.items.adaptor is not None
    assert (ids, text) == {"start": (True, False), "adaptor": (False, True), "both": (True, True)}[mode]


def test_start_keeps_the_geometry_of_the_text():
    table = ItemTable(N_ITEMS, 10, torch.from_numpy(VECTORS), "start")
    centred = VECTORS - VECTORS.mean(axis=0)
    inner, text = (table() @ table().T).detach().numpy(), centred @ centred.T
    np.testing.assert_allclose(inner / np.trace(inner), text / np.trace(text), atol=1e-5)


def test_the_adaptor_ranks_items_that_nobody_met():
    """Items come in twins of the same text; only one of each pair is ever taken in training."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(12, 16)).astype(np.float32)
    vectors = np.concatenate([base, base + 0.01 * rng.normal(size=base.shape).astype(np.float32)])
    starts = rng.integers(12, size=60)
    train = interactions([[(s + i) % 12 for i in range(4)] for s in starts])
    options = {"d": 16, "length": 6, "epochs": 60, "dropout": 0.1, "learning_rate": 0.01}
    model = SASRec(item_vectors=vectors, mode="adaptor", **options).fit(train)
    cold = model.score(range(60))[:, 12:].argmax(axis=1)
    assert (cold == (starts + 4) % 12).mean() > 0.9


def test_pre_training_changes_weights_before_the_first_epoch():
    class Stopped(SASRec):
        def losses(self, rng):
            self.first = {k: v.clone() for k, v in self.network.state_dict().items()}
            yield from super().losses(rng)

    options = SMALL | {"epochs": 1}
    plain, trained = (Stopped(pretrain_epochs=n, **options).fit(data()).first for n in (0, 2))
    assert all(not torch.equal(plain[name], trained[name]) for name in ("items.ids", "items.mask"))


def test_masked_training_hides_what_it_asks_for(monkeypatch):
    model = BERT4Rec(**SMALL).fit(data())
    seen = []
    states = model.states
    monkeypatch.setattr(model, "states", lambda i, s, causal: seen.append(s) or states(i, s, causal))
    windows = list(model._windows(np.random.default_rng(1), 6, 1))
    assert {len(w) for batch in windows for w in batch} <= set(range(1, 7))
    list(model.losses(np.random.default_rng(1)))
    inputs = [s for batch in seen for s in batch]
    assert all(s[-1] == N_ITEMS for s in inputs)
    share = np.mean(np.concatenate([s[:-1] == N_ITEMS for s in inputs]))
    assert 0.1 < share < 0.5


def test_windows():
    train = interactions([np.arange(20), [20, 21]])
    model = SASRec(d=8, length=5, epochs=1, windows="random").fit(train)
    rng = np.random.default_rng(0)
    starts = [w[0] for _ in range(200) for batch in model._windows(rng, 6, 2) for w in batch if len(w) == 6]
    assert set(starts) == set(range(15)) and len(starts) == 200
    model.windows = "last"
    windows = sorted(w.tolist() for batch in model._windows(rng, 6, 2) for w in batch)
    assert windows == [[14, 15, 16, 17, 18, 19], [20, 21]]


def test_views_of_a_sequence():
    rng, sequence, kinds = np.random.default_rng(0), np.arange(10), {"crop": 0, "mask": 0, "reorder": 0}
    for _ in range(300):
        view = augment(sequence, 99, rng)
        if len(view) == 6:
            kinds["crop"] += 1
            assert (np.diff(view) == 1).all()
        elif 99 in view:
            kinds["mask"] += 1
            assert (view == 99).sum() == 3 and (view[view != 99] == sequence[view != 99]).all()
        else:
            kinds["reorder"] += 1
            moved = np.flatnonzero(view != sequence)
            assert sorted(view) == sequence.tolist() and (len(moved) == 0 or np.ptp(moved) < 6)
    assert min(kinds.values()) > 60
    assert augment(np.array([7]), 99, rng).tolist() in ([7], [99])
    assert sequence.tolist() == list(range(10))


def test_same_target_sequences_end_before_the_target():
    from recsys_lib.models.sequential import _SameTarget

    train = interactions([[1, 2, 3], [4, 5, 3], [3, 6, 7]], 8)
    drawn = [_SameTarget(train).sample([np.array([1, 2, 3])], np.random.default_rng(s))[0] for s in range(30)]
    assert {tuple(d.tolist()) for d in drawn} == {(1, 2), (4, 5)}


def test_contrast_changes_the_loss_by_its_weight():
    model = SASRec(contrast="cl4srec", contrast_weight=0.0, **SMALL).fit(data())
    model.network.eval()
    without, half, one = [], [], []
    for weight, found in ((0.0, without), (0.5, half), (1.0, one)):
        model.contrast_weight = weight
        found.extend(float(x.detach()) for x in model.losses(np.random.default_rng(4)))
    assert np.subtract(one, without).min() > 0.1
    np.testing.assert_allclose(np.subtract(one, without), 2 * np.subtract(half, without), rtol=1e-4)


def test_validation_stops_early_and_beats_chance():
    train = interactions([[(s + i) % N_ITEMS for i in range(5)] for s in range(N_ITEMS)])
    validation = interactions([[(s + 5) % N_ITEMS] for s in range(N_ITEMS)])
    model = SASRec(**(SMALL | {"epochs": 80, "learning_rate": 0.01})).fit(train, validation)
    found = {h["epoch"]: h["ndcg"] for h in model.history if "ndcg" in h}
    assert found[model.best_epoch] == max(found.values()) > 0.6
    assert evaluate(model, validation, seen=train).mean("ndcg") == pytest.approx(max(found.values()))


def test_averaged_weights_are_what_is_kept():
    """Two steps: rates 0 and 1/11, so the mean is w1, then w1 / 11 + 10 w2 / 11."""

    class Recorded(SASRec):
        def _step(self, loss, optimizer):
            value = super()._step(loss, optimizer)
            self.steps.append(self.network.items.ids.detach().clone())
            return value

    model = Recorded(**(SMALL | {"epochs": 2, "batch_size": 99}))
    model.steps = []
    model.fit(data())
    expected = model.steps[0] / 11 + 10 * model.steps[1] / 11
    torch.testing.assert_close(model.network.items.ids.detach(), expected)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"d": 0}, "d and length"),
        ({"dropout": 1.0}, "dropout"),
        ({"mode": "text"}, "mode"),
        ({"windows": "all"}, "windows"),
        ({"heads": 3}, "heads"),
        ({"contrast": "simclr"}, "contrast"),
        ({"contrast_temperature": 0}, "contrast_temperature"),
        ({"averaging": 1.0}, "averaging"),
        ({"item_vectors": VECTORS[:, :4]}, "columns"),
        ({"item_vectors": np.full((3, 9), np.nan)}, "NaN"),
    ],
)
def test_wrong_options_say_so(wrong, says):
    with pytest.raises(ValueError, match=says):
        SASRec(**({"d": 8} | wrong))


def test_data_that_cannot_be_learned_says_so():
    with pytest.raises(ValueError, match="2 items or more"):
        SASRec(**SMALL).fit(interactions([[1], [2]]))
    with pytest.raises(ValueError, match="rows"):
        SASRec(item_vectors=VECTORS[:5], mode="adaptor", **SMALL).fit(data())
    with pytest.raises(ValueError, match="masked"):
        BERT4Rec(masked=0.0)
    with pytest.raises(ValueError, match="width"):
        GRU4Rec(width=0)
    with pytest.raises(RuntimeError, match="fit"):
        SASRec().score([0])


def test_padded():
    ids, lengths = padded([np.array([4, 5]), np.array([6])])
    assert ids.tolist() == [[4, 5], [6, 0]] and lengths.tolist() == [2, 1]
