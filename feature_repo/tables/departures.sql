-- A departure delay is known when the aircraft has left, not when it should have.
select
    time_hour + to_minutes(minute) + to_minutes(dep_delay::bigint) as known_at,
    carrier, origin, dest, tailnum, dep_delay
from flights
where dep_delay is not null
