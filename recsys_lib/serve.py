"""A small HTTP service for a recommender that ``python -m recsys_lib evaluate --save model.npz`` wrote.

``python -m recsys_lib.serve model.npz`` starts it on this machine; ``create_app`` gives the app to any ASGI server.
The saved file holds no user, so a request brings its clicks, and nothing is kept of them. Needs FastAPI and uvicorn
(the extra ``serve``). There is no authentication, no TLS, no CORS and no limit a client: it belongs behind a proxy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints

from recsys_lib import __version__
from recsys_lib.datasets.interactions import DataError
from recsys_lib.own_recommender import OwnRecommender

LONGEST, MOST, BODY = 200, 200, 2**20  # characters of an id, ids of a list, bytes of a request


def _newest(ids: list[str]) -> list[str]:
    """Each id once; of an item twice the newest counts, as in the recommender."""
    return list(dict.fromkeys(reversed(ids)))[::-1]


def _whole(value: Any) -> Any:
    """5.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


ItemId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]
Ids = Annotated[list[ItemId], Field(max_length=MOST), AfterValidator(_newest)]
Length = Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)]


class RecommendRequest(BaseModel, extra="forbid", strict=True):
    """Clicked items, oldest first (none: popularity); ``new`` ranks only items that nobody had met."""

    history: Ids = []
    k: Length = 10
    exclude: Ids = []
    new: bool = False


class SimilarRequest(BaseModel, extra="forbid", strict=True):
    """An item, and how many of its neighbours."""

    item: ItemId
    k: Length = 10


class ExplainRequest(BaseModel, extra="forbid", strict=True):
    """Why would ``item`` be recommended to these clicks?"""

    item: ItemId
    history: Ids = []
    new: bool = False


class Item(BaseModel):
    """One line of a list, the best first."""

    item_id: str
    title: str
    score: float


class Part(BaseModel):
    """What one item of the history (``item_id``), popularity or the averages add to the score."""

    item_id: str | None
    name: str
    collaborative: float
    text: float
    rest: float


class Problem(BaseModel):
    """What is wrong, and the remedy."""

    detail: str


WHY = {
    400: "The body cannot be read",
    404: "An item is unknown",
    409: "The model or the history allows no answer",
    422: "The body is no JSON, or a value is out of bounds",
    503: "Too many requests wait",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in WHY.items()
}
PROBLEMS[503]["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "seconds"}}
PROBLEMS[413] = {"description": "The body is too large", "content": {"text/plain": {}}}


def create_app(path: str | Path, *, running: int = 2, waiting: int = 16) -> FastAPI:
    """The service for one saved recommender.

    Parameters
    ----------
    path : str or Path
        What ``OwnRecommender.save`` wrote.
    running, waiting : int, >= 1 and >= 0
        Requests that compute at once, each in a thread (the recommender is only read), and requests that may wait
        for them. Any more get status 503 with ``Retry-After``.

    Raises
    ------
    DataError
        If the file is something else, or an id is longer than a request may hold.
    """
    if running < 1 or waiting < 0:
        raise ValueError(f"running >= 1 and waiting >= 0, please: {running}, {waiting}")
    model, threads, taken = OwnRecommender.load(path), CapacityLimiter(running), 0
    if too_long := [item for item in model.item_ids if not 0 < len(item) <= LONGEST]:
        raise DataError(f"Ids of 1 to {LONGEST} characters can be asked for, but not {too_long[0]!r}.")
    # the pages of the documentation would load scripts from another site
    app = FastAPI(
        title="recsys_lib.serve", version=__version__, max_body_size=BODY, docs_url=None, redoc_url=None
    )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        """Name each wrong field, without sending back what was sent."""
        wrong = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()[:5]]
        if "json" not in request.headers.get("content-type", ""):
            wrong = ["the body must be JSON, sent with Content-Type: application/json"]
        return Response(json.dumps({"detail": "; ".join(wrong)[:1000]}), 422, media_type="application/json")

    async def compute(work: Callable[[], Any], *ids: str) -> Any:
        """Run the work in a thread, if the ids are known and there is a place."""
        nonlocal taken  # one event loop counts: no lock is needed
        if unknown := [item for item in ids if item not in model.code]:
            remedy = "Leave them out, or fit the recommender on data that hold them."
            raise HTTPException(404, f"Unknown item ids: {unknown[:5]}. {remedy}")
        if taken >= running + waiting:
            raise HTTPException(503, "Too many requests wait: try again later.", {"Retry-After": "1"})
        taken += 1
        try:
            return await to_thread.run_sync(work, limiter=threads)
        except ValueError as error:
            raise HTTPException(409, f"{error}") from None
        finally:
            taken -= 1

    @app.post("/recommend", responses=PROBLEMS)
    async def recommend(asked: RecommendRequest) -> list[Item]:
        """The best items for a history of clicks; clicked and excluded ones are left out."""

        def work() -> Any:
            listed = model.recommend(asked.history, asked.k + len(asked.exclude), new=asked.new)
            return listed[~listed["item_id"].isin(asked.exclude)].head(asked.k).to_dict("records")

        return await compute(work, *asked.history, *asked.exclude)

    @app.post("/similar", responses=PROBLEMS)
    async def similar(asked: SimilarRequest) -> list[Item]:
        """The items nearest to one: by the cosine of the texts or, without a text, by EASE's weights."""

        def work() -> Any:
            return model.similar(asked.item, asked.k).to_dict("records")

        return await compute(work, asked.item)

    @app.post("/explain", responses=PROBLEMS)
    async def explain(asked: ExplainRequest) -> list[Part]:
        """What each click, popularity and the averages add to an item's score: all cells together are it."""

        def work() -> Any:
            table = model.explain(asked.history, asked.item, new=asked.new)
            rows = zip([*asked.history, None, None], table.index, table.to_numpy().tolist(), strict=True)
            return [Part(item_id=i, name=n, collaborative=c, text=t, rest=r) for i, n, (c, t, r) in rows]

        return await compute(work, asked.item, *asked.history)

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        """What is loaded; it waits for no place."""
        counts = {"items": len(model.item_ids), "new_items": int((model.counts == 0).sum())}
        counts["interactions"] = int(model.counts.sum())
        return {"status": "ok", "version": __version__, "model": Path(path).name, **counts}

    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until it is stopped; return its exit status: 0, or 2 where the file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m recsys_lib.serve", description=__doc__)
    parser.add_argument("model", help="a file that python -m recsys_lib evaluate --save wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args(arguments)
    if not 0 <= asked.port < 2**16:
        parser.error("--port must lie between 0 and 65535")
    try:
        app = create_app(asked.model)
    except DataError as error:
        print(f"recsys_lib.serve: {error}", file=sys.stderr)
        return 2
    uvicorn.run(app, host=asked.host, port=asked.port, limit_concurrency=100, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
