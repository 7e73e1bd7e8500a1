"""One HTML file that loads nothing: sections, sortable tables, pictures; light and dark, on a phone and on a desk."""
