"""Settings of a stage that runs a model out of a bundle. Importing them loads no torch."""

from __future__ import annotations

from pydantic import Field

from services.common.setting_types import FilePath
from services.common.settings import StageSettings


class BundleSettings(StageSettings):
    """Where the bundle is, and with how many threads it runs."""

    bundle: str = Field(
        min_length=1,
        description="Model bundle: a folder, or a Hugging Face repository as OWNER/NAME or OWNER/NAME@REVISION.",
    )
    revision: str | None = Field(None, description="Revision of the Hugging Face repository that --bundle names.")
    offline: bool = Field(False, description="Download nothing: use only files in the cache.")
    cache_dir: FilePath | None = Field(
        None, description="Folder of downloaded files. When unset, Hugging Face's cache."
    )
    stall_seconds: float = Field(
        2.5,
        ge=0.5,
        le=3600,
        description="Seconds that one step of the model's thread may take. After that the stage reports that it is"
        " neither ready nor live. Keep it below the gateway's --stage-silence-seconds.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads that torch uses, and the engine's kernels for small models; a codec's threads share"
        " its slots. 0 is one for each CPU that the process may use: those of the machine, or fewer by the container's"
        " CPU limit.",
    )
