select station, known_at, precipitation, temp_max, temp_min, wind, weather from observed
