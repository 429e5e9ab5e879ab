"""`run.py A.yaml B.yaml ...`: each config in a process of its own, watched by the one that was started."""
