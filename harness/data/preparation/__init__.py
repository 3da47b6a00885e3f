"""Making the data that training reads: fetched or extracted, checked, packed."""
