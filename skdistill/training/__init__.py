"""Answers to a trained network: data, objective, step, loop, control."""
