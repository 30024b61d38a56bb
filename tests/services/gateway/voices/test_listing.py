"""The pages of ListVoices: voices of the model, of the folder and of the database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from csm.engine.v1 import engine_pb2
from csm.v1 import tts_pb2, voices_pb2

from services.gateway.voices.listing import listed_model
from services.gateway.voices.place import Place
from services.gateway.voices.voice import Audience
from tests.services.gateway.voices.callers import Caller, calling, deployment_with_tokens
from tests.services.gateway.voices.test_files import write_voice
from tests.services.gateway.voices.test_store import VOICE

KEPT = ["0", "100", "Zed", "ada", "b-2", "c", "x"]  # `ada` is hidden by the model's
FOLDER = ["B", "a1", "carol", "z"]
LISTED = ["ada", "bo", "0", "100", "B", "Zed", "a1", "b-2", "c", "carol", "x", "z"]


async def pages(caller: Caller, size: int, language_code: str = "") -> list[list[str]]:
    found, token = list[list[str]](), ""
    while not found or token:
        asked = tts_pb2.ListVoicesRequest(page_size=size, page_token=token, language_code=language_code)
        answer = await caller.tts.ListVoices(asked, metadata=caller.metadata)
        found.append([voice.name for voice in answer.voices])
        token = answer.next_page_token
    return found


async def test_pages_of_any_size_hold_every_voice_once_and_in_order(database: str, tmp_path: Path) -> None:
    for name in FOLDER:
        write_voice(tmp_path / "voices", name, language_codes=["en"])
    write_voice(tmp_path / "voices", "hidden", callers=["radio"])
    async with (
        deployment_with_tokens(tmp_path, voices_database=database, voices_folder=tmp_path / "voices") as running,
        calling(running, "shop", "radio") as (shop, radio),
    ):
        model, running.engine.info.voices[0].name = running.engine.info.voices[0].name, "other"
        running.gateway._catalogs.forget()
        for number, name in enumerate(KEPT):
            languages = ["de"] if number % 2 else []
            asked = voices_pb2.CreateVoiceRequest(name=name, seed=7, language_codes=languages)
            await shop.voices.CreateVoice(asked, metadata=shop.metadata)
        running.engine.info.voices[0].name = model  # as after an upgrade
        running.gateway._catalogs.forget()
        for size in (1, 2, 3, 11, 12, 100):
            found = await pages(shop, size)
            assert [name for page in found for name in page] == LISTED
            assert all(len(page) == size for page in found[:-1]) and 0 < len(found[-1]) <= size
        english = [["ada", "bo", "0", "B"], ["Zed", "a1", "b-2", "carol"], ["x", "z"]]  # and those of no language
        assert await pages(shop, 4, "en") == english
        assert await pages(radio, 100) == [["ada", "bo", "B", "a1", "carol", "hidden", "z"]]


async def test_a_page_goes_on_where_the_last_one_ended_though_voices_come_and_go(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        await asyncio.gather(*(shop.create(name) for name in ("c", "d", "e")))
        first = await shop.tts.ListVoices(tts_pb2.ListVoicesRequest(page_size=4), metadata=shop.metadata)
        await shop.delete("c")
        await shop.delete("d")
        await shop.create("a")
        asked = tts_pb2.ListVoicesRequest(page_token=first.next_page_token)
        second = await shop.tts.ListVoices(asked, metadata=shop.metadata)
        assert [[voice.name for voice in answer.voices] for answer in (first, second)] == [
            ["ada", "bo", "c", "d"],
            ["e"],
        ]


@pytest.mark.parametrize("place", [Place(), Place(17), Place(after="ada"), Place(after="100")])
def test_a_place_is_read_from_its_token(place: Place) -> None:
    assert Place.of(place.token) == place


@pytest.mark.parametrize("token", ["x", "-1", "\u0663", 5000 * "9", ":", ":a/b", ":" + 65 * "a", ": a"])
def test_a_token_that_no_place_has_is_refused(token: str) -> None:
    assert Place.of(token) is None


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_a_voice_of_the_model_is_listed_with_its_seed(seed: int | None) -> None:
    assert listed_model(engine_pb2.Voice(name="ada", seed=seed)).seed == seed


def test_the_callers_of_a_voice_may_use_it_only_while_its_audience_is_them() -> None:
    for audience, may in ((Audience.OWNER, False), (Audience.CALLERS, True), (Audience.EVERYONE, True)):
        voice = replace(VOICE, audience=audience, callers=("radio",))
        assert voice.may_be_used_by("radio") is may and voice.may_be_used_by(VOICE.owner)
