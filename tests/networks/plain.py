"""Networks that are written in plain torch everywhere: recurrent, graph, generating, dense."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.subjects import CLASSES, Subject, labels, pictures, squared, token_ids


class Recurrent(nn.Module):
    """A sentence classifier: embedding, recurrent layers, linear head."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.rnn = kind(12, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(20, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(ids))[0].mean(1))


class SentenceEncoder(nn.Module):
    """`nn.TransformerEncoder` with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        with warnings.catch_warnings():  # of nested tensors
            warnings.simplefilter("ignore")
            self.encoder = nn.TransformerEncoder(layer, 2)
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.encoder(self.embed(ids), src_key_padding_mask=ids > 40)
        return self.head(hidden.mean(1))


class Translator(nn.Module):
    """`nn.Transformer`, encoder and decoder, with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.body = nn.Transformer(16, 4, 1, 1, 32, batch_first=True)
        self.embed, self.head = nn.Embedding(50, 16), nn.Linear(16, CLASSES)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal = torch.full((target.shape[1],) * 2, float("-inf")).triu(1).to(self.embed.weight)
        hidden = self.body(self.embed(source), self.embed(target), tgt_mask=causal)
        return self.head(hidden.mean(1))


class TextCnn(nn.Module):
    """Convolutions of several widths over word vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.convs = nn.ModuleList(nn.Conv1d(12, 8, k) for k in (2, 3, 4))
        self.head = nn.Linear(24, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        words = self.embed(ids).transpose(1, 2)
        found = [conv(words).relu().amax(2) for conv in self.convs]
        return self.head(torch.cat(found, 1))


class GraphNetwork(nn.Module):
    """Two graph convolutions on batches of small graphs: node features and adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        mixing = adjacency / adjacency.sum(-1, keepdim=True)
        hidden = (mixing @ self.one(nodes)).relu()
        return self.head((mixing @ self.two(hidden)).relu().mean(1))


class UNet(nn.Module):
    """Down, up by transposed convolutions, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.deep = _double(3, 8), _double(8, 16), _double(16, 24)
        self.up2, self.up1 = nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1, self.out = _double(32, 16), _double(16, 8), nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        deep = self.deep(F.max_pool2d(second, 2))
        x = self.join2(torch.cat([self.up2(deep), second], 1))
        return self.out(self.join1(torch.cat([self.up1(x), first], 1)))


def _double(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def generator() -> nn.Module:
    """The generator of DCGAN."""

    def up(inputs: int, outputs: int, *options: int) -> list[nn.Module]:
        conv = nn.ConvTranspose2d(inputs, outputs, 4, *options, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        nn.Unflatten(1, (12, 1, 1)),
        *up(12, 16, 1, 0),
        *up(16, 12, 2, 1),
        *up(12, 8, 2, 1),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def discriminator() -> nn.Module:
    """The discriminator of DCGAN."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 12, 4, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(12, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 1, 4, bias=False),
        nn.Flatten(),
    )


class Diffuser(nn.Module):
    """DiT: blocks whose norms are modulated by the time step, zero-initialised."""

    def __init__(self, width: int = 24, blocks: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(blocks))
        self.out = nn.Linear(width, 48)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = t[:, None] * torch.arange(1, 5, dtype=t.dtype, device=t.device)
        when = self.time(torch.cat([waves.sin(), waves.cos()], 1))
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            tokens = block(tokens, when)
        return F.pixel_shuffle(self.out(tokens).transpose(1, 2).unflatten(2, (4, 4)), 4)


class ModulatedBlock(nn.Module):
    """Attention and an MLP, shifted, scaled and gated by a condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition))[
            :, None
        ].chunk(6, 2)
        q, k, v = (
            self.qkv(self.norm1(x) * (1 + scale1) + shift1)
            .unflatten(2, (3, 4, -1))
            .permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate1 * self.proj(mixed)
        hidden = F.gelu(self.fc1(self.norm2(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.fc2(hidden)


class Recommender(nn.Module):
    """DLRM: embeddings of categories and dense features, their inner products, an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(20, 8) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(14, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense: Tensor, categories: Tensor) -> Tensor:
        found = [table(categories[:, n]) for n, table in enumerate(self.tables)]
        vectors = torch.stack([self.bottom(dense), *found], 1)
        products = vectors @ vectors.transpose(1, 2)
        rows, columns = torch.triu_indices(4, 4, 1)
        return self.top(torch.cat([vectors[:, 0], products[:, rows, columns]], 1))


