"""Designs of the experiment `contrast`: each compares what differs in one thing on purpose."""
