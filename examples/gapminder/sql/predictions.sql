select
    make_timestamptz(surveys.year, 1, 1, 0, 0, 0) as asked_at,
    surveys.country, surveys.continent, surveys.year,
    published.life_exp as life_exp_then,
    published.known_at as published_at
from surveys
left join published using (country, year)
