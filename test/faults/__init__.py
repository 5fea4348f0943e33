"""Everything is killed and stopped while clients submit; afterwards all must agree."""
