/**
 * The presets of rbee as they are shipped, in front of a service that records each byte: what every role may ask of
 * POST /v1/jobs, over HTTP/1.1 and HTTP/2, and who may use what came of it.
 */
import assert from 'node:assert/strict';
import type { ClientHttp2Session } from 'node:http2';
import test from 'node:test';
import { parseDocument } from 'yaml';
import { testCertificates, writeKeyPair } from '../support/certificates.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { type TokenLine, tokenPair, writePolicy, writeTokens } from '../support/policy-builder.js';
import { startGuardbee, type WatchedProcess } from '../support/process.js';
import { type Target, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { preset } from './presets.js';

const ROLES = ['viewer', 'operator', 'keyholder', 'node'] as const;
/** `nothing` has a token, and no role of the preset. */
const CALLERS = [...ROLES, 'nothing', 'nobody'] as const;
type Caller = (typeof CALLERS)[number];
type Role = (typeof ROLES)[number];

const LOOKS: readonly Role[] = ['viewer', 'operator', 'keyholder'];
const WORKS: readonly Role[] = ['operator', 'keyholder'];
const SHELL: readonly Role[] = ['keyholder'];

/** Every operation of rbee, a sound body of it, and who may submit it to queen and hive. */
const OPERATIONS: readonly (readonly [body: string, mayAsk: readonly Role[]])[] = [
  ['{"operation":"status"}', LOOKS],
  ['{ "operation" : "queen_check" }\r\n', LOOKS],
  ['{"operation":"hive_check","alias":"localhost"}', LOOKS],
  ['{"hive_id":"localhost","operation":"model_list"}', LOOKS],
  ['{"operation":"model_get","hive_id":"localhost","id":"meta-llama/Llama-2-7b"}', LOOKS],
  ['{"operation":"rhai_script_list"}', LOOKS],
  ['{"operation":"rhai_script_get","id":"greet"}', LOOKS],
  [
    '{"operation":"infer","hive_id":"localhost","model":"hf:a/b","prompt":"h\\u00e9llo\\n","max_tokens":64,' +
      '"temperature":0.70,"top_p":1.0,"top_k":null,"device":"cuda:0","stream":true,"extra":[1e3,-0,{"deep":1}]}',
    WORKS,
  ],
  ['{"operation":"worker_process_list","hive_id":"localhost"}', WORKS],
  ['{"operation":"worker_process_get","hive_id":"localhost","pid":4242}', WORKS],
  ['{"operation":"model_download","hive_id":"localhost","model":"meta-llama/Llama-2-7b"}', WORKS],
  ['{"operation":"model_load","hive_id":"localhost","id":"m","device":"cpu"}', WORKS],
  ['{"operation":"model_unload","hive_id":"localhost","id":"m"}', WORKS],
  ['{"operation":"model_delete","hive_id":"localhost","id":"m"}', WORKS],
  ['{"operation":"rhai_script_delete","id":"greet"}', WORKS],
  ['{"operation":"rhai_script_save","name":"greet","content":"let x = 1;\\n\\tprint(x);"}', SHELL],
  ['{"operation":"rhai_script_test","content":"print(1)"}', SHELL],
  ['{"operation":"worker_install","hive_id":"localhost","worker_id":"llm-worker-rbee-cpu"}', SHELL],
  ['{"operation":"worker_spawn","hive_id":"localhost","model":"m","worker":"cuda","device":0}', SHELL],
  ['{"operation":"worker_process_delete","hive_id":"localhost","pid":4242}', SHELL],
];

/** What nobody may send, and what those are told who may use the path at all. */
const REFUSED: readonly (readonly [body: string, status: number])[] = [
  ['{"operation":"worker_upgrade"}', 403],
  ['{"operation":"Status"}', 403],
  ['{"operation":"status "}', 403],
  ['{"hive_id":"localhost"}', 403],
  ['{"operation":["status"]}', 403],
  ['{"operation":{"status":1}}', 403],
  ['{"operation":"status","operation":"worker_install"}', 403],
  ['{"operation":"status","operat\\u0069on":"worker_install"}', 403],
  ['{"operation":"status","Operation":"worker_install"}', 400],
  ['{"operation":"status","hive_id":"a","hive_id":"b"}', 400],
  ['["status"]', 400],
  ['[{"operation":"status"}]', 400],
  ['{"operation":"status"}{"operation":"worker_install"}', 400],
  ['', 400],
];

/** Sound operations with a member that must not reach anybody, and the name of it. */
const UNSAFE: readonly (readonly [body: string, name: string])[] = [
  ['{"operation":"worker_process_delete","hive_id":"localhost","pid":0}', 'pid'],
  ['{"operation":"worker_process_delete","hive_id":"localhost","pid":1}', 'pid'],
  ['{"operation":"worker_process_delete","hive_id":"localhost","pid":4294967295}', 'pid'],
  ['{"operation":"worker_process_delete","hive_id":"localhost","pid":"4242"}', 'pid'],
  ['{"operation":"worker_install","hive_id":"localhost","worker_id":"../../evil"}', 'worker_id'],
  ['{"operation":"worker_spawn","hive_id":"localhost","model":"m;id","worker":"cpu","device":0}', 'model'],
  ['{"operation":"worker_spawn","hive_id":"localhost","model":"m","worker":"bash","device":0}', 'worker'],
  ['{"operation":"model_delete","hive_id":"localhost","id":"/etc"}', '/id'],
  ['{"operation":"model_delete","hive_id":"localhost","id":"a/.."}', '/id'],
  ['{"operation":"infer","hive_id":"localhost","model":"m","prompt":"\\u001b[2J"}', 'prompt'],
  ['{"operation":"infer","hive_id":"localhost","model":"m","prompt":"x","max_tokens":1e9}', 'max_tokens'],
];

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly token: string | null;
  readonly body?: string;
}

