"""Measurements that are too long for tests; each module is run by itself."""
