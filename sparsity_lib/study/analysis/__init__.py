"""Analysis: published and fresh runs in, tables out."""
