"""LayoutLMv3's encoder stack: the published parameters, fused attention, and position biases with gradients.

transformers looks its 1-D and 2-D position biases up without a gradient (huggingface/transformers#30974), so
that a model trained from scratch keeps random ones. Here the sum of the three biases is made once a forward,
with a gradient, and goes into scaled_dot_product_attention as its mask.

Shapes: B batch, T text tokens and patches, Q the first of these, D hidden, H heads, K head size (D / H),
R distances, C classes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3Intermediate, LayoutLMv3Output

from sap_vision_assets.encoder.blockwise import SharedBias, blockwise_attention
from sap_vision_assets.encoder.config import EncoderConfig

MAX_DISTANCE_NORM1000 = 1000
"""Largest distance between two box edges of one page."""


def distance_buckets(max_distance: int, *, num_buckets: int, far: int, device: torch.device) -> Tensor:
    """Bucket of every signed distance -max_distance..max_distance, int64, shape [2 * max_distance + 1].

    Half of the buckets are for positive distances; in each half the first half is exact, and the rest grows
    logarithmically up to `far`, beyond which all is one bucket (T5, arXiv 1910.10683, as LayoutLMv3 uses it).
    """
    distance = torch.arange(-max_distance, max_distance + 1, device=device)
    half = num_buckets // 2
    exact = half // 2
    size = distance.abs()
    # The same float32 expression as transformers': a bucket's border must not move by rounding.
    growing = exact + (
        torch.log(size.clamp(min=1).float() / exact) / math.log(far / exact) * (half - exact)
    ).to(torch.long)
    return (distance > 0).long() * half + torch.where(size < exact, size, growing.clamp(max=half - 1))


class BiasedSelfAttention(nn.Module):
    """Multi-head self-attention whose scores get one additive bias. Keys as LayoutLMv3SelfAttention's."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = int(config.num_attention_heads)
        self.dropout_p = float(config.attention_probs_dropout_prob)
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_BTD: Tensor, bias: Tensor | SharedBias, num_queries: int) -> Tensor:
        """Context of the first `num_queries` tokens, [B, Q, D]."""
        query_HBQK, key_HBTK, value_HBTK = (
            project(inputs).unflatten(-1, (self.num_heads, -1)).permute(2, 0, 1, 3)
            for project, inputs in (
                (self.query, hidden_BTD[:, :num_queries]),
                (self.key, hidden_BTD),
                (self.value, hidden_BTD),
            )
        )
        context_HBQK = attend(
            query_HBQK,
            key_HBTK,
            value_HBTK,
            bias,
            dropout_p=self.dropout_p if self.training else 0.0,
        )
        return context_HBQK.permute(1, 2, 0, 3).flatten(2)


def attend(
    query_HBQK: Tensor, key_HBTK: Tensor, value_HBTK: Tensor, bias: Tensor | SharedBias, *, dropout_p: float
) -> Tensor:
    """softmax(Q K^T / sqrt(K) + bias) V of the first Q tokens; a bias that is a tensor is [H, B, T, T]."""
    if isinstance(bias, Tensor):
        bias_HBQT = bias[:, :, : query_HBQK.shape[2]].to(query_HBQK.dtype)
        return functional.scaled_dot_product_attention(
            query_HBQK, key_HBTK, value_HBTK, attn_mask=bias_HBQT, dropout_p=dropout_p
        )
    query_NQK, key_NTK, value_NTK = (item.flatten(0, 1) for item in (query_HBQK, key_HBTK, value_HBTK))
    context_NQK = blockwise_attention(query_NQK, key_NTK, value_NTK, bias, dropout_p=dropout_p)
    context_HBQK: Tensor = context_NQK.unflatten(0, query_HBQK.shape[:2])
    return context_HBQK


def for_layers(bias_HBTT: Tensor) -> Tensor | SharedBias:
    """The bias as `attend` should get it from all layers: shared where it learns on a CPU, for which
    scaled_dot_product_attention has no fused kernel."""
    if bias_HBTT.device.type == "cpu" and bias_HBTT.requires_grad:
        return SharedBias(bias_HBTT.flatten(0, 1))
    return bias_HBTT


