"""Any container of rows to columns, and to the numbers that the student reads."""
