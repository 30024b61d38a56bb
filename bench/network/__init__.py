"""The stages in network namespaces of their own, with delay and loss on the way between them."""
