"""A small Mimi: quantizer by k-means, decoder and encoder by regression on the vocoder's sound."""
