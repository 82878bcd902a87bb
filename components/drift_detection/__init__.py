"""Compare this month's data and scores with the month that the model was trained on."""