class _AttentionOutput(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, context_BTD: Tensor, residual_BTD: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(context_BTD)) + residual_BTD)
        return normed


class _Attention(nn.Module):
    # The attribute names are those of the published state dict: attention.self.query.weight and so on.
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self = BiasedSelfAttention(config)
        self.output = _AttentionOutput(config)

    def forward(self, hidden_BTD: Tensor, bias: Tensor | SharedBias, num_queries: int) -> Tensor:
        context_BQD = self.self(hidden_BTD, bias, num_queries)
        attended: Tensor = self.output(context_BQD, hidden_BTD[:, :num_queries])
        return attended


class EncoderLayer(GradientCheckpointingLayer):
    """Attention and feed-forward of the first `num_queries`, each with residual and LayerNorm after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = LayoutLMv3Intermediate(config)
        self.output = LayoutLMv3Output(config)

    def forward(self, hidden_BTD: Tensor, bias: Tensor | SharedBias, num_queries: int) -> Tensor:
        attended_BQD = self.attention(hidden_BTD, bias, num_queries)
        fed: Tensor = self.output(self.intermediate(attended_BQD), attended_BQD)
        return fed


class BiasedEncoder(nn.Module):
    """All layers and the three bias tables; state-dict keys are those of LayoutLMv3Encoder."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        heads = int(config.num_attention_heads)
        self.layer = nn.ModuleList([EncoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.rel_pos_bias = nn.Linear(config.rel_pos_bins, heads, bias=False)
        self.rel_pos_x_bias = nn.Linear(config.rel_2d_pos_bins, heads, bias=False)
        self.rel_pos_y_bias = nn.Linear(config.rel_2d_pos_bins, heads, bias=False)

    def forward(
        self,
        hidden_BTD: Tensor,
        position_T: Tensor,
        bbox_BT4: Tensor,
        attention_mask_BT: Tensor,
        num_outputs: int,
    ) -> Tensor:
        """States of the first `num_outputs` tokens, [B, Q, D]; the last layer leaves the others out.

        `attention_mask_BT` is True (or 1) where a token is real.
        """
        bias_HBTT = self.attention_bias(position_T, bbox_BT4, attention_mask_BT, dtype=hidden_BTD.dtype)
        if torch.is_autocast_enabled(hidden_BTD.device.type):
            bias_HBTT = bias_HBTT.to(torch.get_autocast_dtype(hidden_BTD.device.type))
        bias = for_layers(bias_HBTT)
        *layers, last = self.layer
        for layer in layers:
            hidden_BTD = layer(hidden_BTD, bias, hidden_BTD.shape[1])
        outputs_BQD: Tensor = last(hidden_BTD, bias, num_outputs)
        return outputs_BQD

    def attention_bias(
        self, position_T: Tensor, bbox_BT4: Tensor, attention_mask_BT: Tensor, *, dtype: torch.dtype
    ) -> Tensor:
        """(1-D + x + y bias) / sqrt(K), and the dtype's minimum where a key is padding. [H, B, T, T]."""
        config = self.config
        far = int(config.max_rel_2d_pos)
        scale = math.sqrt(config.hidden_size / config.num_attention_heads)
        # A key's padding goes in by its distance in x: a mask would be one more tensor of all layers' size.
        padding_B1T = ~attention_mask_BT.bool()[:, None, :]
        # LayoutLMv3 measures x between left edges and y between lower edges.
        bias_HBTT = _lookup(
            self.rel_pos_x_bias,
            bbox_BT4[..., 0],
            MAX_DISTANCE_NORM1000,
            far=far,
            scale=scale,
            masked=(padding_B1T, torch.finfo(dtype).min),
        )
        y_HBTT = _lookup(self.rel_pos_y_bias, bbox_BT4[..., 3], MAX_DISTANCE_NORM1000, far=far, scale=scale)
        one_d_HTT = _lookup(
            self.rel_pos_bias,
            position_T,
            int(config.max_position_embeddings),
            far=int(config.max_rel_pos),
            scale=scale,
        )
        # In place: each of these is as large as all scores of a layer.
        return bias_HBTT.add_(y_HBTT).add_(one_d_HTT[:, None])


def _lookup(
    table: nn.Linear,
    coordinate: Tensor,
    max_distance: int,
    *,
    far: int,
    scale: float,
    masked: tuple[Tensor, float] | None = None,
) -> Tensor:
    """The table's bias, divided by `scale`, for the distance from each query (row) to each key (column).

    `coordinate` is [..., T], the bias [H, ..., T, T]. `masked`: where, as it broadcasts to [..., T, T], and
    the bias there.

    One index_select over [H, R], R one entry a distance; indices stay int64, for which the backward's
    index_add_ is 28 times faster on a CPU than for int32 (docs/performance.md).
    """
    buckets_R = distance_buckets(
        max_distance, num_buckets=table.in_features, far=far, device=coordinate.device
    )
    bias_HR = table.weight.index_select(1, buckets_R) / scale
    distance = coordinate[..., None, :].long() - coordinate[..., :, None].long() + max_distance
    if masked is not None:
        where, value = masked
        bias_HR = functional.pad(bias_HR, (0, 1), value=value)
        distance = distance.masked_fill(where, 2 * max_distance + 1)
    flat_HN = bias_HR.index_select(1, distance.flatten())
    # Were it a view, autograd would copy the whole gradient for every change of it in place.
    bias: Tensor = torch.ops.aten._unsafe_view(flat_HN, (len(bias_HR), *distance.shape))
    return bias


def start_local(encoder: BiasedEncoder) -> None:
    """Sets the position biases of a new encoder so that its heads begin by looking where captions stand.

    With random biases a new encoder spreads each head over the whole page, and its tables, which are divided
    by sqrt(K), have far to go: in minutes it never learns to read a value's caption (docs/performance.md).
    The first three heads start with one place each: the words before, the row to the left, the column above.
    The others stay open, and all of it remains trainable.
    """
    config = encoder.config
    scale = math.sqrt(config.hidden_size / config.num_attention_heads)
    tables = (
        (encoder.rel_pos_bias, int(config.max_position_embeddings), int(config.max_rel_pos), 0),
        (encoder.rel_pos_x_bias, MAX_DISTANCE_NORM1000, int(config.max_rel_2d_pos), 1),
        (encoder.rel_pos_y_bias, MAX_DISTANCE_NORM1000, int(config.max_rel_2d_pos), 2),
    )
    with torch.no_grad():
        for table, max_distance, far, place in tables:
            distance = torch.arange(-max_distance, max_distance + 1)
            buckets = distance_buckets(
                max_distance, num_buckets=table.in_features, far=far, device=torch.device("cpu")
            )
            members = torch.bincount(buckets, minlength=table.in_features).clamp(min=1)
            for head, shapes in zip(range(table.out_features), _FIRST_LOOKS, strict=False):
                logit = shapes[place](distance.float().clamp(-far, far))
                table.weight[head] = torch.bincount(buckets, logit, table.in_features) / members * scale


def _nowhere(distance: Tensor) -> Tensor:
    return torch.zeros_like(distance)


def _within(reach: float) -> Callable[[Tensor], Tensor]:
    return lambda distance: -(distance.abs() / reach).clamp(max=4)


def _before(reach: float) -> Callable[[Tensor], Tensor]:
    return lambda distance: torch.where(distance < 0, -(distance.abs() / reach).clamp(max=4), -4.0)


def _after(reach: float) -> Callable[[Tensor], Tensor]:
    return lambda distance: _before(reach)(-distance)


# Logits by signed distance, key minus query: in tokens, in x and in y (norm1000).
_FIRST_LOOKS: tuple[tuple[Callable[[Tensor], Tensor], ...], ...] = (
    (_before(2), _nowhere, _nowhere),
    (_nowhere, _before(150), _within(4)),
    (_nowhere, _within(20), _before(75)),
)
