"""Bad inputs as tables: each must end in one line, with nothing half-written."""
