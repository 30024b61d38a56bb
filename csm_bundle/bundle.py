"""A model bundle: a folder with a `bundle.json` that says where its parts are. This module loads no weights.

    {"format": 1, "name": "csm-1b", "version": "2025-03", "notice": "",
     "parts": {
       "model": "hf:sesame/csm-1b@<revision>",
       "tokenizer": "hf:sesame/csm-1b:tokenizer.json",
       "mimi": "hf:kyutai/moshiko-pytorch-bf16:tokenizer-e351c8d8-checkpoint125.safetensors",
       "silentcipher": "silentcipher"},
     "codec": {"name": "mimi", "weights_digest": "", "codebook_count": 32, "codebook_size": 2048,
               "frame_sample_count": 1920, "sample_rate_hertz": 24000},
     "sampling": {"temperature": 0.9, "top_k": 50},
     "text_frontend": "english-phonemes-3",
     "voices": [{"name": "speaker-0", "speaker": 0, "language_codes": ["en"], "description": "", "seed": 7}]}

A part is a path relative to the folder, or `hf:OWNER/REPO[@REVISION][:PATH]`. `csm_bundle.hub` downloads a part when
it is first asked for, so a stage downloads only what it uses. A folder or repository of bare weights, without a
bundle.json, is a bundle too: its parts are found by their known names, and the others are taken from `DEFAULT_PARTS`.

Without "text_frontend" the model reads spelling, as csm-1b does; with it the tokenizer reads the symbols of that front
end (csm_text/frontend.py). Two more parts are optional: "lexicon" (csm_text/lexicon.py), and "voices", a folder of
voices with a prompt (csm_bundle/voice_folder.py). A voice's "seed" is used by requests that set none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from csm_bundle.codec_identity import CodecIdentity
from csm_bundle.errors import BundleError, GatedRepositoryError
from csm_bundle.hub import Hub, HubReference
from csm_bundle.manifest import PARTS, Voice, read_manifest
from csm_bundle.sampling import RecommendedSampling

MANIFEST = "bundle.json"

# The parts of the published model, for bare weights that come without some of them.
DEFAULT_PARTS = {
    "model": HubReference("sesame/csm-1b"),
    "tokenizer": HubReference("sesame/csm-1b", path="tokenizer.json"),
    "mimi": HubReference("kyutai/moshiko-pytorch-bf16", path="tokenizer-e351c8d8-checkpoint125.safetensors"),
    "silentcipher": HubReference("sony/silentcipher", path="44_1_khz/73999_iteration"),
}

# The published repository has the same weights in several layouts. Only the first of these that it has is downloaded;
# the loader looks for them in the same order.
MODEL_LAYOUTS = (
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("model.safetensors",),
    ("transformers.safetensors.index.json", "transformers-*-of-*.safetensors"),
    ("ckpt.pt",),
)
MODEL_CONFIG = "config.json"

# The first two are the transformers library's layout of a CSM, which includes the codec. The last is Mimi alone.
CODEC_LAYOUTS = (
    ("transformers.safetensors.index.json", "transformers-*-of-*.safetensors"),
    ("model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("model.safetensors",),
)

_LAYOUTS = {"model": MODEL_LAYOUTS, "mimi": CODEC_LAYOUTS}

# Known names of the other parts in a folder without bundle.json: (a file to look for, the part's path).
_KNOWN_NAMES = {
    "tokenizer": (("tokenizer.json", "tokenizer.json"),),
    "mimi": (
        ("mimi/config.json", "mimi"),
        ("mimi/model.safetensors", "mimi/model.safetensors"),
        ("mimi.safetensors", "mimi.safetensors"),
        (DEFAULT_PARTS["mimi"].path, DEFAULT_PARTS["mimi"].path),
    ),
    "silentcipher": (
        ("silentcipher/hparams.yaml", "silentcipher"),
        (f"{DEFAULT_PARTS['silentcipher'].path}/hparams.yaml", DEFAULT_PARTS["silentcipher"].path),
    ),
}

_PLAIN_VOICES = tuple(
    Voice(f"speaker-{number}", number, description="A speaker as the model numbers them.") for number in range(4)
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says about itself, and where its parts are."""

    name: str
    version: str
    notice: str  # a warning for users, such as that the model is untrained; "" is none
    voices: tuple[Voice, ...]
    codec: CodecIdentity | None  # that the model's codes belong to; None when the bundle does not say
    parts: Mapping[str, Path | HubReference]
    hub: Hub
    sampling: RecommendedSampling = RecommendedSampling()
    text_frontend: str = ""  # csm_text/frontend.py; "" is none: the model reads spelling
    message_sdr_db: float | None = None  # of the watermark; that of the watermark's hparams.yaml when None

    def path(self, part: str) -> Path:
        """The local path of a part, which is downloaded first if necessary.

        "model" is a folder with the weights in one of MODEL_LAYOUTS and config.json beside them, or one weights file;
        "tokenizer" is tokenizer.json; "mimi" is one safetensors file, or a folder with config.json and weights in one
        of CODEC_LAYOUTS, which may be that of a CSM; "silentcipher" is a folder of checkpoints with hparams.yaml;
        "lexicon" is a file of words; "voices" is a folder of voices with prompts.

        Raises BundleError (missing), GatedRepositoryError or HubUnavailableError.
        """
        if part not in PARTS:
            raise BundleError(f'There is no part "{part}"; allowed are {", ".join(PARTS)}.')
        if part not in self.parts:
            raise BundleError(f'Bundle {self.name} does not say where its part "{part}" is.')
        location = self.parts[part]
        if isinstance(location, HubReference):
            pinned = self.hub.pin(location)
            names = self.hub.names(pinned)
            if part in _LAYOUTS and pinned.path not in names:
                names = _one_layout(pinned, names, _LAYOUTS[part])
            return self.hub.fetch(pinned, names)
        if not location.exists():
            raise BundleError(f'The part "{part}" of bundle {self.name} is missing: there is no {location}.')
        return location


