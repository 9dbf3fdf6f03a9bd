"""What every figure and page is made of: the Plotly template, colours, and self-contained HTML. No result is
known here."""
