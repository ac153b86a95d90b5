"""Language models answer surveys as simulated citizens; a report compares them with what people answered."""
