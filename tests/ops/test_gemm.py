"""Batches of matrix products in every memory layout that callers use."""

from __future__ import annotations

import pytest
import torch

from sgxl_t.ops.conv import gemm


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("library", ["both", "bmm only"])
def test_products_of_views(dtype: torch.dtype, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "bmm only":
        monkeypatch.setattr(gemm, "_onednn", lambda: False)
    a, b = torch.randn(3, 5, 7, dtype=dtype), torch.randn(3, 9, 7, dtype=dtype)
    turned = b.transpose(1, 2).contiguous().transpose(1, 2)
    for left in (a, a.transpose(1, 2).contiguous().transpose(1, 2), a[:, 1:4]):
        for right in (b, turned, b[:, 2:6], turned[:, 2:6]):
            y = gemm.products(left, right)
            assert y.is_contiguous()
            torch.testing.assert_close(y, torch.einsum("btk,bnk->btn", left, right))


def test_products_without_rows() -> None:
    assert gemm.products(torch.empty(3, 0, 7), torch.ones(3, 9, 7)).shape == (3, 0, 9)
