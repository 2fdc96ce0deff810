"""What people construct: the classifier, the searches over it, parameters and their checks."""
