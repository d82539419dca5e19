select
    country, known_at, life_exp, log_gdp, log_population,
    life_exp - lag(life_exp) over (partition by country order by known_at) as life_exp_change
from published
