-- Days end at midnight in New York; a day's rates are known when it is over. The window counts days
-- of the wall clock: the one on which the clock goes back has 25 hours.
with daily as (
    select
        origin, dest,
        date_trunc('day', timezone('America/New_York', known_at)) + interval 1 day as midnight,
        count(*) as arrivals,
        sum(arr_delay) as delay,
        count(*) filter (late) as late
    from arrivals
    group by all
)
select
    origin, dest,
    timezone('America/New_York', midnight) as known_at,
    sum(arrivals) over days as arrivals_30d,
    sum(delay) over days / sum(arrivals) over days as mean_delay_30d,
    sum(late) over days / sum(arrivals) over days as late_share_30d
from daily
window days as (
    partition by origin, dest order by midnight
    range between interval 29 day preceding and current row
)
