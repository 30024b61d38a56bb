"""Settings of a stage that runs a model out of a bundle. Importing them loads no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import StageSettings


class BundleSettings(StageSettings):
    """Where the bundle is, and with how many threads it runs."""

    bundle: str = Field(
        min_length=1, description="Model bundle: a folder, or a Hugging Face repository OWNER/NAME[@REVISION]."
    )
    revision: str | None = Field(None, description="Revision of the repository that --bundle names.")
    offline: bool = Field(False, description="Take downloaded files from the cache only.")
    cache_dir: Path | None = Field(
        None, description="Where downloaded files are kept; Hugging Face's place when unset."
    )
    stall_seconds: float = Field(
        2.5,
        ge=0.5,
        le=3600,
        description="How long the thread of the model may be in one step before the stage is not ready and not live;"
        " less than the gateway's --stage-silence-seconds.",
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of torch; 0 leaves it to torch.")
