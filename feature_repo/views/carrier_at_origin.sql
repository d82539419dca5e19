select distinct
    carrier, origin, known_at,
    count(*) over three_hours as departures_3h,
    avg(dep_delay) over three_hours as mean_delay_3h,
    avg((dep_delay > 15)::int) over three_hours as late_share_3h
from departures
window three_hours as (
    partition by carrier, origin order by known_at
    range between interval 3 hour preceding and current row
)
