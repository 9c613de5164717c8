/**
 * RFC 9113 lets a client reset a stream with any code, and NO_ERROR is one of them. Node's `http2` does not call that an
 * error: the body that was cut short ends like a whole one, and a stream that nobody reads lives on. A proxy that goes
 * by what Node says hands the first half of an upload to the service as all of it, and streams events to nobody.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { respond } from '../support/recording-upstream.js';
import { FRAME, frame, H2Wire, uint32 } from './h2-wire.js';
import { Hive } from './hive.js';

/** RFC 9113 §7, and one that nobody has defined. */
const CODES = [
  ['NO_ERROR', 0x0],
  ['PROTOCOL_ERROR', 0x1],
  ['CANCEL', 0x8],
  ['0xdead', 0xdead],
] as const;

const hive = await Hive.shared();

describe('a stream that is reset', () => {
  before(() => {
    hive.upstream.respond = respond.byPath({ '/events': respond.silentEvents() }, respond.echo());
  });
  after(() => {
    hive.upstream.respond = respond.echo();
  });

  for (const [name, code] of CODES) {
    test(`with ${name}: half an upload is not a whole one`, async () => {
      const path = `/upload/${name}`;
      using wire = await H2Wire.connect(hive.guard.secure);
      wire.headers(1, hive.http2(path, 'POST'), { endStream: false });
      wire.data(1, 'first half', { endStream: false });
      const upload = await hive.upstream.waitFor(
        ({ requests }) => requests.find(({ target, bodyLength }) => target === path && bodyLength === 10),
        'the first half',
      );
      wire.send(frame(FRAME.RST_STREAM, 0, 1, uint32(code)));
      await hive.upstream.waitForClose(upload.connection);
      await assert.rejects(upload.body, /ended before the body/);
      const record = await hive.guard.recordWhere((line) => line['url.path'] === path);
      assert.equal(record['guardbee.reason'], 'client_gone');
    });

    test(`with ${name}: the service hears that nobody reads its events`, async () => {
      const before = hive.upstream.requests.length;
      using wire = await H2Wire.connect(hive.guard.secure);
      wire.headers(1, hive.http2('/events'), { endStream: true });
      assert.deepEqual(await wire.outcome(1), { kind: 'answer', status: 200 });
      wire.send(frame(FRAME.RST_STREAM, 0, 1, uint32(code)));
      await hive.upstream.waitForClose(hive.upstream.requests[before]?.connection, 500);
    });
  }
});
