"""Many runs of classifiers: comparisons and searches."""
