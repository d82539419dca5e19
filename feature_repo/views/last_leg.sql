select tailnum, known_at, max(arr_delay) as arr_delay
from arrivals
where tailnum is not null
group by all
