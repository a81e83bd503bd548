"""Picture: a timeline as rows of shapes, for the page and for notebooks, bounded for any history."""
