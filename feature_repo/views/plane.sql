select tailnum, known_at, built, seats, engines from aircraft
