"""A metric of one's own: how far the means of real and generated features are apart."""

from __future__ import annotations

from torch import Tensor

from sgxl_t.cli.main import main
from sgxl_t.metrics.protocol import register_metric


@register_metric("mean_gap", extractor="random:small_cnn", output="pooled")
def mean_gap(real: Tensor, generated: Tensor) -> float:
    """real, generated: float32 [N, D] of the extractor; any that `fd_NAME` takes will do."""
    return float((real.double().mean(0) - generated.double().mean(0)).norm())


if __name__ == "__main__":
    main()
