"""How the bundle's front end and the lexicons change a text before it is tokenized, over real gRPC."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.engine.v1 import engine_pb2, engine_pb2_grpc

from csm_bundle.bundle import open_bundle
from csm_bundle.errors import BundleError
from csm_engine.types import Segment
from csm_text.frontend import FrontEnd, load
from csm_text.lexicon import Entry, Lexicon
from services.engine.load import load_engine
from services.engine.settings import EngineSettings
from services.engine.spoken_text import LexiconFileError, SpokenText
from services.engine.stage import start_engine
from tests.support.engine_stage import collect

MakeBundle = Callable[..., Path]
READ = FrontEnd.phonemize
PREFIX_AND_ENDS = 2 + len("[1]")  # tokens beside those of the text: the tiny tokenizer has one for each byte


@pytest.fixture
def make_bundle(bundle: Path, tmp_path: Path) -> MakeBundle:
    """Makes the tiny bundle with other keys. lexicon: the content of the bundle's own lexicon."""

    def make(lexicon: str = "", **keys: Any) -> Path:
        folder = tmp_path / "bundle"
        shutil.copytree(bundle, folder)
        manifest = json.loads((folder / "bundle.json").read_text()) | keys
        if lexicon:
            (folder / "words.tsv").write_text(lexicon, encoding="utf-8")
            manifest["parts"] = manifest["parts"] | {"lexicon": "words.tsv"}
        (folder / "bundle.json").write_text(json.dumps(manifest))
        return folder

    return make


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    return write(tmp_path / "operator.tsv", "csm\tsee ess em\n")


def write(path: Path, text: str) -> Path:
    """Replaces the file by a new one, as an editor does."""
    path.with_suffix(".new").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".new"), path)
    return path


@asynccontextmanager
async def serving(bundle: Path, lexicon: Path | None = None) -> AsyncIterator[Any]:
    settings = EngineSettings(
        host="127.0.0.1", port=0, health_port=0, metrics_port=0, bundle=str(bundle), slots=2, lexicon=lexicon
    )
    stage = await start_engine(settings.model_copy(update={"drain_seconds": 0.0}))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
            yield engine_pb2_grpc.EngineServiceStub(channel)
    finally:
        await stage.stop()


async def generate(stub: Any, *texts: str, speaker: int = 1) -> tuple[engine_pb2.GenerateStarted, bytes]:
    """Speaks the last text, with the others as context. Returns the first response and the codes."""
    request = engine_pb2.GenerateRequest(
        request_id="r",
        segments=[engine_pb2.Segment(speaker_id=speaker, text=text) for text in texts],
        sampling_params=engine_pb2.SamplingParams(temperature=0.9, top_k=10, seed=5),
        max_frame_count=6,
    )
    responses = await collect(stub, request)
    return responses[0].started, b"".join(r.frames.codes for r in responses if r.HasField("frames"))


async def test_a_text_without_a_final_mark_is_read_like_one_with_a_full_stop(make_bundle: MakeBundle) -> None:
    """The built-in voice omitted "Done" or went on speaking behind it."""
    async with serving(make_bundle(text_frontend="english-phonemes-3")) as stub:
        _, marked = await generate(stub, "Buy this.", "Done.")
        _, unmarked = await generate(stub, "- Buy this", "Done ✅")
    assert unmarked == marked


async def test_without_a_front_end_the_codes_are_those_of_the_spelling(bundle: Path, make_bundle: MakeBundle) -> None:
    text = "Dr. Smith paid $5, csm."
    async with serving(bundle) as stub:
        _, plain = await generate(stub, text)
    folder = make_bundle(text_frontend="")
    async with serving(folder) as stub:
        started, same = await generate(stub, text)
    assert same == plain and started.text_token_count == PREFIX_AND_ENDS + len(text)


async def test_the_tokenizer_reads_the_front_end_s_symbols_of_every_segment(
    bundle: Path, make_bundle: MakeBundle
) -> None:
    """A bundle without a front end gives the same codes when its text is the symbols."""
    texts = ["It's 3:45 pm.", "Hello?"]
    symbols = [load("english-phonemes-1").phonemize(text) for text in texts]
    async with serving(bundle) as stub:
        expected, codes = await generate(stub, *symbols)
    async with serving(make_bundle(text_frontend="english-phonemes-1")) as stub:
        started, same = await generate(stub, *texts)
    assert same == codes
    assert started.prompt_token_count == expected.prompt_token_count
    assert started.text_token_count == PREFIX_AND_ENDS + len(symbols[-1])


