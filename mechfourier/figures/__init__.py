"""Plotly figures and self-contained HTML pages. Everything drawn is in a result; nothing is computed here."""
