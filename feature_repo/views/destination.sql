select distinct
    dest, known_at,
    count(*) over six_hours as arrivals_6h,
    avg(arr_delay) over six_hours as mean_delay_6h,
    avg(late::int) over six_hours as late_share_6h
from arrivals
window six_hours as (
    partition by dest order by known_at
    range between interval 6 hour preceding and current row
)