interface Answered {
  readonly status: number;
  readonly body: string;
}

type Ask = (asked: Asked) => Promise<Answered>;

/** guardbee with a shipped preset, of which only addresses, the certificate and how a hive is known are others. */
class Shipped implements AsyncDisposable {
  readonly upstream: RecordingUpstream;
  readonly #process: WatchedProcess;
  readonly #directory: TemporaryDirectory;
  readonly #session: ClientHttp2Session;
  readonly #tokens: ReadonlyMap<string, string>;
  readonly ways: readonly (readonly [name: string, ask: Ask])[];

  private constructor(
    upstream: RecordingUpstream,
    child: WatchedProcess,
    directory: TemporaryDirectory,
    session: ClientHttp2Session,
    target: Target,
    tokens: ReadonlyMap<string, string>,
  ) {
    this.upstream = upstream;
    this.#process = child;
    this.#directory = directory;
    this.#session = session;
    this.#tokens = tokens;
    this.ways = [
      [
        'HTTP/1.1',
        async ({ method, path, token, body }) => {
          const answer = await request(target, {
            method,
            path,
            ...(token === null ? {} : { token }),
            ...(body === undefined ? {} : { body, headers: [['Content-Type', 'application/json']] }),
          });
          return { status: answer.status, body: answer.text() };
        },
      ],
      [
        'HTTP/2',
        async ({ method, path, token, body }) => {
          const answer = await h2Request(
            session,
            {
              ':method': method,
              ':path': path,
              ...(token === null ? {} : { authorization: `Bearer ${token}` }),
              ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            },
            body,
          );
          return { status: answer.status, body: answer.body.toString() };
        },
      ],
    ];
  }

