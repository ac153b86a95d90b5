"""Charts as inline SVG: Altair specifications, drawn by vl-convert, coloured by the page.

``drawing`` makes a drawing the page's own, ``rows`` draws figures on rows, which most charts are; the other modules
draw one figure of the report each.
"""
