"""Published policies, one file each, and the bounds they are judged against."""
