"""Charts as inline SVG: Altair specifications, drawn by vl-convert, coloured by the page.

``drawing`` makes a drawing the page's own; most charts are figures on ``rows``, others a ``radar`` or a map.
"""
