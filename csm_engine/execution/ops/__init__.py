"""The operations of the fast step: plain torch, Triton, and the choice between them."""
