"""Tables, plots, HTML pages, diagrams and figures of the results of the other packages."""