  static async start(name: 'rbee-queen' | 'rbee-hive' | 'rbee-worker'): Promise<Shipped> {
    let jobs = 0;
    const upstream = await RecordingUpstream.start({
      respond: async (asked, connection) => {
        if (asked.method !== 'POST') {
          await respond.status(
            200,
            [['Content-Type', 'text/plain']],
            `${asked.method} ${asked.target}`,
          )(asked, connection);
          return;
        }
        jobs += 1;
        const id = `job-${String(jobs)}`;
        const made = JSON.stringify({ job_id: id, sse_url: `/v1/jobs/${id}/stream` });
        await respond.status(200, [['Content-Type', 'application/json']], made)(asked, connection);
      },
    });
    const directory = new TemporaryDirectory();
    const { ca, server } = await testCertificates();
    writeKeyPair(directory, server);
    const tokens = new Map<string, string>();
    const lines: TokenLine[] = [];
    const add = (token: string, roles: readonly string[]): void => {
      const pair = tokenPair();
      tokens.set(token, pair.token);
      lines.push({
        name: token,
        sha256: pair.sha256,
        ...(roles.length === 0 ? { permissions: ['nothing'] } : { roles }),
      });
    };
    // The presets let nobody submit more than 30 jobs at a time, so that each role is several people here.
    for (const role of name === 'rbee-worker' ? ['operator'] : ROLES) {
      for (let person = 0; person < PERSONS; person += 1) add(`${role}-${String(person)}`, [role]);
    }
    for (let person = 0; person < PERSONS; person += 1) add(`nothing-${String(person)}`, []);
    writeTokens(directory, lines);

    const document = parseDocument(preset(name).text);
    const listener = ['listeners', name.replace('rbee-', '')];
    const put = (path: readonly string[], value: unknown): void => {
      document.setIn(path, document.createNode(value));
    };
    put([...listener, 'bind'], '127.0.0.1:0');
    put([...listener, 'tls'], { cert: 'server.crt', key: 'server.key' });
    put([...listener, 'allow_from'], ['127.0.0.1']);
    put([...listener, 'upstream'], upstream.url);
    put(['admin', 'bind'], '127.0.0.1:0');
    document.delete('tests');
    if (name === 'rbee-queen') {
      // A loopback address is nobody's own, so that hives are known by tokens here.
      const hive = tokenPair();
      tokens.set('hive', hive.token);
      writeTokens(directory, [{ name: 'hive-1', sha256: hive.sha256, roles: ['node'] }], 'hives.yaml');
      put(['authenticators', 'hives'], { type: 'bearer', tokens_file: 'hives.yaml' });
    }
    const policy = writePolicy(directory, document.toString());
    const child = startGuardbee({ args: ['run', '--policy', policy] });
    try {
      const line = await child.waitForLog((one) => String(one['msg']).startsWith('listening on https://'));
      const target = { port: Number(new URL(String(line['url.full'])).port), tls: { ca } };
      const session = await h2Connect(target);
      return new Shipped(upstream, child, directory, session, target, tokens);
    } catch (error) {
      await child.stop();
      directory.remove();
      await upstream.close();
      throw error;
    }
  }

  token(name: string): string {
    const token = this.#tokens.get(name);
    assert.ok(token !== undefined, name);
    return token;
  }

  /** The token of one of those who are `caller`; null for nobody. */
  tokenOf(caller: Caller, person: number): string | null {
    return caller === 'nobody' ? null : this.token(`${caller}-${String(person % PERSONS)}`);
  }

  /** What the upstream saw of this request, and that it saw nothing else. */
  async passed(ask: Ask, asked: Asked, what: string): Promise<Answered> {
    const before = this.upstream.requests.length;
    const answer = await ask(asked);
    assert.equal(answer.status, 200, `${what}: ${answer.body}`);
    const seen = this.upstream.requests;
    assert.equal(seen.length, before + 1, what);
    const last = seen.at(-1);
    assert.ok(last !== undefined);
    assert.deepEqual([last.method, last.target], [asked.method, asked.path], what);
    const body = await last.body;
    assert.deepEqual(body.bytes, Buffer.from(asked.body ?? ''), what);
    return answer;
  }

  async refused(ask: Ask, asked: Asked, status: number, what: string): Promise<Answered> {
    const before = this.upstream.bytesSeen;
    const answer = await ask(asked);
    assert.equal(answer.status, status, `${what}: ${answer.body}`);
    assert.equal(this.upstream.bytesSeen, before, `${what}: the upstream saw something`);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#session.destroy();
    await this.#process.stop();
    this.#directory.remove();
    await this.upstream.close();
  }
}

const PERSONS = 8;

const submission = (body: string, token: string | null, path = '/v1/jobs'): Asked => ({
  method: 'POST',
  path,
  token,
  body,
});

const mayUseThePath = (caller: Caller): boolean =>
  caller === 'viewer' || caller === 'operator' || caller === 'keyholder';
