"""The progress of a clip that consists of several streams, such as the sentences of a text. No torch.

Each stream is embedded and flushed by itself. Four things carry over to the next one: the position of the STFT frames,
the position in the message, the level so far, and how much of the clip is marked. So a clip has one mark with one phase
and one level. A stream's audio depends only on its codes and this progress, so any replica can make it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from csm_codec.watermark.keys.payload import PERIOD


@dataclass(frozen=True, slots=True)
class ClipProgress:
    """A place in a clip. All fields but the first are totals over the streams so far."""

    position: int = 0  # of the next sample at the networks' rate, from where the first STFT frame is centred
    hops: float = 0.0  # of audio
    square_sum: float = 0.0  # over those hops' frames, of each one's mean square over all bins
    audible_frames: int = 0


START = ClipProgress()


@dataclass(frozen=True, slots=True)
class MarkPoint:
    """A place within a stream from which its mark can be resumed: all state that does not follow from the audio nearby.

    The networks' states and the buffers are not part of it. They are the same again after some frames of audio, because
    convolutions, windows and filters have a finite reach.
    """

    num_samples: int  # of the stream's audio that comes before, at its rate
    level_sum: float  # of the running level before the first STFT frame that follows, and the frames in it
    level_frames: float
    square_sum: float  # of this stream's part of the clip, up to the same frame
    audible_frames: int
    before: ClipProgress  # of the clip, in the streams before this one


class WrongPointError(ValueError):
    """No stream can be resumed at the point; the message says why."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the STFT frames of a stream lie: its first frame is centred `lead` samples before its audio."""

    first_frame: int  # its number in the clip
    lead: int  # samples of silence, at the networks' rate

    def symbols(self, symbols: tuple[int, ...]) -> tuple[int, ...]:
        """Of one period, from the stream's first frame on. symbols: from the clip's first frame on"""
        start = self.first_frame % PERIOD
        return symbols[start:] + symbols[:start]


def grid_at(position: int, hop: int, least_lead: int) -> Grid:
    """The grid of a stream with audio that begins at that position of its clip. least_lead: at most one hop"""
    frame, lead = divmod(position, hop)
    return Grid(frame, lead) if lead >= least_lead else Grid(frame - 1, lead + hop)
