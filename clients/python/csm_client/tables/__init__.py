"""What a request may choose from: encodings and fields of sampling. Tests compare them with the server's tables."""
