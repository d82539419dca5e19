-- A day is known when it is over, at the next midnight in Seattle.
select
    timezone(
        'America/Los_Angeles', timezone('America/Los_Angeles', date) + interval 1 day
    ) as known_at,
    'SEA' as station, date as day, precipitation, temp_max, temp_min, wind, weather
from days
