"""Do the tests notice? Each one-line change below breaks a formula, a mask or a split, and must make tests fail.

The library is copied, the change is made in the copy, and the named tests run on it in a fresh process.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "library"

# name: (module, the text as it is, the text as it must not be, tests that must fail)
MUTANTS = {
    "excluded items leave the list short": (
        "serve.py",
        "asked.k + len(asked.exclude)",
        "asked.k",
        "test_serve.py::test_excluded_items_make_room_for_others",
    ),
    "of an item clicked twice the older click counts": (
        "serve.py",
        "list(dict.fromkeys(reversed(ids)))[::-1]",
        "list(dict.fromkeys(ids))",
        "test_serve.py::test_explanations_add_up_to_the_score_and_name_the_clicks",
    ),
    "weights are cut from below": (
        "off_policy.py",
        "np.minimum(weight, at) @",
        "np.maximum(weight, at) @",
        "test_off_policy.py::test_over_all_logs_ips_is_right_on_average_and_clipping_too_low",
    ),
    "plain IPS divides by the weights": (
        "off_policy.py",
        "weight @ reward / len(reward))\n\n\ndef self_normalised",
        "weight @ reward / weight.sum())\n\n\ndef self_normalised",
        "test_off_policy.py::test_estimates_are_those_of_loops",
    ),
    "a drawn row loses its weight": (
        "off_policy.py",
        "estimate(reward[pick], weight[pick])",
        "estimate(reward[pick], weight)",
        "test_off_policy.py::test_bootstrap_keeps_rows_together_and_spreads_like_the_formula",
    ),
    "the next level clusters what the last one clustered": (
        "models/semantic_ids.py",
        "rest = rest - means.cluster_centers_[means.predict(rest)]",
        "rest = rest - 0 * means.cluster_centers_[means.predict(rest)]",
        "test_semantic_ids.py::test_digits_are_those_of_kmeans_step_by_step",
    ),
    "the beam keeps the least likely prefixes": (
        "models/semantic_ids.py",
        'np.argsort(-scores, kind="stable")[:width]',
        'np.argsort(scores, kind="stable")[:width]',
        "test_semantic_ids.py::test_a_full_beam_is_all_ids_in_order",
    ),
    "a digit is written without those before it": (
        "models/semantic_ids.py",
        "x = x + self.before[i](prefixes[..., i])",
        "x = x + 0 * self.before[i](prefixes[..., i])",
        "test_semantic_ids.py::test_a_digit_depends_on_those_before_it",
    ),
    "a film outside the stored ten counts as the first": (
        "models/semantic_ids.py",
        "place = rank.where(hit, np.inf)",
        "place = rank.where(hit, 1)",
        "test_semantic_ids.py::test_stored_places_become_results",
    ),
    "a shelf counts its films once more": (
        "models/next_shelf.py",
        "/ np.bincount(shelf[warm], minlength=self.shelves)",
        "* np.bincount(shelf[warm], minlength=self.shelves)",
        "test_next_shelf.py::test_scores_are_those_of_a_loop",
    ),
    "the prior is added": (
        "llm_ranking.py",
        "return one - weight * other",
        "return one + weight * other",
        "test_llm_ranking.py::test_pmi",
    ),
    "rotations are averaged slot by slot": (
        "llm_ranking.py",
        "table[r, (c - r) % n]",
        "table[r, (c + r) % n]",
        "test_llm_ranking.py::test_rotations_average_the_slot_away",
    ),
    "the token after the echo counts": (
        "local_server.py",
        "for cut in (1, 0):",
        "for cut in (0,):",
        "test_llm_ranking.py::test_a_server_gives_the_same_likelihoods",
    ),
    "headers made of the environment go along": (
        "local_server.py",
        'event_hooks={"request": [_bare]}',
        'event_hooks={"request": []}',
        "test_llm_ranking.py::test_the_environment_plays_no_part",
    ),
    "the loss looks from picture to text only": (
        "multimodal.py",
        "info_nce(texts, pictures, temperature)) / 2",
        "info_nce(pictures, texts, temperature)) / 2",
        "test_multimodal.py::test_symmetric_loss_is_the_mean_of_two_cross_entropies",
    ),
    "a mirror image is another drawing": (
        "datasets/drawings.py",
        "grey[:, :, ::-1]))",
        "grey[:, :, :]))",
        "test_drawings.py::test_likeness_is_the_correlation_and_takes_the_mirror_image_for_the_same",
    ),
    "a large family may be held out": (
        "datasets/drawings.py",
        "(sizes[labels] <= largest)",
        "(sizes[labels] >= 0)",
        "test_drawings.py::test_split_keeps_families_whole",
    ),
    "a user's old row stays in the stream": (
        "stream.py",
        "-np.ones(old.sum())",
        "np.ones(old.sum())",
        "test_stream.py::test_streaming_ease_is_ease_fitted_on_all_rows_so_far",
    ),
    "a page runs over midnight": (
        "stream.py",
        'rows.groupby(["user", "day"]).cumcount()',
        'rows.groupby(["user"]).cumcount()',
        "test_stream.py::test_pages_are_those_of_a_loop",
    ),
    "a curve crosses where it first looks above": (
        "learning_curves.py",
        "last = below[-1]",
        "last = below[0]",
        "test_learning_curves.py::test_a_curve_that_falls_back_crosses_when_it_stays_above",
    ),
    "draws do not widen an interval": (
        "learning_curves.py",
        "(np.nanmean(table, axis=0), np.nanmean(table, axis=1))",
        "(np.nanmean(table, axis=0),)",
        "test_learning_curves.py::test_draws_that_differ_widen_the_interval",
    ),
    "mixed rows keep their own": (
        "learning_curves.py",
        "np.roll(wrong, 1)",
        "np.roll(wrong, 0)",
        "test_learning_curves.py::test_mixed_rows_are_a_permutation_and_none_of_the_share_stays",
    ),
    "an explanation weighs the text by the profile's length": (
        "own_recommender.py",
        "/ length\n",
        "* length\n",
        "test_own_data.py::test_contributions_add_up_to_the_score",
    ),
    "new items are scored by another ridge": (
        "own_recommender.py",
        "ease, settings.ridge, gamma=1.0",
        "None, settings.ridge, gamma=1.0",
        "test_own_data.py::test_the_saved_recommender_scores_like_the_fusion_that_was_measured",
    ),
    "a user in two splits counts twice": (
        "own_recommender.py",
        "each = gaps.groupby(level=0).mean().to_numpy()",
        "each = gaps.to_numpy()",
        "test_own_data.py::test_difference_is_the_paired_one_and_averages_over_splits",
    ),
    "nine users prove something": (
        "own_recommender.py",
        "if users < ENOUGH:",
        "if users < 2:",
        "test_own_data.py::test_few_users_prove_nothing_and_equal_rows_do_not_differ",
    ),
    "the list holds what the user has": (
        "own_recommender.py",
        "among = (rows.matrix().toarray() == 0)",
        "among = (rows.matrix().toarray() >= 0)",
        "test_own_data.py::test_predictions_are_every_users_list",
    ),
    "items without a text are shuffled too": (
        "own_recommender.py",
        "order[described] = np.random.default_rng(seed).permutation(order[described])",
        "order = np.random.default_rng(seed).permutation(order)",
        "test_own_data.py::test_shuffling_moves_only_texts_that_exist",
    ),
    "one order of the texts for all splits": (
        "own_recommender.py",
        "shuffled = _shuffled(self.vectors, self.described, seed)",
        "shuffled = _shuffled(self.vectors, self.described, self.seed)",
        "test_own_data.py::test_each_split_of_the_items_has_controls_of_its_own",
    ),
    "a rating equal to the threshold is dropped": (
        "own_data.py",
        'rows["rating"] < min_rating',
        'rows["rating"] <= min_rating',
        "test_own_data.py::test_messy_rows_are_mended_and_counted",
    ),
    "without times the last row of the file is held out": (
        "own_recommender.py",
        "if data.ordered else shuffled_rows(data.dataset.interactions, seed)",
        "if data.ordered else data.dataset.interactions",
        "test_own_data.py::test_chinese_without_times_or_ratings",
    ),
    "a contribution goes the wrong way": (
        "explain.py",
        "terms = profile * self.weights[items, item]",
        "terms = profile * self.weights[item, items]",
        "test_explain.py::test_contributions_sum_to_the_score",
    ),
    "the ridge explains scores that were not centred": (
        "explain.py",
        "base[:, model.warm] - base[:, model.warm].mean(axis=1, keepdims=True)",
        "base[:, model.warm]",
        "test_explain.py::test_contributions_sum_to_the_score",
    ),
    "a title may close its quotation": (
        "explain.py",
        """re.sub(r"[\\"“”《》]", "", plain)""",
        """re.sub(r"[\\"“《》]", "", plain)""",
        "test_explain.py::test_a_title_can_only_be_quoted",
    ),
    "pairs reach one place too far": (
        "pretraining.py",
        "for step in range(1, window + 1):",
        "for step in range(1, window + 2):",
        "test_pretraining.py::test_interaction_pairs_against_a_loop",
    ),
    "a causal model guesses the token it sees": (
        "pretraining.py",
        "torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], dim=1)",
        "torch.cat([ids[:, :-1], torch.full_like(ids[:, :1], IGNORED)], dim=1)",
        "test_pretraining.py::test_losses_are_those_of_transformers",
    ),
    "the temperature of drawing multiplies": (
        "generation.py",
        "torch.softmax(logits / temperature, dim=-1)",
        "torch.softmax(logits * temperature, dim=-1)",
        "test_generation.py::test_drawing_follows_the_seed_and_the_temperature",
    ),
    "padding counts as a continuation": (
        "generation.py",
        "(each.double() * mask).sum(dim=1)",
        "each.double().sum(dim=1)",
        "test_generation.py::test_likelihood_equals_one_by_one",
    ),
    "padding moves the places of tokens": (
        "generation.py",
        "(mask.cumsum(dim=1) - 1).clamp(min=0)",
        "torch.arange(mask.shape[1]).expand_as(mask)",
        "test_generation.py::test_greedy_equals_one_by_one",
    ),
    "degrees are not square-rooted": (
        "models/graph.py",
        "np.divide(1.0, np.sqrt(degree), out",
        "np.divide(1.0, degree, out",
        "test_graph.py::test_adjacency_is_the_dense_one",
    ),
    "the softmax over items forgets how many a user took": (
        "models/graph.py",
        "(count * torch.logsumexp(logits, dim=1)).sum()",
        "torch.logsumexp(logits, dim=1).sum()",
        "test_graph.py::test_softmax_over_items_is_the_full_softmax_over_interactions",
    ),
    "the temperature multiplies": (
        "objectives.py",
        "logits = queries @ keys.T / temperature",
        "logits = queries @ keys.T * temperature",
        "test_objectives.py::test_info_nce_against_a_loop",
    ),
    "logQ is added": (
        "objectives.py",
        "logits = logits - log_q",
        "logits = logits + log_q",
        "test_objectives.py::test_info_nce_against_a_loop",
    ),
    "one item is its own negative": (
        "objectives.py",
        "logits = logits.masked_fill(same & ~torch.eye",
        "logits = logits.masked_fill(same & torch.eye",
        "test_objectives.py::test_info_nce_against_a_loop",
    ),
    "the softmax pushes its target away": (
        "objectives.py",
        "torch.full_like(wanted, -1, dtype=error.dtype)",
        "torch.full_like(wanted, 1, dtype=error.dtype)",
        "test_objectives.py::test_full_softmax_and_its_gradients_equal_torch",
    ),
    "attention sees later items": (
        "models/sequential.py",
        "attn_mask=mask, is_causal=mask is None)",
        "attn_mask=mask)",
        "test_sequential.py::test_no_state_depends_on_later_items",
    ),
    "padding is attended to": (
        "models/sequential.py",
        "(places < lengths[:, None])[:, None, None, :]",
        "(places < lengths.max())[None, None, None, :]",
        "test_sequential.py::test_padding_does_not_matter",
    ),
    "the weights' mean forgets nothing": (
        "models/training.py",
        "torch._foreach_lerp_(self.means, self.weights, 1 - rate)",
        "torch._foreach_lerp_(self.means, self.weights, rate)",
        "test_sequential.py::test_averaged_weights_are_what_is_kept",
    ),
    "the last epoch's weights are kept": (
        "models/training.py",
        "self.network.load_state_dict(kept)",
        "pass",
        "test_factorization.py::test_early_stopping_keeps_the_best_epoch",
    ),
    "taken items are drawn as negatives": (
        "models/training.py",
        "return self.taken[place] == keys",
        "return self.taken[place] > keys + self.n_items",
        "test_factorization.py::test_negatives_are_never_taken_items_and_reach_all_others",
    ),
    "vectors are not scaled to length 1": (
        "geometry.py",
        "return rows / np.where(length > 0, length, 1.0)",
        "return rows",
        "test_geometry.py::test_cosine_by_hand_and_against_scikit_learn",
    ),
    "the reference's mean is ignored": (
        "geometry.py",
        "return rows - base.mean(axis=0)",
        "return rows - rows.mean(axis=0)",
        "test_geometry.py::test_center_uses_the_reference",
    ),
    "shrinkage only adds": (
        "geometry.py",
        "covariance = (1 - shrinkage) * covariance + shrinkage",
        "covariance = covariance + shrinkage",
        "test_geometry.py::test_whiten_shrinks_the_covariance_towards_a_multiple_of_the_identity",
    ),
    "whitening divides by the variance": (
        "geometry.py",
        "/ np.sqrt(variance[keep])",
        "/ variance[keep]",
        "test_geometry.py::test_whiten_against_scikit_learn",
    ),
    "a vector is compared with itself": (
        "geometry.py",
        "(np.sum(unit.sum(axis=0) ** 2) - np.sum(unit**2)) / pairs",
        "(np.sum(unit.sum(axis=0) ** 2)) / pairs",
        "test_geometry.py::test_mean_cosine_against_all_pairs",
    ),
    "uniformity forgets its temperature": (
        "geometry.py",
        "np.exp(-t * squared)",
        "np.exp(-squared)",
        "test_geometry.py::test_alignment_and_uniformity_against_loops",
    ),
    "place k is outside the list": (
        "metrics.py",
        "hit = (_rank_matrix(ranks, k) <= k)",
        "hit = (_rank_matrix(ranks, k) < k)",
        "test_metrics.py::test_one_item_a_user_by_hand",
    ),
    "the discount is off by one place": (
        "metrics.py",
        "1.0 / np.log2(1.0 + matrix)",
        "1.0 / np.log2(2.0 + matrix)",
        "test_metrics.py::test_one_item_a_user_by_hand",
    ),
    "the ideal list has a single relevant item": (
        "metrics.py",
        "relevant = np.minimum(np.isfinite(matrix).sum(axis=1), k)",
        "relevant = np.ones(len(matrix), dtype=int)",
        "test_metrics.py::test_ndcg_against_scikit_learn",
    ),
    "recall counts the filling of short rows": (
        "metrics.py",
        "(matrix <= k).sum(axis=1) / np.isfinite(matrix).sum(axis=1)",
        "(matrix <= k).sum(axis=1) / matrix.shape[1]",
        "test_metrics.py::test_against_a_loop",
    ),
    "seen items stay in the ranking": (
        "evaluation.py",
        "row, item = known[some].nonzero()",
        "row, item = known[some[:0]].nonzero()",
        "test_evaluation.py::test_seen_items_do_not_take_places",
    ),
    "a list is compared with itself": (
        "metrics.py",
        "(unit[codes].sum(axis=1) ** 2).sum(axis=1) - own",
        "(unit[codes].sum(axis=1) ** 2).sum(axis=1)",
        "test_metrics.py::test_distance_against_all_pairs",
    ),
    "intervals of one probability weigh as much as full ones": (
        "metrics.py",
        'weights=curve["count"]',
        "weights=None",
        "test_metrics.py::test_probabilities_against_scikit_learn",
    ),
    "only the last item chosen counts": (
        "evaluation.py",
        "nearest = np.maximum(nearest, cosines)",
        "nearest = cosines",
        "test_evaluation.py::test_mmr_against_a_loop",
    ),
    "all items are candidates": (
        "evaluation.py",
        "allowed[items] = True",
        "allowed[:] = True",
        "test_evaluation.py::test_seen_items_do_not_take_places",
    ),
    "the held-out item wins every tie": (
        "evaluation.py",
        "better[pair] += (keys[same] < keys[item[pair]]).sum()",
        "better[pair] += 0",
        "test_evaluation.py::test_constant_scores_rank_like_chance",
    ),
    "seen items take part in ties": (
        "evaluation.py",
        "same = (scores[here] == scores[here, item[pair]]) & ranked[here]",
        "same = scores[here] == scores[here, item[pair]]",
        "test_evaluation.py::test_recommend_agrees_with_evaluate",
    ),
    "NaN scores pass": (
        "evaluation.py",
        "if np.isnan(scores).any():",
        "if False:",
        "test_evaluation.py::test_errors_say_what_is_wrong",
    ),
    "the test has one side": (
        "evaluation.py",
        "tail = 1 + min(np.sum(means <= 0), np.sum(means >= 0))",
        "tail = 1 + np.sum(means <= 0)",
        "test_evaluation.py::test_compare_is_paired_and_two_sided",
    ),
    "users are paired by position": (
        "evaluation.py",
        "(left.mean(axis=1) - right.mean(axis=1))",
        "(left.mean(axis=1) - right.mean(axis=1).to_numpy())",
        "test_evaluation.py::test_compare_is_paired_and_two_sided",
    ),
    "the interval is too narrow": (
        "evaluation.py",
        "[(1 - level) / 2, (1 + level) / 2]",
        "[(1 - level), level]",
        "test_evaluation.py::test_interval_against_the_normal_approximation_and_a_loop",
    ),
    "recency starts one step too early": (
        "models/base.py",
        "steps_back = ends[user] - 1 - np.arange(len(user))",
        "steps_back = ends[user] - np.arange(len(user))",
        "test_models.py::test_profile_weights_by_hand",
    ),
    "the oldest item weighs most": (
        "models/base.py",
        "weight = np.power(decay, steps_back[new])",
        "weight = np.power(decay, -steps_back[new])",
        "test_models.py::test_profile_weights_by_hand",
    ),
    "nothing shrinks": (
        "models/neighbours.py",
        "together / (np.outer(root, root) + self.shrink)",
        "together / np.outer(root, root)",
        "test_models.py::test_itemknn_by_hand_and_by_loop",
    ),
    "neighbours are kept by row": (
        "models/neighbours.py",
        "nearest = np.argsort(-similarity, axis=0, kind=",
        "nearest = np.argsort(similarity, axis=0, kind=",
        "test_models.py::test_itemknn_by_hand_and_by_loop",
    ),
    "EASE divides by the wrong diagonal": (
        "models/ease.py",
        "weights = -inverse / np.diag(inverse)",
        "weights = -inverse / np.diag(inverse)[:, None]",
        "test_models.py::test_ease_solves_its_constrained_problem",
    ),
    "EASE may copy its input": (
        "models/ease.py",
        "np.fill_diagonal(weights, 0.0)",
        "np.fill_diagonal(weights, 1.0)",
        "test_models.py::test_ease_solves_its_constrained_problem",
    ),
    "long vectors weigh more": (
        "models/content.py",
        "self.item_vectors = normalize(checked_vectors(item_vectors))",
        "self.item_vectors = checked_vectors(item_vectors)",
        "test_models.py::test_content_is_the_cosine_to_the_mean_of_unit_vectors",
    ),
    "cold items move the mean": (
        "models/cold_start.py",
        "self.vectors = normalize(center(self.item_vectors, self.item_vectors[self.warm]))",
        "self.vectors = normalize(center(self.item_vectors))",
        "test_models.py::test_ridge_against_scikit_learn",
    ),
    "a user's level leaks into the ridge": (
        "models/cold_start.py",
        "(scores - scores.mean(axis=1, keepdims=True)) @ solve.T",
        "scores @ solve.T",
        "test_models.py::test_ridge_against_scikit_learn",
    ),
    "the own like is in the features": (
        "models/click.py",
        "shrunk = total[code] - like * inside",
        "shrunk = total[code]",
        "test_click.py::test_features_leave_the_own_row_out",
    ),
    "an item is its own neighbour": (
        "models/cold_start.py",
        "near[self.warm, np.arange(len(self.warm))] = 0.0",
        "pass",
        "test_models.py::test_text_neighbours_by_loop",
    ),
    "new users take part in the mean user": (
        "models/cold_start.py",
        "center(self.user_features, self.user_features[warm])",
        "center(self.user_features)",
        "test_models.py::test_ridge_from_users_against_scikit_learn",
    ),
    "seen items count in the z-score": (
        "models/hybrid.py",
        "centred = scores - np.where(among, scores, 0.0).sum(axis=1, keepdims=True) / count",
        "centred = scores - scores.mean(axis=1, keepdims=True)",
        "test_models.py::test_fusion_standardises_over_unseen_items",
    ),
    "rows are sorted by time first": (
        "datasets/interactions.py",
        "keys.insert(0, times.to_numpy())",
        "keys.append(times.to_numpy())",
        "test_datasets.py::test_rows_are_sorted_by_user_time_and_then_as_they_came",
    ),
    "the last item validates and the last but one tests": (
        "splits.py",
        "test, validation = (after == 0) & (total >= 3), (after == 1) & (total >= 3)",
        "test, validation = (after == 1) & (total >= 3), (after == 0) & (total >= 3)",
        "test_splits.py::test_leave_one_out_breaks_ties_by_the_order_of_the_file",
    ),
    "the random split is not random": (
        "splits.py",
        "np.lexsort((np.random.default_rng(seed).random(len(rows)), rows.users))",
        "np.lexsort((np.zeros(len(rows)), rows.users))",
        "test_splits.py::test_random_split_is_uniform",
    ),
    "small users lose nothing": (
        "splits.py",
        "np.maximum(1, total // 10)",
        "total // 10",
        "test_splits.py::test_a_tenth_is_rounded_down",
    ),
    "one timestamp is cut apart": (
        "splits.py",
        "train, test = times < first, times >= second",
        "train, test = times <= first, times >= second",
        "test_splits.py::test_global_time_split_against_a_loop",
    ),
    "items of the validation are candidates of the test": (
        "splits.py",
        "test_items = np.sort(shuffled[:n_test])",
        "test_items = np.sort(shuffled[: n_test + n_validation])",
        "test_splits.py::test_cold_item_split",
    ),
    "a cold user brings one item too many": (
        "splits.py",
        "(before < known)",
        "(before <= known)",
        "test_splits.py::test_cold_users_are_the_same_for_every_known",
    ),
    "known items of cold users are tested": (
        "splits.py",
        "rows.select(test_user & (before >= skip))",
        "rows.select(test_user & (before >= known))",
        "test_splits.py::test_cold_users_are_the_same_for_every_known",
    ),
    "a cold item in train passes for a clean split": (
        "splits.py",
        "if np.isin(train.items, held_out).any() or",
        "if",
        "test_splits.py::test_leaks_are_found",
    ),
    "the towers add logQ": (
        "models/two_tower.py",
        "log_q=self.log_q * self.key_log_q[keys]",
        "log_q=-self.log_q * self.key_log_q[keys]",
        "test_two_tower.py::test_loss_and_gradient_with_log_q_against_autograd_on_a_written_out_softmax",
    ),
    "a history runs into the user before": (
        "models/two_tower.py",
        "inside = places >= start[:, None]",
        "inside = places >= 0",
        "test_two_tower.py::test_histories_are_decayed_means_of_what_came_before",
    ),
    "an item nobody met keeps its initial vector": (
        "models/two_tower.py",
        "parts.append(self.ids(codes) * self.met[codes])",
        "parts.append(self.ids(codes))",
        "test_two_tower.py::test_an_item_nobody_met_has_no_vector_of_its_own",
    ),
    "the inputs' step is forgotten": (
        "compression.py",
        "* (scale * step)",
        "* step",
        "test_compression.py::test_linear_layer_is_integer_arithmetic",
    ),
    "a step for each column": (
        "compression.py",
        "x.abs().amax(dim=-1, keepdim=True)",
        "x.abs().amax(dim=0, keepdim=True)",
        "test_compression.py::test_quantise_is_torchs_rounding",
    ),
    "the farthest are neighbours": (
        "compression.py",
        "np.argsort(-alike, axis=1",
        "np.argsort(alike, axis=1",
        "test_compression.py::test_neighbours_kept_is_a_count",
    ),
}


