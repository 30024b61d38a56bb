"""Two engines as programs, for the benchmark: `whole` is the engine stage over a TimedStep, `bare` only sends messages.

python -m bench.engine_host.stage whole --bundle FOLDER --port 0 ...    # options of services.engine
python -m bench.engine_host.stage bare FRAMES                           # of a message
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace

import grpc
from csm.engine.v1 import engine_pb2_grpc

from bench.engine_host.timed_step import TimedStep
from bench.gateway.stand_ins import LiveEngine
from csm_bundle.bundle import open_bundle
from csm_engine.loop.engine import Engine
from csm_engine.model.tokenizer import TextTokenizer
from services.common.settings import load_settings
from services.engine.load import LoadedEngine, load_engine
from services.engine.settings import EngineSettings
from services.engine.stage import start_engine


def without_work(settings: EngineSettings, on_lexicon_reload: Callable[[bool], None]) -> LoadedEngine:
    """The engine of the settings' bundle, with steps that only take time."""
    loaded = load_engine(settings, on_lexicon_reload)
    config = loaded.model_config
    tokenizer = TextTokenizer(open_bundle(settings.bundle).path("tokenizer"), config.text_vocab_size)
    return replace(loaded, engine=Engine(TimedStep(config, settings.total_slots), tokenizer, settings))


async def whole() -> None:
    stage = await start_engine(load_settings(EngineSettings, sys.argv[2:]), load=without_work)
    print(stage.server.port, flush=True)
    await asyncio.Event().wait()


async def bare(frames: int) -> None:
    """A plain server of grpc.aio, whose only method sends frames when they are due."""
    server = grpc.aio.server()
    engine_pb2_grpc.add_EngineServiceServicer_to_server(LiveEngine(frames), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(whole() if sys.argv[1] == "whole" else bare(int(sys.argv[2])))
