"""What verification found, as a table, JUnit, HTML, pictures, a support bundle and a history."""
