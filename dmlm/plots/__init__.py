"""Pictures beside results: :mod:`dmlm.plots.figures` for curves; matplotlib is loaded when a figure is drawn."""
