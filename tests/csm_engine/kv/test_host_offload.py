"""Keys and values in host memory, in pages as with a GPU."""

from __future__ import annotations

import pytest
import torch

from csm_engine.kv.cache import SlotKVCache
from csm_engine.kv.host_offload import OffloadedKV
from csm_engine.kv.offload_index import Page
from tests.support.tiny.csm import TINY

PAGE = Page(4, 4096)
SLOTS = 3


def filled_cache() -> SlotKVCache:
    cache = SlotKVCache(TINY.backbone, SLOTS, device=torch.device("cpu"), dtype=torch.float32)
    for layer in cache.layers:
        layer.keys.normal_()
        layer.values.normal_()
    return cache


@pytest.mark.parametrize("length", [1, 4, 7, 8, 9])
def test_any_prefix_of_an_entry_is_restored_and_nothing_after_it_changes(length: int) -> None:
    cache, offloaded = filled_cache(), OffloadedKV(filled_cache(), PAGE)
    offloaded = OffloadedKV(cache, PAGE)
    offloaded.save(0, 1, 9)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    offloaded.restore(0, 2, length)
    for layer, kept in zip(cache.layers, before, strict=True):
        for now, then in zip((layer.keys, layer.values), kept, strict=True):
            assert torch.equal(now[2, :length], then[1, :length])
            assert torch.equal(now[2, length:], then[2, length:]) and torch.equal(now[:2], then[:2])


def test_pages_of_dropped_entries_are_reused() -> None:
    offloaded = OffloadedKV(filled_cache(), PAGE)
    made = set[int]()
    for ticket, length in enumerate((9, 4, 12, 1, 8)):
        offloaded.save(ticket, 0, length)
        made |= {part.data_ptr() for part in offloaded._entries[ticket]}
        offloaded.drop([ticket])
    assert len(made) == 3