/** What is told to those who may not use the path, whatever they send. */
const turnedAway = (caller: Caller): number => (caller === 'nobody' ? 401 : 403);

function reasonsOf({ body }: Answered): unknown {
  return (JSON.parse(body) as { invalid?: unknown }).invalid;
}

for (const name of ['rbee-queen', 'rbee-hive'] as const) {
  test(`${name}: the table has all that the preset lists`, () => {
    const { listeners } = parseDocument(preset(name).text).toJS() as {
      listeners: Record<string, { routes: { body?: { json?: { require_by_value?: Record<string, string> } } }[] }>;
    };
    const listed = Object.values(listeners).flatMap(({ routes }) =>
      routes.flatMap((route) => Object.keys(route.body?.json?.require_by_value ?? {})),
    );
    const asked = OPERATIONS.map(([body]) => (JSON.parse(body) as { operation: string }).operation);
    assert.deepEqual(asked.sort(), listed.sort());
  });

  test(`${name}: each operation is for the roles of the table, and the service gets the bytes that were sent`, async () => {
    await using shipped = await Shipped.start(name);
    let person = 0;
    for (const [way, ask] of shipped.ways) {
      for (const caller of CALLERS) {
        for (const [body, mayAsk] of OPERATIONS) {
          const asked = submission(body, shipped.tokenOf(caller, person++));
          const what = `${way}, ${caller}: ${body}`;
          if ((mayAsk as readonly Caller[]).includes(caller)) await shipped.passed(ask, asked, what);
          else await shipped.refused(ask, asked, turnedAway(caller), what);
        }
      }
    }
    const allowed = OPERATIONS.reduce((sum, [, mayAsk]) => sum + mayAsk.length, 0);
    assert.equal(shipped.upstream.requests.length, 2 * allowed);
  });

  test(`${name}: nobody gets what is not listed, what can be read in two ways, or what is not safe through`, async () => {
    await using shipped = await Shipped.start(name);
    let person = 0;
    for (const [way, ask] of shipped.ways) {
      for (const caller of CALLERS) {
        for (const [body, status] of REFUSED) {
          const asked = submission(body, shipped.tokenOf(caller, person++));
          const expected = mayUseThePath(caller) ? status : turnedAway(caller);
          await shipped.refused(ask, asked, expected, `${way}, ${caller}: ${body}`);
        }
      }
      for (const [body, member] of UNSAFE) {
        const asked = submission(body, shipped.tokenOf('keyholder', person++));
        const answer = await shipped.refused(ask, asked, 400, `${way}: ${body}`);
        assert.match(JSON.stringify(reasonsOf(answer)), new RegExp(`"in":"body","name":"${member}"`), body);
      }
    }
    assert.equal(shipped.upstream.requests.length, 0);
  });

  test(`${name}: who submitted a job runs and cancels it, and others only with the permission for it`, async () => {
    await using shipped = await Shipped.start(name);
    const [owner, other, operator, keyholder] = [
      shipped.token('viewer-0'),
      shipped.token('viewer-1'),
      shipped.token('operator-0'),
      shipped.token('keyholder-0'),
    ];
    for (const [way, ask] of shipped.ways) {
      const submit = async (): Promise<string> => {
        const { body } = await shipped.passed(ask, submission('{"operation":"status"}', owner), way);
        return (JSON.parse(body) as { job_id: string }).job_id;
      };
      const job = await submit();
      const run = (token: string | null, id = job): Asked => ({ method: 'GET', path: `/v1/jobs/${id}/stream`, token });
      const cancel = (token: string | null, id = job): Asked => ({ method: 'DELETE', path: `/v1/jobs/${id}`, token });
      for (const asked of [run(other), run(operator), cancel(other)]) {
        await shipped.refused(ask, asked, 403, `${way} ${asked.method}`);
      }
      for (const asked of [run(null), cancel(null)]) await shipped.refused(ask, asked, 401, way);
      for (const asked of [run(owner, 'job-of-nobody'), cancel(owner, 'job-of-nobody')]) {
        await shipped.refused(ask, asked, 403, `${way} ${asked.path}`);
      }
      await shipped.refused(ask, run(owner, 'a%20b'), 400, way);
      await shipped.passed(ask, run(owner), way);
      await shipped.passed(ask, cancel(owner), way);
      await shipped.passed(ask, cancel(operator, await submit()), way);
      await shipped.passed(ask, run(keyholder, await submit()), way);
    }
  });
}

