"""The ANN's code as a graph of plain operators: trace, rules, remedies."""
