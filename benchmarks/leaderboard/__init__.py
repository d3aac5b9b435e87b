"""The leaderboard: a declared matrix of models and protocols on MovieLens-100K, measured over seeds or splits.

``python -m benchmarks.leaderboard`` (``make leaderboard``) measures every cell (protocol, model, seed) that is not
in the cache and writes what is known to ``benchmarks/results``. It may be stopped at any time and started again.

    --quick                rows that train in under 10 s only
    --only TEXT            rows whose "protocol / name" is TEXT, or contains it (may be given several times)
    --seeds 0 1            these seeds only; a row is written once all of its seeds are measured
    --check                measure, compare with the files, write nothing (``make leaderboard-quick``)
    --list                 print the matrix and what is measured
    --cache FOLDER         where cells are kept: _build/leaderboard, or $LEADERBOARD_CACHE

Results: ``leaderboard.csv`` (a row for each protocol, model and metric), ``leaderboard_seeds.csv`` (each seed by
itself), ``leaderboard_tests.csv`` (paired tests). The library's package carries a copy of the first.

How to add a row
----------------
Write (or extend) a file in ``benchmarks/leaderboard/rows``; every file there is read. It needs a list ``ROWS``::

    from benchmarks.leaderboard.core import Cell, Row
    from recsys_lib.models import BPRMF

    def bpr(cell: Cell) -> BPRMF:
        return BPRMF(seed=cell.seed, **cell.config)

    ROWS = [
        Row("BPR-MF", "leave_one_out", bpr, how="refit", trained=True, config={"dimension": 64}),
        Row("BPR-MF", "random_811", bpr, how="refit", trained=True, config={"dimension": 64}),
    ]

``cell`` has ``seed``, ``protocol``, ``split``, ``config`` and ``data``: ``data.dataset`` and item vectors by name,
``data.vectors("MiniLM")`` (the names: `core.VECTORS`). ``how`` says how the model meets the data:

    "fit"      fit(fit_part): nothing is chosen on validation (the default)
    "refit"    fit(train, validation), which stops early, then refit(fit_part): static models
    "observe"  fit(train, validation), which stops early, then observe(fit_part): sequences
    "ready"    the factory itself fits what it returns; it may use cell.split.validation to choose
    "fuse"     no factory, but ``parts``: names of rows of the same protocol whose z-scores are added, weights
               chosen on validation; rows used as parts need ``parts_of_fusion=True``

``trained=True``: the result depends on the seed, so that leave-one-out and global time have 3 seeds, not 1.
``quick=True``: under 10 s a seed; the tests measure such rows again. A cell is measured again when its config, its
factory, or the library's code that the factory uses changes. It is not when `core.VECTORS` changes: then empty the
cache. Names are parts joined by commas, the model first; their Chinese words stand in ``book/leaderboard.yml``.
"""
