select
    origin, known_at,
    temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib,
    sum(precip) over six_hours as precip_6h,
    pressure - first(pressure) over six_hours as pressure_change_6h
from readings
window six_hours as (
    partition by origin order by known_at
    range between interval 6 hour preceding and current row
)
