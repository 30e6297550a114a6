"""The official OpenAI SDK, unchanged, against a gateway that runs: what a customer's code sees, and which exception it catches.

Started by tests/walk/sdk.rs with JSON on standard input: {"url": ..., "keys": {tenant: key}, "tokens": {tenant: JWT}}.
Prints one line per check; ends with 1 when one fails.
"""

import asyncio
import json
import sys
import time
import traceback

import openai
from openai import AsyncOpenAI, OpenAI

GIVEN = json.load(sys.stdin)
MODEL = "llama-3.1-8b"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def client(tenant, **options):
    options.setdefault("api_key", GIVEN["keys"].get(tenant))
    return OpenAI(base_url=GIVEN["url"] + "/v1", max_retries=0, timeout=20, **options)


def say(text):
    return [{"role": "user", "content": text}]


def ask(who, text="hello", **options):
    options.setdefault("model", MODEL)
    return who.chat.completions.create(messages=say(text), **options)


def raises(kind, status, code, call):
    """The SDK's own exception, with our code, and the id that support will ask for."""
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"{type(error).__name__}, not {kind.__name__}: {error}"
        assert (error.status_code, error.code) == (status, code), (error.status_code, error.code)
        assert error.body["message"] and error.type, error.body
        assert error.request_id and error.request_id == error.body["request_id"], (error.request_id, error.body)
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def chat():
    answer = ask(client("acme"), "hello [tokens=3] [prompt=11]")
    assert answer.choices[0].message.content == "alfabravchar", answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3), answer.usage
    assert answer.model == MODEL and answer.object == "chat.completion" and answer._request_id, answer


@check
def chat_with_a_token_instead_of_a_key():
    assert ask(client("acme", api_key=GIVEN["tokens"]["acme"])).choices


@check
def chat_with_most_of_its_options():
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    answer = ask(
        client("acme"), "hello [tokens=9]", n=2, max_completion_tokens=4, temperature=0.2, top_p=0.9, seed=7, stop=["."],
        presence_penalty=0.1, frequency_penalty=0.1, logit_bias={"50256": -100}, user="u-1", tools=[tool],
        tool_choice="auto", response_format={"type": "json_object"},
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"], answer
    assert answer.usage.completion_tokens == 8, answer.usage


@check
def streaming():
    chunks = list(ask(client("acme"), "hello [tokens=5]", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "alfabravchardeltecho", chunks
    assert all(chunk.usage is None for chunk in chunks), "the usage chunk that nobody asked for"
    assert chunks[-1].choices[0].finish_reason == "stop", chunks[-1]


@check
def streaming_with_usage():
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(ask(client("acme"), "hello [tokens=5] [prompt=12]", **options))
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 17, chunks[-1]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1]), chunks


@check
def streaming_by_the_helper():
    with client("acme").chat.completions.stream(model=MODEL, messages=say("hello [tokens=2]")) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == "alfabrav"
    assert kinds.count("content.delta") >= 2 and kinds[-1] in ("content.done", "chunk"), kinds


@check
def a_stream_left_early():
    stream = ask(client("acme"), "hello [tokens=200] [drip=5ms]", stream=True)
    next(iter(stream))
    stream.close()


@check
def many_at_once():
    async def all_of_them():
        async with AsyncOpenAI(base_url=GIVEN["url"] + "/v1", api_key=GIVEN["keys"]["acme"], max_retries=0) as many:
            asked = [many.chat.completions.create(model=MODEL, messages=say(f"[tokens={n}]")) for n in range(1, 17)]
            return [answer.usage.completion_tokens for answer in await asyncio.gather(*asked)]

    assert asyncio.run(all_of_them()) == list(range(1, 17))


@check
def raw_response_shows_limits_and_no_platform_fingerprint():
    raw = client("acme").chat.completions.with_raw_response.create(model=MODEL, messages=say("hello"))
    assert raw.headers["x-ratelimit-limit-tokens"] == "1000000000", raw.headers
    assert raw.headers["x-bulkhead-tenant"] == "acme" and raw.headers["x-bulkhead-model"] == MODEL, raw.headers
    assert not {"server", "openai-version", "openai-processing-ms", "x-powered-by"} & set(raw.headers), raw.headers
    assert raw.parse().choices


@check
def models():
    listed = client("acme").models.list()
    assert sorted(model.id for model in listed) == ["llama-3.1-70b", MODEL], listed
    assert all(model.object == "model" and model.created > 0 for model in listed), listed


@check
def bad_request():
    error = raises(openai.BadRequestError, 400, "unknown_field", lambda: ask(client("acme"), extra_body={"temprature": 1}))
    assert error.param == "temprature", error.body
    raises(openai.BadRequestError, 400, "invalid_body", lambda: ask(client("acme"), max_tokens=-1))


@check
def authentication():
    raises(openai.AuthenticationError, 401, "invalid_credential", lambda: ask(client("acme", api_key="sk-nobody")))
    raises(openai.AuthenticationError, 401, "invalid_credential", lambda: client("acme", api_key="bh_x").models.list())


@check
def permission():
    named = client("acme", default_headers={"X-Tenant-ID": "globex"})
    raises(openai.PermissionDeniedError, 403, "tenant_conflict", lambda: ask(named))


@check
def not_found():
    error = raises(openai.NotFoundError, 404, "model_not_found", lambda: ask(client("acme"), model="gpt-4o-mini"))
    assert error.param == "model", error.body
    raises(openai.NotFoundError, 404, "not_found", lambda: client("acme").embeddings.create(model=MODEL, input="x"))


@check
def too_large():
    """The SDK has no class of its own for 413: it is an APIStatusError."""
    try:
        ask(client("acme"), "x" * (4 * 1024 * 1024))
    except openai.APIStatusError as error:
        assert (error.status_code, error.code) == (413, "body_too_large"), error
    else:
        raise AssertionError("no error")


@check
def quota():
    error = raises(openai.RateLimitError, 429, "insufficient_quota", lambda: ask(client("initech"), "x" * 8000))
    assert error.type == "insufficient_quota", error.body
    assert "spend-per-day" in error.body["message"], error.body


@check
def rate():
    """Post-paid: the first request is let through, its tokens make the next ones wait."""
    globex = client("globex")
    ask(globex, "hello [tokens=40]")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            ask(globex, "hello [tokens=1]")
            time.sleep(0.1)
        except openai.RateLimitError:
            break
    error = raises(openai.RateLimitError, 429, "rate_limit_exceeded", lambda: ask(globex))
    assert int(error.response.headers["retry-after"]) >= 1, error.response.headers
    assert error.response.headers["x-ratelimit-remaining-tokens"] == "0", error.response.headers


@check
def the_models_own_refusal():
    raises_upstream = lambda: ask(client("acme"), "hello [status=429]")
    try:
        raises_upstream()
    except openai.RateLimitError as error:
        assert error.code == "rate_limit_exceeded" and error.response.headers["retry-after"] == "7", error
    else:
        raise AssertionError("no error")


@check
def the_model_is_down():
    call = lambda: ask(client("initech"), "hello", model="gpt-4o-mini")
    raises(openai.InternalServerError, 503, "upstream_unavailable", call)


def main():
    print(f"openai {openai.__version__}")
    failed = 0
    for one in CHECKS:
        try:
            one()
            print(f"ok   {one.__name__}")
        except Exception:
            failed += 1
            print(f"FAIL {one.__name__}\n{traceback.format_exc()}")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    sys.exit(1 if failed else 0)


main()