async def test_the_front_end_is_part_of_the_weights_identity(bundle: Path, make_bundle: MakeBundle) -> None:
    digests = []
    for folder in (bundle, make_bundle(text_frontend="english-phonemes-1")):
        async with serving(folder) as stub:
            digests.append((await stub.GetModelInfo(engine_pb2.GetModelInfoRequest())).weights_digest)
    assert digests[0] != digests[1]


async def test_a_text_too_long_once_it_is_symbols_is_refused_with_the_numbers(make_bundle: MakeBundle) -> None:
    text = "one hundred " * 20  # 240 characters fit in the window of 512
    async with serving(make_bundle(text_frontend="english-phonemes-1")) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generate(stub, text)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "positions; the model's window is 512" in str(caught.value.details())


async def test_the_operators_lexicon_respells_without_a_front_end(bundle: Path, lexicon: Path) -> None:
    async with serving(bundle) as stub:
        _, said = await generate(stub, "I am see ess em.")
        _, plain = await generate(stub, "I am csm.")
    async with serving(bundle, lexicon) as stub:
        _, respelled = await generate(stub, "I am csm.")
    assert respelled == said != plain


async def test_a_changed_lexicon_is_followed_without_a_restart(
    bundle: Path, lexicon: Path, look_at_files: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(bundle, lexicon) as stub:
        counts = [(await generate(stub, "csm"))[0].text_token_count]
        write(lexicon, "csm\tsesame\n")
        look_at_files()
        counts.append((await generate(stub, "csm"))[0].text_token_count)
        with caplog.at_level(logging.ERROR, "csm.files"):
            write(lexicon, "csm\n")
            look_at_files()
            counts.append((await generate(stub, "csm"))[0].text_token_count)
            look_at_files()
            counts.append((await generate(stub, "csm"))[0].text_token_count)
        lexicon.unlink()
        look_at_files()
        counts.append((await generate(stub, "csm"))[0].text_token_count)
    said = [len(text) for text in ("see ess em", "sesame", "sesame", "sesame", "sesame")]
    assert counts == [PREFIX_AND_ENDS + length for length in said]
    assert [r.getMessage() for r in caplog.records].count(
        f"what was read before stays in use: --lexicon cannot be used: {lexicon}, line 1 has 1 columns; a word, how"
        " it is said and perhaps a voice are needed, parted by tabs."
    ) == 1, "a mistake is logged once"


async def test_a_voice_s_lexicon_applies_to_its_speaker_only(bundle: Path, lexicon: Path) -> None:
    write(lexicon, "data\tdah ta\tanna\n")
    async with serving(bundle, lexicon) as stub:
        own, _ = await generate(stub, "data", speaker=1)
        others, _ = await generate(stub, "data", speaker=0)
    assert (own.text_token_count, others.text_token_count) == (PREFIX_AND_ENDS + 6, PREFIX_AND_ENDS + 4)


def test_the_operators_words_go_before_those_of_the_bundle(make_bundle: MakeBundle, lexicon: Path) -> None:
    bundle = open_bundle(str(make_bundle(lexicon="csm\tsesame\ntts\tspeech\n")))
    assert SpokenText(bundle, lexicon).read(1, "csm tts") == "see ess em speech"
    assert SpokenText(bundle, None).read(1, "csm tts") == "sesame speech"
    write(lexicon, "csm\tsee ess em\ndata\tdah ta\tanna\n")
    assert SpokenText(bundle, lexicon).read(1, "csm tts data") == "see ess em speech dah ta"


def test_each_voice_has_its_own_words(make_bundle: MakeBundle, lexicon: Path) -> None:
    write(lexicon, "csm\tsee ess em\tanna\ncsm\tsesame\tbob\n")
    voices = [{"name": "anna", "speaker": 1}, {"name": "bob", "speaker": 0}]
    spoken = SpokenText(open_bundle(str(make_bundle(voices=voices))), lexicon)
    assert [spoken.read(speaker, "csm") for speaker in (1, 0, 2)] == ["see ess em", "sesame", "csm"]


def test_a_request_is_read_with_the_words_of_the_bundle_alone(make_bundle: MakeBundle) -> None:
    spoken = SpokenText(open_bundle(str(make_bundle(lexicon="csm\tsesame\n"))), None)
    assert spoken.of_a_request()(Segment(1, "csm")) == "sesame"


def test_a_request_is_read_with_one_version_of_the_lexicon(
    bundle: Path, lexicon: Path, look_at_files: Callable[[], None]
) -> None:
    spoken = SpokenText(open_bundle(str(bundle)), lexicon)
    read = spoken.of_a_request()
    assert read(Segment(1, "csm")) == "see ess em"
    write(lexicon, "csm\tsesame\n")
    look_at_files()
    assert read(Segment(1, "csm")) == "see ess em"
    assert spoken.of_a_request()(Segment(1, "csm")) == "sesame"


async def test_context_that_finds_no_room_is_not_read(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading 64 turns of 4,096 letters takes a minute, in which other calls wait."""
    read: list[str] = []

    def phonemize(self: FrontEnd, text: str, lexicon: Any = None) -> str:
        read.append(text)
        return READ(self, text, lexicon)

    turns = [f"Turn {number} of many in a long conversation." for number in range(64)]
    async with serving(make_bundle(text_frontend="english-phonemes-1")) as stub:
        monkeypatch.setattr(FrontEnd, "phonemize", phonemize)
        started, codes = await generate(stub, *turns, "Hello.")
        num_kept = len(turns) - started.dropped_segment_count
        assert 1 < num_kept < 10 and read == ["Hello.", *turns[::-1][: num_kept + 1]]
        assert (await generate(stub, *turns[-num_kept:], "Hello."))[1] == codes


def test_speakers_without_words_of_their_own_share_one_lexicon(
    make_bundle: MakeBundle, lexicon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lexicon of 20,000 entries takes 0.1 s to build, in which requests wait."""
    made: list[Lexicon] = []

    def make(*files: list[Entry], voices: list[str] | tuple[str, ...] = ()) -> Lexicon:
        made.append(Lexicon(*files, voices=voices))
        return made[-1]

    monkeypatch.setattr("services.engine.spoken_text.Lexicon", make)
    voices = [{"name": f"v{number}", "speaker": number} for number in range(100)]
    bundle = open_bundle(str(make_bundle(voices=voices)))
    write(lexicon, "data\tdah ta\tv7\ncsm\tsee\n")
    spoken = SpokenText(bundle, lexicon)
    assert len(made) == 3, "one without a file; two with this file: for v7, and for all others"
    assert [spoken.read(speaker, "csm data") for speaker in (6, 7, 500)] == ["see data", "see dah ta", "see data"]


def test_an_unknown_front_end_is_refused_at_the_start(make_bundle: MakeBundle) -> None:
    settings = EngineSettings(bundle=str(make_bundle(text_frontend="english-phonemes-9")))
    with pytest.raises(BundleError, match='no text front end "english-phonemes-9"; there is english-phonemes-1'):
        load_engine(settings)


def test_a_wrong_lexicon_is_refused_at_the_start(make_bundle: MakeBundle, lexicon: Path, tmp_path: Path) -> None:
    bundle = open_bundle(str(make_bundle()))
    write(lexicon, "csm\t/S IY1/\n")
    with pytest.raises(LexiconFileError, match="--lexicon cannot be used: .*operator.tsv, line 1: .*text front end"):
        SpokenText(bundle, lexicon)
    with pytest.raises(LexiconFileError, match="--lexicon cannot be used: .*nowhere"):
        SpokenText(bundle, tmp_path / "nowhere")


def test_a_bundles_wrong_lexicon_is_refused_at_the_start(make_bundle: MakeBundle) -> None:
    bundle = open_bundle(str(make_bundle(lexicon="csm\tsee\tbob\n")))
    with pytest.raises(BundleError, match='words.tsv, line 1: the voice is "bob"; allowed are anna'):
        SpokenText(bundle, None)


def test_a_bundle_without_front_end_and_lexicon_tokenizes_the_text_as_written(bundle: Path) -> None:
    spoken_text = SpokenText(open_bundle(str(bundle)), None)
    assert spoken_text.changes_nothing and spoken_text.front_end is None
    assert spoken_text.read(0, "Dr. 5") == "Dr. 5"
