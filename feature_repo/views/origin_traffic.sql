-- Summed by the minute first: the window then slides over moments instead of departures.
with minutes as (
    select
        origin, known_at,
        count(*) as departures,
        sum(dep_delay) as delay,
        count(*) filter (dep_delay > 15) as late
    from departures
    group by all
)
select
    origin, known_at,
    sum(departures) over three_hours as departures_3h,
    sum(delay) over three_hours / sum(departures) over three_hours as mean_delay_3h,
    sum(late) over three_hours / sum(departures) over three_hours as late_share_3h
from minutes
window three_hours as (
    partition by origin order by known_at
    range between interval 3 hour preceding and current row
)
