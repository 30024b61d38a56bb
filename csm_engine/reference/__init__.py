"""The reference: an eager frame step over torchtune's modules. The fast step is compared with it."""
