"""The networks, how they are trained and judged. Knows nothing of pipelines."""
