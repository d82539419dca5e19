-- Summed by the minute first: the window then slides over moments instead of arrivals.
with minutes as (
    select
        dest, known_at,
        count(*) as arrivals,
        sum(arr_delay) as delay,
        count(*) filter (late) as late
    from arrivals
    group by all
)
select
    dest, known_at,
    sum(arrivals) over six_hours as arrivals_6h,
    sum(delay) over six_hours / sum(arrivals) over six_hours as mean_delay_6h,
    sum(late) over six_hours / sum(arrivals) over six_hours as late_share_6h
from minutes
window six_hours as (
    partition by dest order by known_at
    range between interval 6 hour preceding and current row
)
