-- The reading of an hour is published after the hour.
select
    time_hour + interval 1 hour as known_at,
    origin, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
from weather
