"""Real processes, real PostgreSQL, real HTTP: what the end-to-end tests and the demo stand on."""
