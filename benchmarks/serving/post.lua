-- wrk: POST the bodies of BENCH_BODIES in turn; what was measured as one line of JSON.
local requests, at = {}, 0
for name in os.getenv("BENCH_BODIES"):gmatch("[^\n]+") do
  local file = assert(io.open(name, "rb"))
  requests[#requests + 1] = file:read("*a")
  file:close()
end
local headers = {}
for name, value in os.getenv("BENCH_HEADERS"):gmatch("([^\n:]+): ([^\n]+)") do
  headers[name] = value
end

function init()
  for number, body in ipairs(requests) do
    requests[number] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
