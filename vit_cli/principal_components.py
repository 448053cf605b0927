"""Principal components of vectors that are seen once, part by part, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Moments:
    """What is kept of vectors to find their principal components, in float64.

    Attributes:
        count: how many there were.
        total: their sum, (width,).
        products: the sum of their products with themselves, (width, width).
    """

    count: int
    total: np.ndarray
    products: np.ndarray

    @classmethod
    def of_none(cls, width: int) -> Moments:
        """Of no vectors yet."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    def add(self, vectors: np.ndarray) -> None:
        """Add vectors, (count, width)."""
        exact = vectors.astype(np.float64)
        self.count += len(exact)
        self.total += exact.sum(axis=0)
        self.products += exact.T @ exact

    def components(self, number: int) -> Components:
        """The first components; those that there are not, since vectors are narrow, are zero."""
        mean = self.total / self.count
        variances, directions = np.linalg.eigh(self.products / self.count - np.outer(mean, mean))  # smallest first
        found = min(number, len(mean))
        axes, shares = np.zeros((len(mean), number)), np.zeros(number)
        axes[:, :found] = directions[:, ::-1][:, :found]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
        axes *= np.where(largest < 0, -1, 1)  # either direction of an axis will do; this one is the same everywhere
        whole = np.clip(variances, 0, None).sum()
        if whole > 0:
            shares[:found] = np.clip(variances[::-1][:found], 0, None) / whole
        return Components(mean, axes, shares)


@dataclass(frozen=True)
class Components:
    """Principal components, the one of most variance first.

    Attributes:
        mean: of the vectors, (width,).
        axes: unit vectors, (width, components); the largest entry of each is positive.
        shares: how much of the variance lies along each, (components,), from 0 to 1.
    """

    mean: np.ndarray
    axes: np.ndarray
    shares: np.ndarray

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Where vectors, (..., width), lie along the components, (..., components)."""
        return (vectors - self.mean) @ self.axes
