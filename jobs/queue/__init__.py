"""The broker and the Celery app that talks to it."""
