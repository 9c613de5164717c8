import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { TestAuthority, testCertificates } from '../support/certificates.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { COLLECTOR_FAULTS, askCollector, type CollectorFault } from '../../src/observe/audit/collector.js';
import type { DeliverySettings } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { DeliveredTrail, TOKEN, deliverySettings } from './delivered-trail.js';
import { TestCollector, type CollectorOptions } from './test-collector.js';

interface Case {
  readonly name: string;
  readonly fault: CollectorFault;
  readonly collector?: () => Promise<CollectorOptions>;
  readonly settings?: () => Promise<Partial<DeliverySettings>>;
  readonly url?: (collector: TestCollector) => string;
}

const DAY_MS = 86_400_000;

const CASES: readonly Case[] = [
  {
    name: 'a certificate of an authority that nobody named',
    fault: 'untrusted_certificate',
    collector: async () => ({ pair: await (await TestAuthority.create('another')).issue() }),
  },
  {
    name: 'an authority that only the world trusts, where the policy names none',
    fault: 'untrusted_certificate',
    settings: async () => Promise.resolve({ authority: null }),
  },
  {
    name: 'a certificate for another name',
    fault: 'wrong_name',
    collector: async () => ({ pair: await (await testCertificates()).authority.issue({ names: ['elsewhere.lan'] }) }),
  },
  {
    name: 'a certificate that has expired',
    fault: 'expired_certificate',
    collector: async () => ({
      pair: await (
        await testCertificates()
      ).authority.issue({ notBefore: new Date(Date.now() - 3 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) }),
    }),
  },
  {
    name: 'it wants a client certificate, and there is none',
    fault: 'certificate_refused',
    collector: async () => ({ callersFrom: (await testCertificates()).authority.ca }),
  },
  {
    name: 'it wants another client certificate',
    fault: 'cut_at_certificate',
    collector: async () => ({ callersFrom: (await testCertificates()).authority.ca }),
    settings: async () => {
      const pair = await (await TestAuthority.create('stranger')).issue({ usage: 'client' });
      return { certificate: { certFile: '', keyFile: '', certPem: pair.cert, key: Secret.fromText(pair.key) } };
    },
  },
  {
    name: 'plain HTTP where there should be TLS',
    fault: 'no_tls',
    collector: async () => Promise.resolve({ plain: true }),
    url: ({ port }) => `https://127.0.0.1:${String(port)}/`,
  },
  {
    name: 'TLS where there should be plain HTTP',
    fault: 'cut',
    url: ({ port }) => `http://127.0.0.1:${String(port)}/`,
  },
  {
    name: 'a name that has no address',
    fault: 'name_unknown',
    url: () => 'https://nobody.invalid/',
  },
];

describe('who the collector is has to be proven', () => {
  for (const { name, fault, collector: options, settings, url } of CASES) {
    test(`${name}: ${COLLECTOR_FAULTS[fault].words}`, async () => {
      await using collector = await TestCollector.start(await options?.());
      using directory = new TemporaryDirectory();
      const deliver = await deliverySettings(url?.(collector) ?? collector.url, await settings?.());
      // The environment has no say.
      const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      try {
        await using delivered = await DeliveredTrail.open(directory, deliver, { timings: { requestMs: 5_000 } });
        delivered.add(3);
        await waitUntil(() => delivered.failures.length > 0, 'the failure');
        assert.deepEqual(delivered.failures, [fault]);
        const asked = await askCollector(deliver);
        assert.equal(asked.ok, false);
        assert.equal(asked.what, fault);
        assert.ok(asked.words.endsWith(COLLECTOR_FAULTS[fault].words));
      } finally {
        if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
        else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
      }
      // Neither the records nor the token came there.
      assert.deepEqual(collector.batches, []);
    });
  }

  test('proxies of the environment are not used', async () => {
    const asked: string[] = [];
    const proxy = createServer((socket) => {
      asked.push('connected');
      socket.destroy();
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as AddressInfo;
    const names = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'];
    const before = names.map((one) => [one, process.env[one]] as const);
    for (const one of names) process.env[one] = one === 'NODE_USE_ENV_PROXY' ? '1' : `http://127.0.0.1:${String(port)}`;
    try {
      await using collector = await TestCollector.start();
      using directory = new TemporaryDirectory();
      await using delivered = await DeliveredTrail.open(directory, await deliverySettings(collector.url));
      await collector.untilHas(delivered.add(3));
      assert.deepEqual(asked, []);
    } finally {
      for (const [one, value] of before) {
        if (value === undefined) Reflect.deleteProperty(process.env, one);
        else process.env[one] = value;
      }
      await new Promise((resolve) => proxy.close(resolve));
    }
  });
});

describe('a collector is asked without giving it anything', () => {
  for (const [status, ok, what] of [
    [204, true, 'accepted'],
    [400, true, 'answers'],
    [401, false, 'unauthorized'],
    [404, false, 'no_collector'],
    [302, false, 'redirect'],
    [503, false, 'busy'],
  ] as const) {
    test(`${String(status)}: ${what}`, async () => {
      await using collector = await TestCollector.start({ treat: () => status });
      const asked = await askCollector(await deliverySettings(collector.url));
      assert.deepEqual([asked.ok, asked.what], [ok, what]);
      assert.ok(!asked.words.includes(TOKEN));
      const [batch, ...rest] = collector.batches;
      assert.deepEqual(rest, []);
      assert.equal(batch?.body.length, 0);
      assert.equal(batch.headers['authorization'], `Bearer ${TOKEN}`);
    });
  }
});
