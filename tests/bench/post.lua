-- wrk's script: one POST again and again, with the credentials of a file in turn, and one line of JSON at the end.
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local credentials = {}
for line in io.lines(os.getenv("BENCH_AUTHORIZATIONS")) do credentials[#credentials + 1] = line end

if #credentials == 1 then
  wrk.headers["Authorization"] = credentials[1]
else
  local requests, at = {}, 0
  init = function()
    for number, credential in ipairs(credentials) do
      wrk.headers["Authorization"] = credential
      requests[number] = wrk.format()
    end
  end
  request = function()
    at = at % #requests + 1
    return requests[at]
  end
end

done = function(summary, latency)
  local errors = summary.errors
  print(string.format('{"requests":%d,"seconds":%.3f,"p50_us":%d,"p99_us":%d,"bad_status":%d,"broken":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
