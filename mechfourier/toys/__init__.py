"""The networks of this project, one folder each: model, task, training, analysis, figures, foreign files."""
