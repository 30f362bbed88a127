"""What the pages and notebooks of the documentation share: pictures, a small network, plots and comparisons."""
