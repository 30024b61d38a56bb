"""The network that csm_text/pronunciation/network.py runs, as it is trained: in floats, whole batches at a time.

Layers of gated recurrences read a word in both directions (minimal recurrent units as in Lei et al., "Simple Recurrent
Units for Highly Parallelizable Recurrence", 2018): states stay between -1 and 1, so the trained network becomes one of
whole numbers without further training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csm_text.pronunciation.network import LARGEST

WIDTH, HIDDEN = 192, 256
LAYERS = 3  # above the first one
REACH = 3  # letters on each side that the first layer sees
PAST = 3  # last graphones that the next one depends on
DROPPED = 0.1  # share of activations, in training
LETTERS = 27  # and 0 beyond the word


class Network(nn.Module):
    """letters, graphones: [length of the words, words]; letters from 1 to 26."""

    def __init__(self, letter_of: Tensor, stressed: Tensor) -> None:
        """Of each graphone: its letter, 0 for START and END; 1 where a phone has the first stress."""
        super().__init__()
        count = len(letter_of)
        self.window = nn.ParameterList(
            torch.randn(LETTERS, 3 * WIDTH) * 0.6 / (1 + abs(place)) for place in range(-REACH, REACH + 1)
        )
        self.window_bias = nn.Parameter(_open())
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.past = nn.ParameterList(torch.randn(count, HIDDEN) * 0.3 for _ in range(PAST))
        self.after_stress = nn.Parameter(torch.randn(2, HIDDEN) * 0.3)
        self.out = nn.Linear(HIDDEN, count)
        others = torch.arange(LETTERS)[:, None] != letter_of
        self.register_buffer("others", others.float() * -30.0, persistent=False)  # graphones of other letters
        self.register_buffer("stressed", stressed, persistent=False)

    def forward(self, letters: Tensor, graphones: Tensor) -> Tensor:
        """Logits of each graphone after those before it: [length, words, graphones]."""
        length = len(letters)
        hidden = self.up(self.read(letters))
        for ago, table in enumerate(self.past, 1):
            hidden = hidden + F.embedding(F.pad(graphones, (0, 0, ago, 0))[:length], table)
        stressed = self.stressed[graphones]
        hidden = hidden + F.embedding((stressed.cumsum(0) - stressed).clamp(max=1), self.after_stress)
        logits: Tensor = self.out(self._drop(hidden.clamp(0, LARGEST))) + self.others[letters]
        return logits

    def read(self, letters: Tensor) -> Tensor:
        length = len(letters)
        padded = F.pad(letters, (0, 0, REACH, REACH))
        seen = torch.stack([padded[place : place + length] + LETTERS * place for place in range(2 * REACH + 1)], -1)
        table = torch.cat(list(self.window))
        bag = F.embedding_bag(seen.flatten(0, 1), table, mode="sum").unflatten(0, letters.shape)
        read = _gated(bag + self.window_bias, None)
        for layer in self.layers:
            read = layer(self._drop(read))
        return self._drop(read)

    def _drop(self, activations: Tensor) -> Tensor:
        return F.dropout(activations, DROPPED, self.training)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3 * WIDTH)
        nn.init.uniform_(self.linear.weight, -((3 / WIDTH) ** 0.5), (3 / WIDTH) ** 0.5)
        with torch.no_grad():
            self.linear.bias.copy_(_open())

    def forward(self, read: Tensor) -> Tensor:
        return _gated(self.linear(read), read)


def _open() -> Tensor:
    """A bias with which states are kept rather than replaced, to begin with."""
    bias = torch.zeros(3, WIDTH)
    bias[1] = 1.0
    return bias.flatten()


def _gated(linear: Tensor, read: Tensor | None) -> Tensor:
    result: Tensor = _Gated.apply(linear, torch.zeros(()) if read is None else read)
    return result


class _Gated(torch.autograd.Function):
    """A layer's states from its linear part: new values, how much of a state is kept, how much of it goes through.

    Written by hand, backward too: half the time of the same in single operations.
    """

    @staticmethod
    def forward(context: Any, linear: Tensor, read: Tensor) -> Tensor:
        new = torch.tanh(linear[..., :WIDTH])
        gates = torch.sigmoid(linear[..., WIDTH:])
        kept, through = gates.split(WIDTH, -1)
        states = torch.empty_like(new)
        for value, keep, state in _directions(new, kept, states):
            last = torch.zeros_like(value[0])
            for index in range(len(value)):
                last = torch.lerp(value[index], last, keep[index], out=state[index])
        context.save_for_backward(new, gates, states, read)
        return torch.lerp(read, states, through) if read.ndim else states * through

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        (gradient,) = gradients
        new, gates, states, read = context.saved_tensors
        kept, through = gates.split(WIDTH, -1)
        result = new.new_empty(*new.shape[:-1], 3 * WIDTH)
        of_new, of_kept, of_through = result.split(WIDTH, -1)
        torch.mul(gradient, states - read if read.ndim else states, out=of_through)
        of_states = gradient * through
        for keep, of_state, state, value, of_keep in _directions(kept, of_states, states, new, of_kept):
            for index in range(len(value) - 1, -1, -1):
                if index + 1 < len(value):
                    of_state[index].addcmul_(of_state[index + 1], keep[index + 1])
                change = state[index - 1] - value[index] if index else -value[index]
                torch.mul(of_state[index], change, out=of_keep[index])
        torch.mul(of_states, (1 - kept) * (1 - new * new), out=of_new)
        result[..., WIDTH:] *= gates * (1 - gates)
        return result, gradient * (1 - through) if read.ndim else None


def _directions(*tensors: Tensor) -> Iterator[list[list[Tensor]]]:
    """Letter by letter, views of the half that is read forwards; then of the other half, from the word's end."""
    half = WIDTH // 2
    yield [list(tensor[..., :half].unbind()) for tensor in tensors]
    yield [list(tensor[..., half:].unbind())[::-1] for tensor in tensors]
