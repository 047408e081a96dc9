"""The networks of the hyper-representation: transformers from tokens to a latent vector and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from zoobench.estimators.tokens import WeightTokens


class TokenEncoder(nn.Module):
    """Weights to a latent vector, by way of tokens.

    Parameters
    ----------
    tokens : WeightTokens
        How weight vectors are cut into tokens.
    d_model : int
        Width of the transformer.
    n_blocks, n_heads, d_ff : int
        Number of blocks, heads of each, and width of its feed-forward layer.
    latent_dim : int
        Length of the latent vector.
    compression : {"token", "concat"}
        What the latent vector is a linear map of: a learned token in front, or all tokens.
    """

    order: torch.Tensor

    def __init__(
        self,
        tokens: WeightTokens,
        *,
        d_model: int,
        n_blocks: int,
        n_heads: int,
        d_ff: int,
        latent_dim: int,
        compression: str,
    ) -> None:
        super().__init__()
        self.shapes = tokens.shapes
        self.register_buffer("order", torch.from_numpy(tokens.order), persistent=False)
        self.embeddings = nn.ModuleList(nn.Linear(size, d_model) for _, size in tokens.shapes)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens.n_tokens, d_model))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, d_model)) if compression == "token" else None
        self.blocks = blocks(n_blocks, d_model, n_heads, d_ff)
        self.norm = nn.LayerNorm(d_model)
        self.latent = nn.Linear(d_model if compression == "token" else tokens.n_tokens * d_model, latent_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Latent vectors (n, latent_dim), each number between -1 and 1, of weight vectors (n, n_weights)."""
        parts = x[:, self.order].split([n * size for n, size in self.shapes], dim=1)
        embedded = zip(parts, self.shapes, self.embeddings, strict=True)
        hidden = torch.cat([embed(part.reshape(len(x), *shape)) for part, shape, embed in embedded], dim=1)
        hidden = hidden + self.positions
        if self.token is not None:
            hidden = torch.cat([self.token.expand(len(x), -1, -1), hidden], dim=1)
        hidden = self.norm(self.blocks(hidden))
        hidden = hidden.flatten(1) if self.token is None else hidden[:, 0]
        return torch.tanh(self.latent(hidden))


class TokenDecoder(nn.Module):
    """A latent vector to weights: the encoder's mirror image.

    Parameters
    ----------
    tokens, d_model, n_blocks, n_heads, d_ff, latent_dim
        See :class:`TokenEncoder`.
    """

    places: torch.Tensor

    def __init__(
        self,
        tokens: WeightTokens,
        *,
        d_model: int,
        n_blocks: int,
        n_heads: int,
        d_ff: int,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.counts = [n for n, _ in tokens.shapes]
        self.register_buffer("places", torch.from_numpy(np.argsort(tokens.order)), persistent=False)
        self.latent = nn.Linear(latent_dim, tokens.n_tokens * d_model)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens.n_tokens, d_model))
        self.blocks = blocks(n_blocks, d_model, n_heads, d_ff)
        self.norm = nn.LayerNorm(d_model)
        self.outputs = nn.ModuleList(nn.Linear(d_model, size) for _, size in tokens.shapes)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Weight vectors (n, n_weights) of latent vectors (n, latent_dim)."""
        hidden = self.latent(z).view(len(z), *self.positions.shape) + self.positions
        hidden = self.norm(self.blocks(hidden))
        parts = zip(hidden.split(self.counts, dim=1), self.outputs, strict=True)
        return torch.cat([output(part).flatten(1) for part, output in parts], dim=1)[:, self.places]


def blocks(n_blocks: int, d_model: int, n_heads: int, d_ff: int) -> nn.Sequential:
    """Pre-norm transformer blocks, each with initial weights of its own."""
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                d_model, n_heads, d_ff, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(n_blocks)
        )
    )