def open_bundle(
    reference: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: Path | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Bundle:
    """Opens the bundle at a folder or at `[hf:]OWNER/REPO[@REVISION]`.

    A folder of that name wins over a repository. Nothing but bundle.json is downloaded.
    token, cache_dir, endpoint: None is what huggingface_hub uses (environment, login).

    Raises BundleError, GatedRepositoryError or HubUnavailableError.
    """
    hub = Hub(offline=offline, cache_dir=cache_dir, token=token, endpoint=endpoint)
    try:
        folder = Path(reference).expanduser()
        is_folder = not reference.startswith("hf:") and folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that may not be read, an unknown ~user
        raise BundleError(f'The bundle "{reference[:200]}" cannot be opened: {error}.') from None
    if is_folder:
        if revision is not None:
            raise BundleError(f'revision is "{revision}", but {folder} is a folder; only a repository has one.')
        return _open_folder(folder.resolve(), hub)
    if not reference.startswith("hf:") and (folder.is_absolute() or reference.startswith((".", "~"))):
        raise BundleError(f"There is no folder {folder}.")
    try:
        pinned = hub.pin(_with_revision(reference, revision))
    except GatedRepositoryError:
        raise
    except BundleError as error:
        if reference.startswith("hf:"):
            raise
        raise type(error)(f"There is no folder {reference}. {error}") from error.__cause__
    return _open_repository(pinned, hub)


def _with_revision(reference: str, revision: str | None) -> HubReference:
    parsed = HubReference.parse(reference, "The bundle")
    if revision is None:
        return parsed
    if parsed.revision not in (None, revision):
        raise BundleError(f'"{reference}" names a revision and so does revision="{revision}"; give one.')
    return HubReference(parsed.repository, revision, parsed.path)


def _open_folder(folder: Path, hub: Hub) -> Bundle:
    if (folder / MANIFEST).is_file():
        return _from_manifest(folder / MANIFEST, lambda path: folder / path, hub)
    names = frozenset(entry.name for entry in folder.iterdir())
    if not _layouts(names):
        raise BundleError(_no_weights(str(folder)))
    parts = _plain_parts(lambda name: (folder / name).is_file(), lambda path: folder / path)
    return Bundle(folder.name, "unversioned", "", _PLAIN_VOICES, None, parts, hub)


def _open_repository(pinned: HubReference, hub: Hub) -> Bundle:
    names = hub.names(pinned)
    manifest = pinned.below(MANIFEST)
    if manifest.path in names:
        file = hub.fetch(manifest, frozenset({manifest.path}))
        return _from_manifest(file, lambda path: pinned.below(path) if path else pinned, hub)
    if not _layouts(_relative_names(pinned, names)):
        raise BundleError(_no_weights(str(pinned)))
    parts = _plain_parts(
        lambda name: pinned.below(name).path in names,
        lambda path: pinned.below(path) if path else pinned,
    )
    return Bundle(pinned.repository, str(pinned.revision), "", _PLAIN_VOICES, None, parts, hub)


def _from_manifest(file: Path, locate: Callable[[str], Path | HubReference], hub: Hub) -> Bundle:
    manifest = read_manifest(file)
    parts = {
        part: location if isinstance(location, HubReference) else locate(location)
        for part, location in manifest.parts.items()
    }
    return Bundle(
        manifest.name,
        manifest.version,
        manifest.notice,
        manifest.voices,
        manifest.codec,
        parts,
        hub,
        manifest.sampling,
        manifest.text_frontend,
        manifest.message_sdr_db,
    )


def _plain_parts(
    has: Callable[[str], bool], locate: Callable[[str], Path | HubReference]
) -> dict[str, Path | HubReference]:
    """Parts of a folder or repository of bare weights, by their known names."""
    parts: dict[str, Path | HubReference] = {**DEFAULT_PARTS, "model": locate("")}
    for part, known in _KNOWN_NAMES.items():
        path = next((path for file, path in known if has(file)), None)
        if path is not None:
            parts[part] = locate(path)
    return parts


def _relative_names(pinned: HubReference, names: frozenset[str]) -> frozenset[str]:
    root = PurePosixPath(pinned.path)
    return frozenset(str(PurePosixPath(name).relative_to(root)) for name in names)


def _layouts(names: frozenset[str]) -> list[tuple[str, ...]]:
    """The layouts of model weights that are among the names."""
    return [layout for layout in MODEL_LAYOUTS if layout[0] in names]


def _one_layout(pinned: HubReference, names: frozenset[str], known: Sequence[tuple[str, ...]]) -> frozenset[str]:
    """The names of one whole copy of the weights, in the first known layout that is there, and of its config.json."""
    relative = _relative_names(pinned, names)
    layouts = [layout for layout in known if layout[0] in relative]
    if not layouts:
        raise BundleError(f"{pinned} holds no weights named {', '.join(layout[0] for layout in known)}.")
    patterns = (*layouts[0], MODEL_CONFIG)
    chosen = (n for n in relative if any(fnmatchcase(n, pattern) for pattern in patterns))
    return frozenset(pinned.below(name).path for name in chosen)


def _no_weights(place: str) -> str:
    known = ", ".join(layout[0] for layout in MODEL_LAYOUTS)
    return f"{place} is no bundle: it holds neither {MANIFEST} nor weights named {known}."
