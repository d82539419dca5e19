select
    days.date as asked_at,
    'SEA' as station, days.date as day,
    observed.weather,
    observed.known_at
from days
left join observed on observed.day = days.date
