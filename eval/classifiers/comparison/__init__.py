"""Recipes of classifiers side by side: cells in, tables and a page out."""
