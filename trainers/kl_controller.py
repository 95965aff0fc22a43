"""How much the divergence from the supervised policy costs: as configured, or steered to a target."""

from collections.abc import Mapping, Sequence

_GAIN = 0.1  # K_beta of the paper
_MOST = 0.2  # an error counts for no more


class KLController:
    """A coefficient for each part of the policy (decisions, contents), steered as Ziegler et al. (2019, 2.2) do.

    Args:
        parts: Their names.
        coefficient: All begin with it.
        target: Divergence of one action in the mean, in nats; None: the coefficients stay.
    """

    def __init__(self, parts: Sequence[str], coefficient: float, target: float | None) -> None:
        self.coefficients = dict.fromkeys(parts, coefficient)
        self.target = target

    def update(self, measured: Mapping[str, float]) -> None:
        """Move the coefficients of the parts that were measured: up where a divergence is above the target."""
        if self.target is None:
            return
        for part, divergence in measured.items():
            error = min(max(divergence / self.target - 1.0, -_MOST), _MOST)
            self.coefficients[part] *= 1.0 + _GAIN * error
