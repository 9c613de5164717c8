import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startDemo, type Demo } from '../../src/demo/demo.js';
import { requireComponent } from '../support/component.js';
import { startGuard, type Guard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runCommand } from '../support/process.js';

/** The client library of most Python programs; what it has to say, it says as one line of JSON. */
const SCRIPT = `
import asyncio, json, ssl, sys
import websockets

url, ca, how, token = sys.argv[1:5]
context = ssl.create_default_context(cafile=ca) if url.startswith("wss") else None

async def main():
    options = {}
    if how == "header":
        name = "additional_headers" if int(websockets.__version__.split(".")[0]) >= 14 else "extra_headers"
        options[name] = {"Authorization": "Bearer " + token}
    if how == "subprotocol":
        options["subprotocols"] = ["bearer", token]
    said = {}
    try:
        async with websockets.connect(url, ssl=context, **options) as socket:
            said["subprotocol"] = socket.subprotocol
            await socket.send("hello")
            said["text"] = await socket.recv()
            payload = bytes(range(256)) * 2000
            await socket.send(payload)
            said["binary"] = (await socket.recv()) == payload
            pong = await socket.ping()
            await asyncio.wait_for(pong, 5)
            said["pong"] = True
            for number in range(100):
                await socket.send(str(number))
            said["order"] = [await socket.recv() for _ in range(100)] == [str(number) for number in range(100)]
        said["close"] = socket.close_code
    except Exception as error:
        status = getattr(error, "status_code", None)
        if status is None and getattr(error, "response", None) is not None:
            status = error.response.status_code
        said["error"] = type(error).__name__
        said["status"] = status
    print(json.dumps(said))

asyncio.run(main())
`;

describe('the websockets library of Python', () => {
  let demo: Demo;
  let guard: Guard;

  before(async () => {
    demo = await startDemo({ host: '127.0.0.1', port: 0 });
    guard = await startGuard({ upstream: demo.url });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await demo.close();
  });

  const GOOD = { text: 'hello', binary: true, pong: true, order: true, close: 1000 };
  const ROWS = [
    { name: 'a token in a field', scheme: 'ws', how: 'header', good: true, said: { subprotocol: null, ...GOOD } },
    {
      name: 'a token in a field, over TLS',
      scheme: 'wss',
      how: 'header',
      good: true,
      said: { subprotocol: null, ...GOOD },
    },
    {
      name: 'a token as a subprotocol',
      scheme: 'ws',
      how: 'subprotocol',
      good: true,
      said: { subprotocol: 'bearer', ...GOOD },
    },
    {
      name: 'a token as a subprotocol, over TLS',
      scheme: 'wss',
      how: 'subprotocol',
      good: true,
      said: { subprotocol: 'bearer', ...GOOD },
    },
    { name: 'a bad token in a field', scheme: 'wss', how: 'header', good: false, said: { status: 401 } },
    { name: 'a bad token as a subprotocol', scheme: 'wss', how: 'subprotocol', good: false, said: { status: 401 } },
    { name: 'no token', scheme: 'wss', how: 'none', good: false, said: { status: 401 } },
  ] as const;

  for (const { name, scheme, how, good, said } of ROWS) {
    test(name, async (t) => {
      const python = requireComponent('python3-websockets', t);
      if (python === null) return;
      const script = writeFileIn(guard.directory, 'client.py', SCRIPT);
      const ca = writeFileIn(guard.directory, 'ca.pem', guard.ca, 0o644);
      const { port } = scheme === 'wss' ? guard.secure : guard.plain;
      const token = good ? guard.token : 'x'.repeat(43);
      const url = `${scheme}://localhost:${String(port)}/ws`;
      const result = await runCommand(python, [script, url, ca, how, token]);
      assert.equal(result.code, 0, result.stderr);
      const { error, ...rest } = JSON.parse(result.stdout) as Record<string, unknown>;
      assert.deepEqual(rest, said);
      assert.equal(error === undefined, good);
    });
  }
});
