select
    station, known_at,
    sum(precipitation) over week as precipitation,
    avg(temp_max) over week as temp_max,
    count(*) filter (precipitation > 0) over week as wet_days,
    count(*) filter (weather = 'sun') over week as sunny_days
from observed
window week as (
    partition by station order by known_at
    -- An hour is lost or won twice a year, so six days are not always 144 hours.
    range between interval 145 hour preceding and current row
)
