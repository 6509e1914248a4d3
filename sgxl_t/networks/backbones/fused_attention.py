"""Self-attention of open_clip's image towers in one product for queries, keys and values, batch first."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class FusedSelfAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` without its turn to sequence first: the same results but for rounding.

    After that turn torch multiplies every place of the sequence by a copy of the weights where these take no
    gradient, which in bfloat16 on a CPU takes several times as long as the whole tower. What is not plain
    self-attention goes the usual way.
    """

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """query, key, value: [N, L, C], one tensor -> [N, L, C], and no weights of attention."""
        masked = any(options.get(name) is not None for name in ("attn_mask", "key_padding_mask"))
        if masked or options.get("need_weights", True) or not (query is key is value):
            return super().forward(query, key, value, **options)
        count, length, width = query.shape
        qkv = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(count, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, length, width)
        return F.linear(mixed, self.out_proj.weight, self.out_proj.bias), None


def fuse_attention(network: nn.Module) -> None:
    """Lets every plain, batch-first `nn.MultiheadAttention` of a frozen network compute fused."""
    for module in network.modules():
        if type(module) is nn.MultiheadAttention and _is_plain(module):
            module.__class__ = FusedSelfAttention


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    extras = attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn
    return attention.batch_first and attention._qkv_same_embed_dim and not extras and attention.dropout == 0
