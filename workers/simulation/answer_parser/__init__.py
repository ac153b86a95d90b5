"""Reads completions: which options a reply chooses, or why it is no answer.

Other rooms import what stands here and nothing else of the package.
"""

from defsurvey.workers.simulation.answer_parser.lexicon import clean
from defsurvey.workers.simulation.answer_parser.mentions import unread_labels
from defsurvey.workers.simulation.answer_parser.reading import Reading, is_settled, read, spoken, without_echo

__all__ = ["Reading", "clean", "is_settled", "read", "spoken", "unread_labels", "without_echo"]
