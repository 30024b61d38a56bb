"""Every error the library raises, as one tree. Messages are sentences that say what was given and what is allowed.

* CsmError
  + BundleError                 a model bundle cannot be opened
    - GatedRepositoryError      the hub wants a token that has been granted access
    - HubUnavailableError       the hub cannot be reached and the cache does not hold the file
  + CheckpointError             weights or their configuration do not fit the model
  + InvalidRequestError         a request asks for something that is not allowed; names the field
    - PromptTooLongError        the prompt leaves no room in the context window
  + EngineBusyError             slots and queue are full
  + EngineStoppedError          the engine is stopping or has failed
  + EngineFaultError            the engine computed what is no number
  + ReadingStalledError         the texts of the request could not be read in time
  + CodecError                  the codec could not do its work
    - CodecBusyError            every decode slot is taken
    - CodecStoppedError         the codec is stopping or has failed
    - WatermarkError            the audio carries no whole watermark, which is required
  + KeyringError                watermark keys are missing, malformed or not allowed
"""


class CsmError(Exception):
    """Root of the tree."""


class BundleError(CsmError):
    """A model bundle cannot be opened."""


class GatedRepositoryError(BundleError):
    """The hub repository is gated and the given token has no access to it."""


class HubUnavailableError(BundleError):
    """The hub cannot be reached, or offline mode is on, and the file is not in the cache."""


class CheckpointError(CsmError):
    """Weights or their configuration do not fit the model."""


class InvalidRequestError(CsmError):
    """A request asks for something that is not allowed.

    field: path of the field as the function that raises it names its own, such as "sampling.top_k"
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room in the context window."""


class EngineBusyError(CsmError):
    """Slots and queue are full; another replica may have room."""


class EngineStoppedError(CsmError):
    """The engine is stopping or has failed; it takes no more requests."""


class EngineFaultError(CsmError):
    """The engine computed what is no number, so the frame is invalid. Another replica may be sound."""


class ReadingStalledError(CsmError):
    """The texts of the request could not be read in time. They may be why, so no other replica should try."""


class CodecError(CsmError):
    """The codec could not do its work."""


class CodecBusyError(CodecError):
    """Every decode slot is taken; another replica may have room."""


class CodecStoppedError(CodecError):
    """The codec is stopping or has failed; it takes no more streams."""


class WatermarkError(CodecError):
    """The audio carries no whole watermark, which is required."""


class KeyringError(CsmError):
    """Keys, of the watermark or of sealed codes, are missing, malformed or not allowed."""
