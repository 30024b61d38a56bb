"""Trains the network of the letter-to-sound model that reads whole words, and measures both together.

    python -m recipes.english_phonemes.whole_words cmudict.dict csm_text/data/letters.xz csm_text/data/whole-words.xz

The words are those of letters.py, and the same are held out. The n-gram model, which letters.py has made, is only read.
Takes twelve minutes of one core. The same processor and version of torch make the same file again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from csm_text.pronunciation.letters import LetterModel
from csm_text.pronunciation.network import Network as Quantized
from csm_text.pronunciation.whole_words import WholeWordModel
from recipes.english_phonemes.align import Graphone
from recipes.english_phonemes.letters import aligned, report, split
from recipes.english_phonemes.network import Network
from recipes.english_phonemes.quantize import write

EPOCHS = 10
LETTERS = 2048  # in a batch, of words of one length
RATE, WARM_UP = 3e-3, 300  # the learning rate after so many steps; from there it falls in a line to 0
DECAY = 0.01  # of weights, not of biases
NGRAM_WEIGHT = 4  # steps for a step of the n-gram model's costs, which are four times as large: both count the same

Words = tuple[Tensor, Tensor]  # letters and graphones, [length, words]


def train(rows: dict[str, list[Graphone]], graphones: list[Graphone], epochs: int) -> Network:
    torch.manual_seed(1)
    letter_of = torch.tensor([ord(letter) - 96 if letter else 0 for letter, _ in graphones])
    stressed = torch.tensor([int(any("1" in phone for phone in phones)) for _, phones in graphones])
    network = Network(letter_of, stressed)
    matrices = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    biases = [parameter for parameter in network.parameters() if parameter.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    words = _by_length(rows, graphones)
    steps = epochs * sum(-(-letters.shape[1] // _words(letters)) for letters, _ in words)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * max(0.0, 1 - step / steps)
    )
    for epoch in range(1, epochs + 1):
        total, count = 0.0, 0
        for letters, truth in _batches(words):
            loss = F.cross_entropy(network(letters, truth).flatten(0, 1), truth.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * truth.numel()
            count += truth.shape[1]
        print(f"epoch {epoch}: {total / count:.3f} nats a word; {time.process_time():.0f} s", flush=True)
    return network.eval()


def _by_length(rows: dict[str, list[Graphone]], graphones: list[Graphone]) -> list[Words]:
    index = {graphone: place for place, graphone in enumerate(graphones) if graphone[0]}
    of_length: dict[int, list[str]] = {}
    for word in sorted(rows):
        of_length.setdefault(len(word), []).append(word)
    return [
        (
            torch.tensor([[ord(letter) - 96 for letter in word] for word in words]).T.contiguous(),
            torch.tensor([[index[graphone] for graphone in rows[word]] for word in words]).T.contiguous(),
        )
        for _, words in sorted(of_length.items())
    ]


def _batches(words: list[Words]) -> Iterator[Words]:
    """All words once, in a new order."""
    parts = [
        (length, part)
        for length, (letters, _) in enumerate(words)
        for part in torch.randperm(letters.shape[1]).split(_words(letters))
    ]
    for place in torch.randperm(len(parts)).tolist():
        length, part = parts[place]
        letters, truth = words[length]
        yield letters[:, part], truth[:, part]


def _words(letters: Tensor) -> int:
    """How many words of this length a batch holds."""
    return max(1, LETTERS // len(letters))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path)
    parser.add_argument("ngrams", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--ngram-weight", type=int, default=NGRAM_WEIGHT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    words, held_out = split(arguments.dictionary)
    rows, graphones = aligned(words)
    network = train(rows, graphones, arguments.epochs)
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    write(arguments.model, graphones, weights, arguments.ngram_weight)
    print(f"{len(rows)} words; {arguments.model.stat().st_size} bytes")
    report(WholeWordModel(Quantized(arguments.model), LetterModel(arguments.ngrams)), held_out)


if __name__ == "__main__":
    main()
