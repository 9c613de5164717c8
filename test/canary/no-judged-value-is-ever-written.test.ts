import assert from 'node:assert/strict';
import test from 'node:test';
import { assertUntouched, startGuard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { Ear, PASSWORD, makeCanaries } from './secrets.js';

const CHECKS = {
  a: { type: 'identifier', max: 4 },
  b: { type: 'hex', length: 3 },
  c: { type: 'url', hosts: ['queen.lan'] },
  d: { type: 'enum', values: ['x'] },
  e: { type: 'range', min: 0, max: 1 },
  f: { type: 'text', max: 4 },
  g: 'caller',
} as const;

test('what is judged and refused is written nowhere', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    top: { log: { level: 'trace' } },
    routes: [
      ...Object.entries(CHECKS).map(([name, check]) => ({
        name: `path-${name}`,
        path: `/${name}/{value}`,
        methods: ['GET'],
        require: 'read',
        check: { value: check },
      })),
      { name: 'query', path: '/query', methods: ['GET'], require: 'read', check_query: CHECKS },
      { name: 'header', path: '/header', methods: ['GET'], require: 'read', check_headers: CHECKS },
      {
        name: 'body',
        path: '/body',
        methods: ['POST'],
        body: { json: { field: 'operation', require_by_value: { status: 'read' }, check: CHECKS } },
      },
    ],
  });
  const { token } = guard;
  const canaries = [...makeCanaries(token), PASSWORD];
  const ear = new Ear(canaries);
  const heard: string[] = [];
  const send = async (options: Parameters<typeof request>[1]): Promise<void> => {
    const response = await request(guard.plain, { token, ...options });
    assert.ok(response.status >= 400 && response.status < 500, String(response.status));
    for (const { canary } of ear.hear(`${JSON.stringify(response.headers)}\n${response.text()}`)) heard.push(canary);
  };
  const type = ['Content-Type', 'application/json'] as const;
  for (const { value } of canaries) {
    const json = JSON.stringify(value);
    for (const name of Object.keys(CHECKS)) {
      await send({ path: `/${name}/${encodeURIComponent(value.replaceAll('/', '_'))}` });
      await send({ path: `/query?${name}=${encodeURIComponent(value)}` });
      await send({ path: '/header', headers: [[name, value]] });
      await send({ method: 'POST', path: '/body', headers: [type], body: `{"operation":"status","${name}":${json}}` });
    }
    for (const body of [
      `{"operation":${json}}`,
      `{${json}:1,${json}:2}`,
      `{"operation":"status",${json}:1,${json}:2}`,
      `{"operation":"status"}${value}`,
      value,
      json,
      `[${json}]`,
    ]) {
      await send({ method: 'POST', path: '/body', headers: [type], body });
    }
    await send({
      method: 'POST',
      path: '/body',
      headers: [['Content-Type', `application/json; charset=${value}`]],
      body: '{}',
    });
    await send({ method: 'POST', path: '/body', headers: [type, ['Content-Encoding', value]], body: '{}' });
  }
  assertUntouched(upstream);
  const last = await request(guard.plain, { path: '/query?d=y', token });
  await guard.record(last.header('x-request-id') ?? '');
  for (const { canary } of ear.hear(`${guard.process.stdout}\n${guard.process.stderr}`)) heard.push(canary);
  assert.deepEqual(heard, []);
  // It did listen: what the log is for stands in it.
  assert.ok(guard.process.stdout.includes('"guardbee.invalid.rule":"not_listed"'));
});
