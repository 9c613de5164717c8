/**
 * http-proxy 1.18.1 hears of a client that left by the request's `aborted` event alone, which Node does not emit once
 * the request has been read to its end. An event stream whose reader has gone is then produced for nobody, for ever:
 * with rbee's workers the job goes on computing, and a handful of clients that connect and leave take all the slots.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RawConnection, requestBytes, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { h2Connect } from '../support/h2-client.js';
import { Hive } from './hive.js';
import { HttpProxy } from './http-proxy.js';

/** Ten times what guardbee takes at most. */
const LONG_ENOUGH_MS = 500;

const STREAMS = [
  ['silent', respond.silentEvents()],
  ['chatty', respond.chattyEvents()],
] as const;

/** Reads the first event, then leaves by FIN or by RST. */
async function readAndLeave(target: Target, token: string | undefined, how: 'end' | 'reset'): Promise<void> {
  const client = await RawConnection.connect(target);
  client.write(requestBytes(target, { path: '/events', ...(token === undefined ? {} : { token }) }));
  await client.readUntil('\n\n');
  client[how]();
}

const hive = await Hive.shared();

describe('a client that leaves an event stream', () => {
  for (const [name, stream] of STREAMS) {
    test(`http-proxy never tells the service, ${name} stream`, async () => {
      await using upstream = await RecordingUpstream.start({ respond: stream });
      await using proxy = await HttpProxy.start(upstream.url);
      await readAndLeave(proxy, undefined, 'reset');
      await proxy.clientLeft;
      await assert.rejects(upstream.waitForClose(upstream.connections[0], LONG_ENOUGH_MS), /waited 500 ms/);
    });

    test(`guardbee tells the service, ${name} stream`, async () => {
      const { upstream, guard } = hive;
      upstream.respond = stream;
      for (const target of hive.doors) {
        for (const how of ['end', 'reset'] as const) {
          await readAndLeave(target, guard.token, how);
          await upstream.waitForClose(upstream.connections.at(-1), LONG_ENOUGH_MS);
        }
      }
      const session = await h2Connect(guard.secure);
      const events = session.request({ ':path': '/events', authorization: `Bearer ${guard.token}` });
      await new Promise((resolve) => events.once('data', resolve));
      events.close();
      await upstream.waitForClose(upstream.connections.at(-1), LONG_ENOUGH_MS);
      session.destroy();
    });
  }
});
