"""Everything that is asked about answers: by judges, by people, and by probes of the models."""