# a failing example is enough: hypothesis need not look for the smallest one
QUICK = """
from hypothesis import Phase, settings
settings.register_profile("quick", phases=[Phase.explicit, Phase.generate])
settings.load_profile("quick")
"""


def run(library: Path, tests: set[str]) -> subprocess.CompletedProcess[str]:
    """Run tests on the copy of the library in ``library``, which is also the working folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(library),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "OMP_NUM_THREADS": "1",
    }
    # no conftest: the one beside the book would put the unchanged library first
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-p",
        "quick",
        "--noconftest",
        f"--rootdir={ROOT}",
    ]
    command = [sys.executable, "-m", "pytest", *options, *sorted(f"{TESTS}/{test}" for test in tests)]
    return subprocess.run(command, cwd=library, env=environment, capture_output=True, text=True, timeout=110)


@pytest.fixture
def library(tmp_path):
    """A folder with a copy of the library."""
    skip = shutil.ignore_patterns("__pycache__", "fonts")
    shutil.copytree(ROOT / "recsys_lib", tmp_path / "recsys_lib", ignore=skip)
    (tmp_path / "quick.py").write_text(QUICK, encoding="utf-8")
    return tmp_path


def test_the_tests_pass_on_an_unchanged_copy(library):
    done = run(library, {tests for *_, tests in MUTANTS.values()})
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("module", "old", "new", "tests"), MUTANTS.values(), ids=list(MUTANTS))
def test_a_change_is_noticed(library, module, old, new, tests):
    path = library / "recsys_lib" / module
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, "the text to change must stand in the module once"
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = run(library, {tests})
    assert done.returncode == 1, f"exit code {done.returncode}: the change was not noticed\n{done.stdout}"
