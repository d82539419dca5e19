-- A survey of a year is published in the year after.
select
    make_timestamptz(year + 1, 1, 1, 0, 0, 0) as known_at,
    country, continent, year, lifeExp as life_exp,
    ln(gdpPercap) as log_gdp, ln(pop) as log_population
from surveys
