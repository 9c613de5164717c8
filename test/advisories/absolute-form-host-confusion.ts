/**
 * Absolute-form host confusion (James Kettle, "Cracking the lens", 2017). `GET http://intern/ HTTP/1.1` with
 * `Host: queen.lan` names two hosts. RFC 9112 says the target wins, many servers say Host does, and between the two a
 * request is judged for one name and served for another. Here both must name the same, and the service gets the plain
 * form with one Host.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DenialReason } from '../../src/denial.js';
import { exchangeBytes } from '../support/raw-client.js';
import { Hive } from './hive.js';

const hive = await Hive.shared({ listener: { hosts: ['queen.lan', 'hive.lan'] } });

const TARGETS: readonly (readonly [target: string, reason: DenialReason])[] = [
  ['SCHEME://evil.example/', 'host_ambiguous'],
  ['SCHEME://hive.lan/', 'host_ambiguous'],
  ['SCHEME://queen.lan:9999/', 'host_ambiguous'],
  ['SCHEME://queen.lan.evil.example/', 'host_ambiguous'],
  ['SCHEME://queen.lan@evil.example/', 'malformed_target'],
  ['SCHEME://evil.example@queen.lan/', 'malformed_target'],
  ['SCHEME://queen.lan:80@evil.example/', 'malformed_target'],
  ['SCHEME://queen.lan\\@evil.example/', 'malformed_target'],
  ['SCHEME://queen.lan#@evil.example/', 'malformed_target'],
  ['SCHEME://queen.lan%2eevil.example/', 'malformed_target'],
  ['SCHEME:///', 'malformed_target'],
  ['SCHEME://', 'malformed_target'],
  ['SCHEME://[::1', 'malformed_target'],
  ['ws://queen.lan/', 'malformed_target'],
  ['SCHEME://queen.lan//evil.example/', 'ambiguous_path'],
  ['SCHEME://queen.lan/../admin', 'ambiguous_path'],
];

describe('absolute-form host confusion', () => {
  for (const [target, reason] of TARGETS) {
    test(`${target} is refused`, async () => {
      await hive.refuses((scheme) => hive.get(target.replace('SCHEME', scheme)), reason);
    });
  }

  test('a target with the name in Host reaches the service in its plain form', async () => {
    const forms = ['SCHEME://queen.lan/x?y', 'SCHEME://QUEEN.lan/x?y', 'scheme://queen.lan/x?y'];
    for (const [scheme, door] of [
      ['http', hive.guard.plain],
      ['https', hive.guard.secure],
    ] as const) {
      const usual = scheme === 'http' ? 'scheme://queen.lan:80/x?y' : 'scheme://queen.lan:443/x?y';
      for (const form of [...forms, usual]) {
        const before = hive.upstream.requests.length;
        const answer = await exchangeBytes(door, hive.get(form.replace(/scheme/i, scheme)));
        assert.equal(answer.status, 200, answer.text());
        const { request } = await hive.arrivedSince(before);
        assert.equal(request.target, '/x?y');
        assert.deepEqual(request.headerAll('host'), ['queen.lan']);
      }
    }
  });

  test('the other scheme is another origin', async () => {
    await hive.refuses((scheme) => hive.get(`${scheme === 'http' ? 'https' : 'http'}://queen.lan/`), 'host_ambiguous');
  });

  const HOSTS: readonly (readonly [host: string, reason: DenialReason])[] = [
    ['Host: queen.lan\r\nHost: evil.example', 'host_ambiguous'],
    ['Host: queen.lan\r\nHost: queen.lan', 'host_ambiguous'],
    ['X: y', 'host_missing'],
    ['Host:', 'host_missing'],
    ['Host: evil.example', 'wrong_host'],
    ['Host: queen.lan.evil.example', 'wrong_host'],
    ['Host: queen.lan, evil.example', 'malformed_head'],
    ['Host: queen.lan@evil.example', 'malformed_head'],
    ['Host: queen.lan/evil', 'malformed_head'],
    ['Host: queen.lan:99999', 'malformed_head'],
    ['Host: queen.lan:80:80', 'malformed_head'],
    ['Host: queen.lan:x', 'malformed_head'],
    ['Host: http://queen.lan', 'malformed_head'],
    ['Host: queen.lan evil.example', 'malformed_head'],
    [' Host: queen.lan', 'malformed_head'],
    ['Host : queen.lan', 'malformed_head'],
  ];
  for (const [host, reason] of HOSTS) {
    test(`${JSON.stringify(host)} is refused`, async () => {
      await hive.refuses(`GET / HTTP/1.1\r\n${host}\r\n${hive.pass}\r\n\r\n`, reason);
    });
  }

  test('HTTP/2 names the host once', async () => {
    const other = [...hive.http2('/'), ['host', 'evil.example']] as const;
    await hive.refusesHttp2(other, 'host_ambiguous');
    const two = [...hive.http2('/'), ['host', 'queen.lan'], ['host', 'queen.lan']] as const;
    await hive.cutsHttp2(two);
    await hive.cutsHttp2([[':authority', 'evil.example'], ...hive.http2('/')]);
    const wrong = hive
      .http2('/')
      .map(([name, value]) => [name, name === ':authority' ? 'evil.example' : value] as const);
    await hive.refusesHttp2(wrong, 'wrong_host');
    await hive.cutsHttp2(hive.http2('https://queen.lan/'));
  });
});
