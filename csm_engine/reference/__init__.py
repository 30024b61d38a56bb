"""The eager frame step over torchtune's modules: what the fast one is compared with."""
