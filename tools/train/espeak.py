"""Speech synthesis: libespeak-ng through ctypes, with phoneme and word events, at 24 kHz.

ESPEAK_DATA names a directory that holds a private espeak-ng-data (make_voices.py writes variants
into one).
"""
import ctypes
import os

import numpy as np
from scipy.signal import resample_poly

RATE = 24000
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 1
_EVENT_LIST_END, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAM_RATE, _PARAM_VOLUME, _PARAM_PITCH, _PARAM_RANGE = 1, 2, 3, 4
_CHARS_UTF8 = 1


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint),
                ("text_position", ctypes.c_int), ("length", ctypes.c_int),
                ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", _EventId)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int,
                             ctypes.POINTER(_Event))
_pieces, _phonemes, _words = [], [], []


def _on_audio(wav, n, events):
    if n > 0 and wav:
        _pieces.append(np.ctypeslib.as_array(wav, (n,)).copy())
    i = 0
    while events[i].type != _EVENT_LIST_END:
        event = events[i]
        if event.type == _EVENT_PHONEME:
            _phonemes.append((event.audio_position, event.id.string.decode("utf8", "replace")))
        elif event.type == _EVENT_WORD:
            _words.append((event.audio_position, event.text_position))
        i += 1
    return 0


_library = ctypes.CDLL("libespeak-ng.so.1")
_callback = _Callback(_on_audio)  # must outlive every call
_data = os.environ.get("ESPEAK_DATA")
if _library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 200, _data and _data.encode(),
                              _INITIALIZE_PHONEME_EVENTS) < 0:
    raise RuntimeError("espeak-ng did not start")
_library.espeak_SetSynthCallback(_callback)


def speak(text, voice="en-us", rate=170, pitch=50, range_=50):
    """-> float32 samples, [(sample, phoneme)], [(sample, position in text, from 1)]"""
    if _library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"no voice {voice}")
    for parameter, value in ((_PARAM_RATE, rate), (_PARAM_PITCH, pitch), (_PARAM_RANGE, range_),
                             (_PARAM_VOLUME, 100)):
        _library.espeak_SetParameter(parameter, int(value), 0)
    _pieces.clear(), _phonemes.clear(), _words.clear()
    data = text.encode()
    _library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    _library.espeak_Synchronize()
    samples = np.concatenate(_pieces).astype(np.float32) / 32768.0
    samples = resample_poly(samples, 160, 147).astype(np.float32)  # 22.05 kHz -> 24 kHz
    per_ms = RATE // 1000
    return (samples, [(ms * per_ms, name) for ms, name in _phonemes],
            [(ms * per_ms, position) for ms, position in _words])
