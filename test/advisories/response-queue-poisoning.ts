/**
 * Response queue poisoning (James Kettle, 2021). When a service answers once more than it was asked, by smuggling or by
 * a body that its head did not announce, every later request on that connection gets the answer of the one before: other
 * people's pages, with their cookies. The service here does it on purpose, and no client may ever see the second answer.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RawConnection } from '../support/raw-client.js';
import { respond, responseBytes, type Respond } from '../support/recording-upstream.js';
import { Hive } from './hive.js';

const POISON = responseBytes(200, [['Set-Cookie', 'session=stolen']], 'poison').toString('latin1');
const answer = (head: string, body = ''): string => `HTTP/1.1 ${head}\r\n\r\n${body}`;

const POISONED: readonly (readonly [name: string, bytes: string, method: string])[] = [
  ['two answers', answer('200 OK\r\nContent-Length: 2', 'ok') + POISON, 'GET'],
  ['a body after 204', answer('204 No Content') + POISON, 'GET'],
  ['a body after 304', answer('304 Not Modified') + POISON, 'GET'],
  ['a body after HEAD', answer(`200 OK\r\nContent-Length: ${String(POISON.length)}`) + POISON, 'HEAD'],
  ['more after the last chunk', answer('200 OK\r\nTransfer-Encoding: chunked', '2\r\nok\r\n0\r\n\r\n') + POISON, 'GET'],
  ['more than its length', answer('200 OK\r\nContent-Length: 2', `ok, and more\r\n${POISON}`), 'GET'],
  ['two lengths', answer('200 OK\r\nContent-Length: 2\r\nContent-Length: 999', 'ok') + POISON, 'GET'],
  [
    'a length and chunks',
    answer('200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked', '0\r\n\r\n') + POISON,
    'GET',
  ],
  ['a folded encoding', answer('200 OK\r\nTransfer-Encoding:\r\n chunked', '2\r\nok\r\n0\r\n\r\n') + POISON, 'GET'],
  ['an encoding nobody knows', answer('200 OK\r\nTransfer-Encoding: xchunked', `0\r\n\r\n${POISON}`), 'GET'],
  ['LF instead of CRLF', `HTTP/1.1 200 OK\nContent-Length: 2\n\nok${POISON}`, 'GET'],
];

const hive = await Hive.shared();

describe('response queue poisoning', () => {
  for (const [name, bytes, method] of POISONED) {
    test(`${name}: whoever comes next gets an answer of their own`, async () => {
      for (const door of hive.doors) {
        hive.upstream.respond = poisonThenEcho(bytes);
        using attacker = await RawConnection.connect(door);
        attacker.write(hive.head(method, '/attack'));
        // A valid first answer, a refusal, or an end: all are well.
        await attacker.readResponse(method).catch(() => null);
        for (let victim = 0; victim < 3; victim += 1) {
          using client = await RawConnection.connect(door);
          client.write(hive.get(`/victim/${String(victim)}`));
          const got = await client.readResponse();
          assert.equal(got.header('set-cookie'), null);
          assert.equal((got.json() as { target: string }).target, `/victim/${String(victim)}`);
        }
        attacker.write(hive.get('/attacker/again'));
        attacker.end();
        assert.doesNotMatch((await attacker.readToEnd()).toString('latin1'), /stolen/);
      }
    });
  }
});

function poisonThenEcho(bytes: string): Respond {
  const poison = respond.bytes(bytes);
  const echo = respond.echo();
  return (request, connection) => (request.target === '/attack' ? poison : echo)(request, connection);
}
