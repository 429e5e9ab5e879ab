"""The engine: frames, nodes, channels and the pipeline that runs them. Knows no camera, no file format, no network."""
