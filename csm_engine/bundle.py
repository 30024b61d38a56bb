"""A model bundle: a folder with `bundle.json` that says where the parts of one voice are. It loads no weights.

    {"format": 1, "name": "csm-1b", "version": "2025-03", "notice": "",
     "parts": {"model": "hf:sesame/csm-1b@<revision>", "tokenizer": "hf:sesame/csm-1b:tokenizer.json",
               "mimi": "hf:kyutai/moshiko-pytorch-bf16:tokenizer-e351c8d8-checkpoint125.safetensors",
               "silentcipher": "silentcipher"},
     "codec": {"name": "mimi", "weights_digest": "", "codebook_count": 32, "codebook_size": 2048,
               "frame_sample_count": 1920, "sample_rate_hertz": 24000},
     "voices": [{"name": "speaker-0", "speaker": 0, "language_codes": ["en"], "description": ""}]}

A part is a path relative to the folder, or `hf:OWNER/REPO[@REVISION][:PATH]`, resolved by `csm_engine.hub` when it
is asked for and not before, so that a stage downloads only what it uses.
"""
