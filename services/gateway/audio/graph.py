"""One FFmpeg filter graph that changes rate, sample format and channels of frames that come in order.

Built here and not by PyAV's AudioResampler, which starts a thread pool for each.
"""

from __future__ import annotations

from av import AudioFrame
from av.error import BlockingIOError, EOFError
from av.filter import Graph

from services.gateway.audio.frames import to_bytes


class ConversionGraph:
    """Frames in, mono samples out."""

    def __init__(
        self, from_hz: int, from_format: str, from_layout: str, to_hz: int, to_format: str, **options: str
    ) -> None:
        """Formats and layouts as FFmpeg names them; options: of libswresample"""
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add(
            "abuffer",
            sample_rate=str(from_hz),
            sample_fmt=from_format,
            channel_layout=from_layout,
            time_base=f"1/{from_hz}",
        )
        convert = self._graph.add("aresample", **options)
        target = self._graph.add("aformat", sample_rates=str(to_hz), sample_fmts=to_format, channel_layouts="mono")
        self._graph.link_nodes(source, convert, target, self._graph.add("abuffersink")).configure()

    def push(self, frame: AudioFrame | None) -> bytes:
        """All samples that are ready. frame: None ends the stream"""
        self._graph.push(frame)
        pieces: list[bytes] = []
        while True:
            try:
                made = self._graph.pull()
            except (BlockingIOError, EOFError):  # it wants more, or has ended
                return b"".join(pieces)
            assert isinstance(made, AudioFrame)
            pieces.append(to_bytes(made))
