"""Everything that is done with a study: select, read, predict, measure, write results, deliver."""
