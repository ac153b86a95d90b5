"""The figures and tables of the report: what each computes."""
