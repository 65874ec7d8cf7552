"""A tree of boxes over a mesh's triangles, so that a ray need not try them all: binned surface area heuristic (Wald 2007).

A node is a row of `boxes` (low and high corner) and of `links`: (first triangle, how many) in a leaf, (left child, 0) above;
the right child follows the left. Trees of several meshes lie one after the other in a `Forest`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.compiling import Ints, Singles, inner_kernel, kernel
from roadworthy.agent.town.mesh import FAR_ONLY, Mesh

Floats = NDArray[np.float64]

LEAF = 4  # triangles that are not divided further
BINS = 12


@dataclass(frozen=True)
class Tree:
    """One mesh, ready for rays."""

    boxes: Singles  # [N, 6]
    links: Ints  # [N, 2]
    corners: Singles  # [F, 9] x, y, z of the three corners, in the tree's order
    tags: Ints  # [F] semantic tag
    radius: float  # [m] of a ball round the origin

    @classmethod
    def over(cls, mesh: Mesh) -> Tree:
        """The tree over a mesh as it is drawn close by (without the faces that are drawn only from afar)."""
        shown = mesh.detail != FAR_ONLY
        corners = mesh.vertices[mesh.faces[shown]]  # [F, 3, 3]
        low, high = corners.min(1), corners.max(1)  # [F, 3] each
        order = np.arange(len(corners), dtype=np.int32)
        boxes = np.empty((2 * len(corners), 6), np.float32)
        links = np.empty((2 * len(corners), 2), np.int32)
        count = _divide(low, high, order, boxes, links)
        radius = float(np.linalg.norm(mesh.vertices, axis=1).max())
        return cls(boxes[:count].copy(), links[:count].copy(), corners[order].reshape(-1, 9), mesh.tags[shown][order], radius)


@dataclass
class Forest:
    """Trees one after the other in flat arrays. `spans [M, 2]`: each tree's first node and first triangle."""

    spans: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    boxes: Singles = field(default_factory=lambda: np.zeros((0, 6), np.float32))
    links: Ints = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    corners: Singles = field(default_factory=lambda: np.zeros((0, 9), np.float32))
    tags: Ints = field(default_factory=lambda: np.zeros(0, np.int32))
    radii: list[float] = field(default_factory=list)

    def plant(self, tree: Tree) -> int:
        """Add a tree; returns its number."""
        span = np.array([[len(self.boxes), len(self.corners)]], np.int32)
        self.spans = np.concatenate([self.spans, span])
        self.boxes = np.concatenate([self.boxes, tree.boxes])
        self.links = np.concatenate([self.links, tree.links])
        self.corners = np.concatenate([self.corners, tree.corners])
        self.tags = np.concatenate([self.tags, tree.tags])
        self.radii.append(tree.radius)
        return len(self.radii) - 1


@kernel
def _divide(low: Singles, high: Singles, order: Ints, boxes: Singles, links: Ints) -> int:
    """Sort `order` and fill `boxes` and `links`; returns the number of nodes."""
    stack = np.empty((128, 3), np.int64)  # node, first, end
    # Number by number: a whole row at once is compiled for seconds, error messages for rows of another length included.
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, 0, len(order)
    depth, count = 1, 1
    bin_low = np.empty((BINS, 3))
    bin_high = np.empty((BINS, 3))
    bin_count = np.empty(BINS, np.int64)
    right_area = np.empty(BINS)
    while depth > 0:
        depth -= 1
        node, first, end = stack[depth, 0], stack[depth, 1], stack[depth, 2]
        for k in range(3):
            boxes[node, k] = np.inf
            boxes[node, 3 + k] = -np.inf
            for i in range(first, end):
                boxes[node, k] = min(boxes[node, k], low[order[i], k])
                boxes[node, 3 + k] = max(boxes[node, 3 + k], high[order[i], k])
        links[node, 0] = first
        links[node, 1] = end - first
        if end - first <= LEAF:
            continue
        # The middles' range, and the longest side of it.
        axis, lowest, width = 0, 0.0, -1.0
        for k in range(3):
            least, most = np.inf, -np.inf
            for i in range(first, end):
                middle = float(low[order[i], k]) + float(high[order[i], k])
                least = min(least, middle)
                most = max(most, middle)
            if most - least > width:
                axis, lowest, width = k, least, most - least
        if width <= 1e-9 or depth + 2 > len(stack):
            continue
        scale = BINS * (1.0 - 1e-9) / width
        bin_low.fill(np.inf)
        bin_high.fill(-np.inf)
        bin_count.fill(0)
        for i in range(first, end):
            t = order[i]
            b = int((float(low[t, axis]) + float(high[t, axis]) - lowest) * scale)
            bin_count[b] += 1
            for k in range(3):
                bin_low[b, k] = min(bin_low[b, k], low[t, k])
                bin_high[b, k] = max(bin_high[b, k], high[t, k])
        cut = _best_cut(bin_low, bin_high, bin_count, right_area)
        left = first
        for i in range(first, end):
            t = order[i]
            b = int((float(low[t, axis]) + float(high[t, axis]) - lowest) * scale)
            if b <= cut:
                order[i] = order[left]
                order[left] = t
                left += 1
        links[node, 0] = count
        links[node, 1] = 0
        stack[depth, 0], stack[depth, 1], stack[depth, 2] = count, first, left
        stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = count + 1, left, end
        depth += 2
        count += 2
    return count


@inner_kernel
def _best_cut(bin_low: Floats, bin_high: Floats, bin_count: NDArray[np.int64], right_area: Floats) -> int:
    """The bin after which a cut makes the expected work least: area times triangles of both sides, neither empty."""
    low = np.full(3, np.inf)
    high = np.full(3, -np.inf)
    for b in range(BINS - 1, 0, -1):
        for k in range(3):
            low[k] = min(low[k], bin_low[b, k])
            high[k] = max(high[k], bin_high[b, k])
        right_area[b] = _area(low, high)
    low.fill(np.inf)
    high.fill(-np.inf)
    total, so_far = bin_count.sum(), 0
    best, cut = np.inf, 0
    for b in range(BINS - 1):
        so_far += bin_count[b]
        for k in range(3):
            low[k] = min(low[k], bin_low[b, k])
            high[k] = max(high[k], bin_high[b, k])
        if so_far == 0 or so_far == total:
            continue
        work = _area(low, high) * so_far + right_area[b + 1] * (total - so_far)
        if work < best:
            best, cut = work, b
    return cut


@inner_kernel
def _area(low: Floats, high: Floats) -> float:
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    half_area: float = x * y + y * z + z * x
    return half_area
