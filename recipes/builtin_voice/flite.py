"""Speech by flite (github.com/festvox/flite), and the tracks that flite's own vocoder makes it from.

The CMU voices of flite are statistical: trees predict a pitch, a mel-cepstrum and five voicing strengths every 5 ms,
and a vocoder turns them into sound. Both are handed out here, and when each phone ends. Needs the packages `flite` and
`libflite1` of Debian; the library is called through ctypes, in the process.

The structures are those of flite's headers cst_track.h, cst_wave.h, cst_utterance.h and cst_voice.h, version 2.2.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_float, c_int, c_short, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

VOICES = ("slt", "rms")  # speaker 0, a woman; speaker 1, a man
SAMPLE_RATE_HZ = 16000
TRACK_SECONDS = 0.005  # between two entries of a track
ALL_PASS = 0.42  # of the voices' mel-cepstra: the warping of a 16 kHz spectrum to about the mel scale
NUM_CEPSTRA = 25
NUM_BANDS = 5  # of the voicing strengths: equal parts of 0 to 8 kHz


@dataclass(frozen=True, slots=True)
class Phone:
    name: str  # as in the CMU dictionary, "pau" for silence
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Word:
    """phones: flite's names, each with the stress of its syllable, "0" or "1": "hh0", "ax0", "l1", "ow1"."""

    phones: tuple[str, ...]
    punctuation: str  # that follows it, if any


@dataclass(frozen=True, slots=True)
class Utterance:
    """The tracks have T entries of TRACK_SECONDS each."""

    pcm: Floats  # mono at SAMPLE_RATE_HZ; empty where only the tracks were asked for
    pitch_hz: Floats  # (T,); 0 where nothing is voiced
    cepstra: Floats  # (T, NUM_CEPSTRA) mel-cepstrum of the spectral envelope, warped by ALL_PASS
    strengths: Floats  # (T, NUM_BANDS) 0..1, how much of each band the pulses make; noise makes the rest
    phones: tuple[Phone, ...]
    words: tuple[Word, ...]


def utter(text: str, voice: str) -> Utterance:
    """Speaks a text. Raises OSError without flite's libraries; ValueError for text that flite cannot speak."""
    flite, handle, database = _flite(), _voice(voice), _database(voice)
    utterance = flite.flite_synth_text(text.encode("ascii", "replace"), handle)
    try:
        features = utterance.contents.features
        means = flite.val_track(flite.feat_val(features, b"param_track"))
        if not means or not means.contents.num_frames:
            raise ValueError(f"flite says nothing for {text!r}")
        smooth = flite.mlpg(means, database)
        try:
            params = _array(smooth)
        finally:
            flite.delete_track(smooth)
        return Utterance(
            pcm=_pcm(flite.utt_wave(utterance)),
            pitch_hz=params[:, 0],
            cepstra=params[:, 1 : 1 + NUM_CEPSTRA],
            strengths=_array(flite.val_track(flite.feat_val(features, b"str_track"))),
            phones=tuple(_phones(flite, utterance)),
            words=tuple(_words(flite, utterance)),
        )
    finally:
        flite.delete_utterance(utterance)


def tracks_of(text: str, voice: str) -> Utterance:
    """Like `utter`, but without sound: flite's vocoder, which takes most of the time, is stopped when it begins."""
    with _no_sound(voice):
        return utter(text, voice)


@contextmanager
def _no_sound(voice: str) -> Iterator[None]:
    """While it lasts, the voice streams its sound to a callback that stops it at once."""
    flite, features = _flite(), ctypes.cast(_voice(voice), POINTER(_Voice)).contents.features
    listener = flite.new_audio_streaming_info()  # becomes the feature's own
    listener.contents.min_buffsize, listener.contents.asc = 1, _stop
    flite.feat_set(features, b"streaming_info", flite.audio_streaming_info_val(listener))
    try:
        yield
    finally:
        flite.feat_remove(features, b"streaming_info")


class _Track(ctypes.Structure):
    _fields_ = [
        ("type", c_char_p),
        ("num_frames", c_int),
        ("num_channels", c_int),
        ("times", POINTER(c_float)),
        ("frames", POINTER(POINTER(c_float))),
    ]


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", c_char_p),
        ("sample_rate", c_int),
        ("num_samples", c_int),
        ("num_channels", c_int),
        ("samples", POINTER(c_short)),
    ]


_Callback = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)


class _Listener(ctypes.Structure):
    """cst_audio_streaming_info of cst_audio.h."""

    _fields_ = [
        ("min_buffsize", c_int),
        ("asc", _Callback),
        ("utterance", c_void_p),
        ("item", c_void_p),
        ("userdata", c_void_p),
    ]


