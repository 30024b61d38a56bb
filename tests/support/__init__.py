"""What tests and benchmarks share: fakes, tiny models, stand-ins. Nothing of it is in an image or a wheel."""
