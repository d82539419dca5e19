-- One row per scheduled flight, asked two hours ahead. Cancelled and diverted flights have no label.
select
    time_hour + to_minutes(minute) - interval 2 hour as asked_at,
    time_hour + to_minutes(minute) as scheduled_at,
    flights.carrier, flights.flight, flights.origin, flights.dest, flights.tailnum,
    flights.distance,
    arrivals.late,
    arrivals.known_at as arrived_at
from flights
left join arrivals using (year, month, day, carrier, flight, origin)
