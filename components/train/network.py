"""The network. This file is a fork's to edit: keep the two names and their arguments."""

from collections.abc import Sequence

import torch
from torch import nn


class Network(nn.Module):
    """A perceptron over standardised numbers, missing-value flags and category embeddings.

    Input: float32 [n, columns] as the encoder makes it; a category is its code, a missing number
    is NaN. Output: logits [n, outputs], or standardised values [n, 1] for regression.
    """

    def __init__(
        self,
        categories: Sequence[int],
        mean: torch.Tensor,
        std: torch.Tensor,
        outputs: int,
        hidden: Sequence[int],
        dropout: float,
    ) -> None:
        """`categories` holds for each column the number of its categories, 0 for a number; `mean`
        and `std` are float32 [columns] over the train window."""
        super().__init__()
        numbers = [at for at, count in enumerate(categories) if not count]
        self.coded = [at for at, count in enumerate(categories) if count]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.register_buffer("mean", mean[numbers])
        self.register_buffer("std", std[numbers])
        self.embeddings = nn.ModuleList(
            nn.Embedding(count + 1, min(16, 1 + count // 2)) for count in categories if count
        )
        width = 2 * len(numbers) + sum(item.embedding_dim for item in self.embeddings)
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        numbers = features.index_select(1, self.numbers)
        missing = torch.isnan(numbers)
        scaled = torch.where(missing, torch.zeros_like(numbers), (numbers - self.mean) / self.std)
        parts = [scaled, missing.to(torch.float32)]
        parts += [
            embedding(features[:, at].to(torch.int64))
            for at, embedding in zip(self.coded, self.embeddings, strict=True)
        ]
        return self.layers(torch.cat(parts, 1))


class Head(nn.Module):
    """What is served: the network with its logits turned into the package's `prediction`."""

    def __init__(self, network: nn.Module, task: str, mean: float, std: float) -> None:
        """`mean` and `std` are the label's, for regression."""
        super().__init__()
        self.network, self.task, self.mean, self.std = network, task, mean, std

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out = self.network(features)
        if self.task == "multiclass":
            return torch.softmax(out, 1)
        if self.task == "binary":
            return torch.sigmoid(out[:, 0])
        return out[:, 0] * self.std + self.mean
