"""A weighted sum of objectives: "cross-entropy + 0.5*wasserstein"."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from roadworthy.runtime.errors import BadInput
from roadworthy.train.models.prediction import Prediction
from roadworthy.train.objectives.objective import Batch, Objective


class WeightedSum(Objective):
    """Minimise several objectives at once, of which at most one has a critic (that one keeps its schedule)."""

    def __init__(self, parts: Sequence[tuple[float, Objective]]) -> None:
        players = [part for _, part in parts if part.critic is not None]
        if len(players) > 1:
            raise BadInput("an objective can have one critic; leave one of the adversarial terms out of the sum")
        self.parts = tuple(parts)
        self.frame_terms = frozenset[str]().union(*(part.frame_terms for _, part in parts))
        self.pseudo_terms = frozenset[str]().union(*(part.pseudo_terms for _, part in parts))
        self.supervised, self.adapts, self.wants_pseudo = (
            any(getattr(part, trait) for _, part in parts) for trait in ("supervised", "adapts", "wants_pseudo")
        )
        self._player = players[0] if players else None
        if self._player is not None:
            self.schedule, self.critic, self.generator = self._player.schedule, self._player.critic, self._player.generator

    def attach(self, segmenter: nn.Module, critic: nn.Module | None, generator: nn.Module | None = None) -> None:
        """Give the networks to every part."""
        super().attach(segmenter, critic, generator)
        for _, part in self.parts:
            mine = part is self._player
            part.attach(segmenter, critic if mine else None, generator if mine else None)

    def terms(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of all parts; terms of one name are added up."""
        return _total([(weight, part.terms(prediction, batch)) for weight, part in self.parts])

    def target_terms(self, source: Prediction, target: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted target terms of the parts that adapt."""
        return _total([(weight, part.target_terms(source, target, batch)) for weight, part in self.parts if part.adapts])

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the critic's terms of the one part that has one."""
        return super().critic_loss(batch) if self._player is None else self._player.critic_loss(batch)

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Return the pictures of all parts."""
        return {name: picture for _, part in self.parts for name, picture in part.pictures(batch).items()}


def _total(weighted: Sequence[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Add up the terms of each name, weighted."""
    total: dict[str, Tensor] = {}
    for weight, terms in weighted:
        for name, loss in terms.items():
            total[name] = total[name] + weight * loss if name in total else weight * loss
    return total
