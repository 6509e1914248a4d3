"""What is measured: operators, layers, generators."""
