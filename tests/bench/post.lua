-- wrk's script: one POST again and again, and one line of JSON at the end.
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local authorization = os.getenv("BENCH_AUTHORIZATION")
if authorization ~= "" then wrk.headers["Authorization"] = authorization end

done = function(summary, latency)
  local errors = summary.errors
  print(string.format('{"requests":%d,"seconds":%.3f,"p50_us":%d,"p99_us":%d,"bad_status":%d,"broken":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
