"""The losses, a family in each module: the function, under it its class, beside it the formulas it needs."""
