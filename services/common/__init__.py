"""What every stage shares: settings, the server round the servicers, errors with details, logs, metrics.

It knows no model, no codec and no public API.
"""
