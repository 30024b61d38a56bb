"""Stages in separate network namespaces, with delay and packet loss between them."""
