"""The interview: participants, prompts, answers, memory. No torch, no Celery, no SQL."""
