-- The gain since the survey before. The first survey of a country has none.
with gains as (
    select
        country, year, known_at,
        life_exp - lag(life_exp) over (partition by country order by year) as gain
    from published
)
select
    make_timestamptz(surveys.year, 1, 1, 0, 0, 0) as asked_at,
    surveys.country, surveys.continent, surveys.year,
    gains.gain,
    gains.known_at as published_at
from surveys
left join gains using (country, year)