class PointNet(nn.Module):
    """Shared layers on points, and a maximum over them."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 24, 1)
        )
        self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.each(points).amax(2))


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates, residuals and skips."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.gates = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**d) for d in range(3))
        self.mixes = nn.ModuleList(nn.Conv1d(width, 2 * width, 1) for _ in range(3))
        self.out = nn.Conv1d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.first(x), []
        for depth, (gate, mix) in enumerate(zip(self.gates, self.mixes, strict=True)):
            value, opening = gate(F.pad(x, (2**depth, 0))).chunk(2, 1)
            stay, skip = mix(value.tanh() * opening.sigmoid()).chunk(2, 1)
            x = x + stay
            skips.append(skip)
        return self.out(sum(skips).relu()).mean(2)


class Siamese(nn.Module):
    """One body for two inputs, a distance and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 16),
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head((self.body(one) - self.body(other)).abs())


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(192, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(32, 16),
        nn.GELU(),
        nn.Linear(16, CLASSES),
    )


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 8, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 3, 2, 1, 1),
    )


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )


def _random(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def _graphs() -> tuple[Tensor, Tensor]:
    nodes = _random(3, 7, 6)()
    links = _random(3, 7, 7)()
    return nodes, ((links + links.transpose(1, 2)) > 0).float() + torch.eye(7)


def _subject(
    name: str, build: Callable[[], nn.Module], inputs: Callable[[], object], quick: bool = False
) -> Subject:
    return Subject(name, "plain torch", build, inputs, labels(), quick=quick)


def _maps() -> Tensor:
    return pictures(16)().mul(9).long().abs().sum(1) % CLASSES


def _real(output: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(output, target)


SUBJECTS = (
    _subject("MLP with batch norm", mlp, pictures(8)),
    _subject("LSTM", lambda: Recurrent(nn.LSTM), token_ids, quick=True),
    _subject("GRU", lambda: Recurrent(nn.GRU), token_ids),
    _subject("nn.TransformerEncoder", SentenceEncoder, token_ids, quick=True),
    _subject("nn.Transformer", Translator, lambda: (token_ids(), token_ids().flip(1))),
    _subject("text CNN", TextCnn, token_ids),
    _subject("graph network", GraphNetwork, _graphs),
    Subject("U-Net", "plain torch", UNet, pictures(16), _maps, quick=True),
    Subject(
        "DCGAN generator",
        "plain torch",
        generator,
        _random(3, 12),
        lambda: pictures(32)().tanh(),
        squared,
    ),
    Subject(
        "DCGAN discriminator",
        "plain torch",
        discriminator,
        pictures(32),
        lambda: torch.tensor([[1.0], [0.0], [1.0]]),
        _real,
    ),
    Subject(
        "DiT",
        "plain torch",
        Diffuser,
        lambda: (pictures(16)(), torch.tensor([0.1, 0.5, 0.9])),
        pictures(16),
        squared,
    ),
    Subject(
        "DLRM",
        "plain torch",
        Recommender,
        lambda: (_random(3, 5)(), token_ids(3, 3, 20)),
        lambda: torch.ones(3, 1),
        _real,
    ),
    _subject("PointNet", PointNet, _random(3, 3, 20)),
    _subject("WaveNet", WaveNet, _random(3, 1, 16)),
    _subject("Siamese network", Siamese, lambda: (pictures(32)(), pictures(32)().flip(0))),
    Subject(
        "convolutional autoencoder", "plain torch", autoencoder, pictures(16), pictures(16), squared
    ),
    _subject("3-d CNN", volumes, _random(3, 3, 4, 8, 8)),
)
