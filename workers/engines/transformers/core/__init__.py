"""Everything that decides: requests, blocks of keys and values, who is computed next, which tokens are chosen."""
