select continent, known_at, avg(life_exp) as life_exp, avg(log_gdp) as log_gdp
from published
group by all
