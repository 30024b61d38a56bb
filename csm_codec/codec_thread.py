"""The thread that drives a codec. Other threads open streams and push codes.

One callback per step delivers the outputs of all streams. Several codecs over the same weights run beside each other,
each in a thread of its own: with many streams they take less time than one whose operations are spread over threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import torch

from csm_bundle.errors import CodecStoppedError
from csm_bundle.runtime.captured import use_own_stream
from csm_bundle.runtime.torch_threads import use_in_this_thread
from csm_bundle.runtime.worker_thread import Fail, WorkerThread
from csm_codec.codec import Codec
from csm_codec.codes import CheckedCodes
from csm_codec.stream import DEFAULTS, DecodeOptions, DecodeStream, Output

Deliver = Callable[[list[Output], float], None]


class CodecThread:
    """Runs `codec.step` whenever there is work.

    deliver: called on the codec's thread with the outputs of one step and the seconds that it took.
    fail: called once on the codec's thread if a step raises; every stream is lost then.
    torch_threads: that torch's operations use in this thread; None leaves torch's number.
    """

    def __init__(
        self, codec: Codec, deliver: Deliver, fail: Fail, name: str = "codec", torch_threads: int | None = None
    ) -> None:
        self._codec, self._deliver = codec, deliver
        self.num_slots = codec.num_slots
        elsewhere = torch.get_num_threads()

        def begin() -> None:
            if torch_threads is not None:
                use_in_this_thread(torch_threads, elsewhere=elsewhere)
            use_own_stream(codec.device)  # so that frames do not wait for an engine's steps, or for recordings

        self.worker = WorkerThread(name, fail, self._step, lambda: 0.0 if codec.has_work else None, begin)

    def start(self) -> None:
        self.worker.start()

    def stop(self) -> None:
        """Ends the loop after the running step and joins the thread. Open streams get no more outputs."""
        self.worker.stop()

    @property
    def num_streams(self) -> int:
        return self._codec.num_streams

    def open(self, options: DecodeOptions = DEFAULTS) -> Future[DecodeStream]:
        """A future of the stream; it fails like `Codec.open`, or with CodecStoppedError.

        If it is cancelled before the thread runs it, no slot is taken.
        """
        return self.worker.call(lambda: self._codec.open(options), CodecStoppedError("The codec has stopped."))

    def push(self, stream: DecodeStream, codes: CheckedCodes) -> None:
        """Queues frames, (frames, codebooks), already checked."""
        self.worker.submit(lambda: self._codec.push(stream, codes))

    def finish(self, stream: DecodeStream) -> None:
        self.worker.submit(lambda: self._codec.finish(stream))

    def cancel(self, stream: DecodeStream) -> None:
        """Frees the slot before the next step. May be called for a stream that has ended."""
        self.worker.submit(lambda: self._codec.cancel(stream))

    def _step(self) -> None:
        started_s = time.perf_counter()
        outputs = self._codec.step()
        if outputs:
            self._deliver(outputs, time.perf_counter() - started_s)
