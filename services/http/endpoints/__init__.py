"""The endpoints, a module each, and what they read and write."""
