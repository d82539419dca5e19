select timestamptz '1970-01-01 00:00:00+00' as known_at, tailnum, year as built, seats, engines
from planes
