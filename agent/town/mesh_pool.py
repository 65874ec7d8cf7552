"""All actor meshes in use, joined into one set of arrays that one kernel call can place from."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from roadworthy.agent.town.actors import actor_mesh
from roadworthy.agent.town.mesh import Mesh

MeshKey = tuple[str, float, float, float, int]  # base type, length, width, height [m], phase: the arguments of `actor_mesh`


@dataclass
class MeshPool:
    """Meshes by key; `number(key)` adds a new one."""

    _numbers: dict[MeshKey, int] = field(default_factory=dict)
    _meshes: list[Mesh] = field(default_factory=list)
    _stale: bool = True
    spans: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 4), np.int32))  # vertices and faces of each mesh
    vertices: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    normals: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    uv: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    colours: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    faces: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    surface: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 4), np.int32))
    tint: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))  # which actor colour a vertex takes
    radii: list[float] = field(default_factory=list)  # [m] of a ball round each mesh's origin

    def number(self, key: MeshKey) -> int:
        """The place of a mesh in the pool."""
        known = self._numbers.get(key)
        if known is not None:
            return known
        mesh = actor_mesh(*key)
        self._numbers[key] = len(self._meshes)
        self._meshes.append(mesh)
        self.radii.append(float(np.linalg.norm(mesh.vertices, axis=1).max()))
        self._stale = True
        return len(self._meshes) - 1

    def refresh(self) -> None:
        """Join the arrays again after new meshes came in."""
        if not self._stale or not self._meshes:
            return
        vertex_counts = np.cumsum([0] + [len(m.vertices) for m in self._meshes])
        face_counts = np.cumsum([0] + [len(m.faces) for m in self._meshes])
        self.spans = np.stack([vertex_counts[:-1], vertex_counts[1:], face_counts[:-1], face_counts[1:]], 1).astype(np.int32)
        self.vertices = np.concatenate([m.vertices for m in self._meshes])
        self.normals = np.concatenate([m.normals for m in self._meshes])
        self.uv = np.concatenate([m.uv for m in self._meshes])
        self.colours = np.concatenate([m.colours for m in self._meshes])
        self.faces = np.concatenate([m.faces + v for m, v in zip(self._meshes, vertex_counts, strict=False)])
        self.surface = np.concatenate([m.surface for m in self._meshes])
        self.tint = np.zeros(len(self.vertices), np.uint8)
        self.tint[self.faces] = self.surface[:, 2:3]
        self._stale = False