test('rbee-queen: a hive reports addresses of hives, and no others', async () => {
  await using shipped = await Shipped.start('rbee-queen');
  const hive = shipped.token('hive');
  const ready = (url: string, token: string | null = hive): Asked =>
    submission(JSON.stringify({ hive_id: 'hive-1', hive_url: url }), token, '/v1/hive/ready');
  for (const [way, ask] of shipped.ways) {
    await shipped.passed(ask, ready('http://192.168.1.11:7835'), way);
    for (const url of [
      'http://169.254.169.254/latest/meta-data',
      'http://169.254.169.254:7835',
      'http://127.0.0.1:7835',
      'http://localhost:7835',
      'http://[::ffff:127.0.0.1]:7835',
      'http://192.168.1.12:7835',
      'http://192.168.1.11:22',
    ]) {
      const answer = await shipped.refused(ask, ready(url), 400, `${way}: ${url}`);
      assert.match(JSON.stringify(reasonsOf(answer)), /"in":"body","name":"hive_url","rule":"url_/);
      assert.ok(!answer.body.includes('169.254') && !answer.body.includes('192.168'), 'the value is not repeated');
    }
    await shipped.refused(ask, ready('http://192.168.1.11:7835', shipped.token('keyholder-0')), 401, way);
  }
});

test('rbee-hive: a queen is looked for at her own address, and at no other', async () => {
  await using shipped = await Shipped.start('rbee-hive');
  const token = shipped.token('node-0');
  const look = (query: string): Asked => ({ method: 'GET', path: `/v1/capabilities${query}`, token });
  for (const [way, ask] of shipped.ways) {
    await shipped.passed(ask, look(''), way);
    await shipped.passed(ask, look('?queen_url=http://192.168.1.10:7833'), way);
    for (const query of [
      '?queen_url=http://169.254.169.254/',
      '?queen_url=http://127.0.0.1:7833',
      '?queen_url=http%3A%2F%2F203.0.113.7%3A7833',
      '?queen%5furl=http://203.0.113.7:7833',
      '?queen_url=http://192.168.1.10:7833&queen_url=http://203.0.113.7:7833',
    ]) {
      await shipped.refused(ask, look(query), 400, `${way}: ${query}`);
    }
  }
});

test('rbee-worker: it infers for those who may, at both of its paths, and does nothing else', async () => {
  await using shipped = await Shipped.start('rbee-worker');
  const [token, other, nothing] = [
    shipped.token('operator-0'),
    shipped.token('operator-1'),
    shipped.token('nothing-0'),
  ];
  const infer = '{ "operation":"infer","prompt":"hello","max_tokens":2048,"temperature":2,"stop":["\\n"] }';
  for (const [way, ask] of shipped.ways) {
    for (const path of ['/v1/jobs', '/v1/inference']) {
      const { body } = await shipped.passed(ask, submission(infer, token, path), `${way} ${path}`);
      const stream = `${path}/${(JSON.parse(body) as { job_id: string }).job_id}/stream`;
      await shipped.refused(ask, { method: 'GET', path: stream, token: other }, 403, way);
      await shipped.passed(ask, { method: 'GET', path: stream, token }, way);
      await shipped.refused(ask, submission(infer, nothing, path), 403, way);
      await shipped.refused(ask, submission(infer, null, path), 401, way);
      await shipped.refused(ask, submission('{"operation":"infer"}', other, path), 400, way);
      await shipped.refused(ask, submission('{"prompt":"hello"}', other, path), 403, way);
      for (const [operation] of OPERATIONS) {
        if (operation.includes('"infer"')) continue;
        const person = shipped.token(`operator-${String(2 + (operation.length % 6))}`);
        await shipped.refused(ask, submission(operation, person, path), 403, `${way}: ${operation}`);
      }
    }
  }
});
