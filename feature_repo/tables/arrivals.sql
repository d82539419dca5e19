-- An arrival delay is known on arrival. `arr_time` is the destination's wall clock and loses the
-- day, so the day comes from the departure; an aircraft never lands before its time in the air.
with departed as (
    select
        flights.*,
        time_hour + to_minutes(minute) + to_minutes(dep_delay::bigint) as departed_at,
        -- Four airports of Puerto Rico and the Virgin Islands are missing in `airports`.
        coalesce(tzone, 'America/Puerto_Rico') as zone
    from flights
    left join airports on faa = dest
    where arr_delay is not null
),
landed as (
    select
        *,
        timezone(
            zone,
            date_trunc('day', timezone(zone, departed_at))
            + to_minutes((arr_time // 100 * 60 + arr_time % 100)::bigint)
        ) as same_day
    from departed
)
select
    greatest(
        case when same_day >= departed_at then same_day else same_day + interval 1 day end,
        departed_at + to_minutes(coalesce(air_time, 0)::bigint)
    ) as known_at,
    year, month, day, carrier, flight, origin, dest, tailnum, arr_delay,
    arr_delay > 15 as late
from landed
