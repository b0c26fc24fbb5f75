"""What a model is here: Volume, package, networks, prediction, training, evaluation; arrays in and out."""
