"""The worlds in the forms that other libraries take."""
