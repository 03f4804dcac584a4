"""Claims that papers make about flow critics, each tested by one program that two CPU cores can run."""
