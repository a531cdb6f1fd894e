"""The forward pass of every spec node on symbolic tensors; costs and diagrams are folds over it. Torch-free.

A node has one function that calls the methods of a `Forward` in the order in which its module calls its layers. Rows
of `summarize`, parameters, MACs, memory, roofline, grids and the diagram follow from what was recorded.
Letters in comments: N tokens, C channels, D output channels, M random features.
"""