def _stop_streaming(*_: object) -> int:
    return -1  # CST_AUDIO_STREAM_STOP


_stop = _Callback(_stop_streaming)


class _Utterance(ctypes.Structure):
    _fields_ = [("features", c_void_p)]


class _Voice(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("features", c_void_p)]


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "flite_init": (c_int, []),
    "flite_synth_text": (POINTER(_Utterance), [c_char_p, c_void_p]),
    "delete_utterance": (None, [c_void_p]),
    "utt_wave": (POINTER(_Wave), [c_void_p]),
    "feat_val": (c_void_p, [c_void_p, c_char_p]),
    "val_track": (POINTER(_Track), [c_void_p]),
    "val_cg_db": (c_void_p, [c_void_p]),
    "mlpg": (POINTER(_Track), [c_void_p, c_void_p]),
    "delete_track": (None, [c_void_p]),
    "utt_relation": (c_void_p, [c_void_p, c_char_p]),
    "relation_head": (c_void_p, [c_void_p]),
    "item_next": (c_void_p, [c_void_p]),
    "item_feat_string": (c_char_p, [c_void_p, c_char_p]),
    "item_feat_float": (c_float, [c_void_p, c_char_p]),
    "item_feat_present": (c_int, [c_void_p, c_char_p]),
    "item_as": (c_void_p, [c_void_p, c_char_p]),
    "item_daughter": (c_void_p, [c_void_p]),
    "item_parent": (c_void_p, [c_void_p]),
    "feat_set": (None, [c_void_p, c_char_p, c_void_p]),
    "feat_remove": (c_int, [c_void_p, c_char_p]),
    "new_audio_streaming_info": (POINTER(_Listener), []),
    "audio_streaming_info_val": (c_void_p, [POINTER(_Listener)]),
}


@cache
def _flite() -> Any:
    library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    for dependency in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
        ctypes.CDLL(dependency, mode=ctypes.RTLD_GLOBAL)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


@cache
def _voice(name: str) -> c_void_p:
    _flite()
    register = getattr(ctypes.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
    register.restype, register.argtypes = c_void_p, [c_char_p]
    return c_void_p(register(None))


@cache
def _database(voice: str) -> c_void_p:
    flite, handle = _flite(), ctypes.cast(_voice(voice), POINTER(_Voice))
    return c_void_p(flite.val_cg_db(flite.feat_val(handle.contents.features, b"cg_db")))


def _array(track: Any) -> Floats:
    contents = track.contents
    row = contents.num_channels * ctypes.sizeof(c_float)
    data = b"".join(ctypes.string_at(contents.frames[i], row) for i in range(contents.num_frames))
    return np.frombuffer(data, dtype=np.float32).reshape(-1, contents.num_channels)


def _pcm(wave: Any) -> Floats:
    if not wave or not wave.contents.num_samples:
        return np.zeros(0, np.float32)
    samples = np.ctypeslib.as_array(wave.contents.samples, (wave.contents.num_samples,))
    return (samples / np.float32(32768)).astype(np.float32)


def _phones(flite: Any, utterance: Any) -> list[Phone]:
    phones = []
    item = flite.relation_head(flite.utt_relation(utterance, b"Segment"))
    while item:
        name = flite.item_feat_string(item, b"name").decode()
        phones.append(Phone(name, float(flite.item_feat_float(item, b"end"))))
        item = flite.item_next(item)
    return phones


def _words(flite: Any, utterance: Any) -> Iterator[Word]:
    """The words as they are written. What flite splits off, as in "he's", belongs to the word before."""
    words: list[Word] = []
    item = flite.relation_head(flite.utt_relation(utterance, b"Word"))
    while item:
        word = _word(flite, item)
        if words and flite.item_feat_string(item, b"name").startswith(b"'"):
            words[-1] = Word(words[-1].phones + word.phones, word.punctuation)
        else:
            words.append(word)
        item = flite.item_next(item)
    yield from words


def _word(flite: Any, item: Any) -> Word:
    phones = []
    for syllable in _daughters(flite, flite.item_as(item, b"SylStructure")):
        stress = flite.item_feat_string(syllable, b"stress").decode()
        phones += [flite.item_feat_string(phone, b"name").decode() + stress for phone in _daughters(flite, syllable)]
    in_token = flite.item_as(item, b"Token")
    token = flite.item_parent(in_token)
    ends_token = not flite.item_next(in_token) and flite.item_feat_present(token, b"punc")
    punctuation = flite.item_feat_string(token, b"punc") if ends_token else b""
    return Word(tuple(phones), punctuation.decode("ascii", "replace"))


def _daughters(flite: Any, item: Any) -> Iterator[Any]:
    daughter = flite.item_daughter(item)
    while daughter:
        yield daughter
        daughter = flite.item_next(daughter)
