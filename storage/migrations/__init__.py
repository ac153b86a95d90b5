"""The schema's history, applied by ``storage.schema``."""
