"""The sections of a report, one module per theme: figures in, a ``reports.page.Section`` out.

Each says first what was found, then shows it, each figure under the paper's own number.
"""
