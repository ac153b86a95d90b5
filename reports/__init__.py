"""reports explains: metrics, charts, HTML and Markdown."""
