"""Pictures and words in one space: a small pair of encoders, trained from scratch as CLIP is [clip]. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from recsys_lib.geometry import normalize
from recsys_lib.objectives import info_nce


class PictureEncoder(nn.Module):
    """Four convolutions, each halving the picture, the mean over what is left of it, and a linear map.

    Parameters
    ----------
    dimension : int
        Of the shared space.
    width : int
        Channels of the first convolution; each later one has twice as many, up to four times.
    """

    def __init__(self, dimension: int = 128, width: int = 32) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 4 * width]
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
            )
            for before, after in pairwise(channels)
        )
        self.head = nn.Linear(sum(channels[1:]), dimension)

    def forward(self, pictures: Tensor) -> Tensor:
        """Float (n, 3, h, w) in [0, 1] to (n, dimension)."""
        found, means = (
            (1 - pictures).contiguous(memory_format=torch.channels_last),
            [],
        )  # the white ground is 0
        for level in self.levels:
            found = level(found)
            means.append(found.mean(dim=(2, 3)))  # what is there, wherever it is
        return self.head(torch.cat(means, dim=1))


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [0, 1]."""
    if np.ndim(pictures) != 4 or np.shape(pictures)[3] != 3:
        raise ValueError(f"pictures must be (n, h, w, 3), got {np.shape(pictures)}")
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, zoom, shift and tint each picture a little, mirror it by the toss of a coin; the ground stays white.

    Parameters
    ----------
    pictures : float (n, 3, h, w) in [0, 1]
    generator : the source of chance
    """
    n = len(pictures)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, zoom = draw(-0.3, 0.3), draw(0.85, 1.25)
    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    turn = torch.stack(
        [
            torch.stack([mirror * zoom * angle.cos(), -zoom * angle.sin(), draw(-0.15, 0.15)], dim=1),
            torch.stack([mirror * zoom * angle.sin(), zoom * angle.cos(), draw(-0.15, 0.15)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(turn, list(pictures.shape), align_corners=False)
    ink = F.grid_sample(1 - pictures, grid, align_corners=False)
    tint = 1 + 0.4 * (torch.rand(n, 3, 1, 1, generator=generator) - 0.5)
    return 1 - (ink * tint).clamp(0, 1)


def symmetric_info_nce(pictures: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Mean of InfoNCE from picture to text and from text to picture [clip].

    Parameters
    ----------
    pictures, texts : tensors (batch, d)
        Row i of one belongs to row i of the other.
    temperature : float, > 0
    """
    return (info_nce(pictures, texts, temperature) + info_nce(texts, pictures, temperature)) / 2


class Pair(nn.Module):
    """A picture encoder and a linear head over text vectors, meeting in one space.

    Parameters
    ----------
    text_features : int
        Length of a text vector: of a frozen encoder, or of counted n-grams (then the head's weights are one
        embedding an n-gram, and what comes out is their weighted sum).
    dimension, width : int
        See `PictureEncoder`.
    seed : int
    """

    def __init__(self, text_features: int, dimension: int = 128, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.picture = PictureEncoder(dimension, width)
            self.text = nn.Linear(text_features, dimension)
        self.picture.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU

    def fit(
        self,
        pictures: NDArray[np.uint8],
        texts: Sequence[ArrayLike],
        *,
        epochs: int = 60,
        batch_size: int = 128,
        lr: float = 2e-3,
        temperature: float = 0.1,
        weight_decay: float = 0.05,
    ) -> Pair:
        """Train both encoders with `symmetric_info_nce`; at every step each picture meets one of its texts.

        What does not fill a last batch is left out of the epoch.

        Parameters
        ----------
        pictures : uint8 (n, h, w, 3), n >= 2
        texts : sequence of arrays (n, text_features)
            One array a language; row i describes picture i.

        Raises
        ------
        ValueError
            If there are fewer than two pictures or the numbers of rows differ.
        """
        images, words = to_tensor(pictures), torch.stack([_float(x) for x in texts], dim=1)
        n = len(images)
        if n < 2 or len(words) != n:
            raise ValueError(f"two or more pictures, and one text a picture: {n} and {len(words)}")
        generator = torch.Generator().manual_seed(self.seed)
        steps = max(n // batch_size, 1) * epochs
        optimizer = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
        self.train()
        for _ in range(epochs):
            for rows in torch.randperm(n, generator=generator).split(batch_size)[: max(n // batch_size, 1)]:
                which = torch.randint(words.shape[1], (len(rows),), generator=generator)
                seen, read = self.picture(augment(images[rows], generator)), self.text(words[rows, which])
                loss = symmetric_info_nce(seen, read, temperature)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.eval()
        return self

    @torch.no_grad()
    def pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Unit vectors (n, dimension) of pictures (n, h, w, 3)."""
        images = to_tensor(pictures).split(256)
        self.eval()
        return normalize(torch.cat([self.picture(x) for x in images]).numpy())

    @torch.no_grad()
    def texts(self, texts: ArrayLike) -> NDArray[np.float64]:
        """Unit vectors (n, dimension) of text vectors (n, text_features)."""
        return normalize(self.text(_float(texts)).numpy())


def own_ranks(queries: ArrayLike, keys: ArrayLike) -> NDArray[np.float64]:
    """Rank of key i for query i among all keys, by cosine; with ties the middle of the places they share.

    Parameters
    ----------
    queries, keys : arrays (n, d)

    Returns
    -------
    array (n,), 1 is best
    """
    left, right = normalize(queries), normalize(keys)
    if left.shape != right.shape:
        raise ValueError(f"one key a query, please: {left.shape} and {right.shape}")
    scores = left @ right.T
    own = np.diag(scores)[:, None]
    return np.asarray(
        1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2, dtype=np.float64
    )


def fuse(*views: ArrayLike) -> NDArray[np.float64]:
    """One unit vector an item: the mean of its normalised views, over those it has.

    Parameters
    ----------
    views : arrays (n, d)
        Pictures, texts, ...; a row of NaN is a view that the item lacks.

    Returns
    -------
    array (n, d)

    Raises
    ------
    ValueError
        If the shapes differ or an item has no view at all.
    """
    stacked = [np.asarray(view, dtype=np.float64) for view in views]
    if not stacked or any(view.shape != stacked[0].shape or view.ndim != 2 for view in stacked):
        raise ValueError(f"views of one shape (n, d), please: {[view.shape for view in stacked]}")
    there = [~np.isnan(view).all(axis=1) for view in stacked]
    if not np.any(there, axis=0).all():
        raise ValueError(f"items without any view: {np.flatnonzero(~np.any(there, axis=0))[:5].tolist()}")
    total = np.zeros_like(stacked[0])
    for view, has in zip(stacked, there, strict=True):
        if has.any():
            total[has] += normalize(view[has])
    return normalize(total)


def _float(x: ArrayLike) -> Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float32))
