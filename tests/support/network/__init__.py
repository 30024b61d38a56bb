"""Networks of tests: servers, relays that fail, a name server, free ports."""
