"""PerplexityReg: a penalty on the perplexity sparsity of activations, to add to a loss."""

from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib.regularizers import Layers, _ActivationPenalty

__all__ = ["PerplexityReg"]


class PerplexityReg(_ActivationPenalty):
    """Sum of strength x perplexity sparsity, 1 - (e^H - 1)/(D - 1), over the layers: it penalises sparsity.

    ```python
    perplexity = PerplexityReg(model, {"conv3": 0.1, "fc1": 0.1})
    with perplexity:
        loss = cross_entropy(model(x), y) + perplexity()
        loss.backward()
    ```

    It is positive, and with a mean over positions at most the sum of the strengths; following it downhill
    makes activations denser. Our reading of arXiv 2104.06153, whose own formula is not in its abstract. Used
    and limited as `SparsityReg`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        *,
        reduction: str = "mean",
        include_bias: bool = True,
        dim: int | None = None,
        compiled: bool = False,
    ) -> None:
        """**Arguments:**

        - `model`, `layers`, `reduction`, `include_bias`, `dim`: as for `VarianceReg`.
        - `compiled`: as for `functional.rfav_entropy`.

        **Raises:** as `VarianceReg`; the forward pass, `ValueError` for a layer with fewer than two channels.
        """
        super().__init__(model, layers, reduction=reduction, include_bias=include_bias, dim=dim)
        self._compiled = compiled

    def _penalty(self, activations: Tensor, dim: int, weight: float) -> Tensor:
        entropy = functional.rfav_entropy(activations, dim, compiled=self._compiled)
        channels = activations.shape[dim]
        if channels < 2:
            raise ValueError(f"perplexity sparsity needs at least 2 channels; axis {dim} has {channels}")
        return weight - entropy.expm1() * (weight / (channels - 1))
