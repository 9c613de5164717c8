import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseDocument } from 'yaml';
import { testPolicy } from '../../src/cli/check.js';
import { loadPolicyText } from '../../src/policy/load.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { EXAMPLES, NOW, PRESETS, type PolicySource, example, preset, rulesOf } from './presets.js';

function failuresOf(results: ReturnType<typeof testPolicy>): string[] {
  return results
    .filter((result) => !result.passed)
    .map(({ test: { position, name }, message }) => `line ${position.line}, ${name}: ${message}`);
}

async function ownFailures(source: PolicySource): Promise<string[]> {
  return failuresOf(testPolicy(await rulesOf(source), NOW));
}

for (const name of PRESETS) {
  test(`${name}: says in its first lines what it is, opens, closes and cannot do`, () => {
    const { text } = preset(name);
    assert.match(text, /^# yaml-language-server: \$schema=\.\/policy\.schema\.json\n#\n# \S/);
    for (const word of ['Opens', 'Closes', "Can't", 'Steps', 'guardbee token new', 'guardbee check', 'guardbee run']) {
      assert.ok(text.includes(word), word);
    }
  });

  test(`${name}: passes its own tests`, async () => {
    const policy = await rulesOf(preset(name));
    const expectations = policy.tests.flatMap((one) =>
      one.kind === 'connection' ? [] : one.expect.kind === 'allow' ? 'allow' : one.expect.status,
    );
    for (const needed of ['allow', 401, 403] as const) assert.ok(expectations.includes(needed), String(needed));
    assert.deepEqual(failuresOf(testPolicy(policy, NOW)), []);
  });

  test(`${name}: lacks nothing but its tokens`, async () => {
    using elsewhere = new TemporaryDirectory();
    const { text } = preset(name);
    const options = { env: { HOME: elsewhere.path }, now: NOW };

    const bare = await loadPolicyText(text, elsewhere.file('policy.yaml'), options);
    assert.ok(!bare.ok);
    assert.deepEqual(
      bare.issues.map((issue) => issue.code),
      ['secret_missing'],
    );

    const roles = Object.keys((parseDocument(text).toJS() as { roles: Record<string, string[]> }).roles);
    const tokens = roles.map((role, i) => `  - { name: t${i}, roles: [${role}], sha256: '${String(i).repeat(64)}' }\n`);
    writeFileSync(elsewhere.file('tokens.yaml'), `tokens:\n${tokens.join('')}`, { mode: 0o600 });
    const complete = await loadPolicyText(text, elsewhere.file('policy.yaml'), options);
    assert.ok(complete.ok, JSON.stringify(complete));
    // No route that never decides, no permission or role that nobody has; /health is meant to be public.
    assert.deepEqual(
      complete.warnings.filter((issue) => issue.code !== 'route_public').map(({ code, message }) => [code, message]),
      [],
    );
  });

  test(`${name}: its tests notice when a closed path is opened or the allowed addresses are taken out`, async () => {
    const original = preset(name);
    const written = parseDocument(original.text).toJS() as {
      listeners: Record<string, { type?: string; allow_from?: string[]; routes?: { name: string; deny?: true }[] }>;
      roles: Record<string, string[]>;
    };
    const mutants = new Map<string, string>();
    for (const [listener, { type, allow_from, routes = [] }] of Object.entries(written.listeners)) {
      if (allow_from !== undefined) {
        const document = parseDocument(original.text);
        // Without any, connections that nobody vouches for are not even compiled.
        if (type === 'tcp') document.setIn(['listeners', listener, 'allow_from'], ['0.0.0.0/0', '::/0']);
        else document.deleteIn(['listeners', listener, 'allow_from']);
        mutants.set(`${listener} without allow_from`, document.toString());
      }
      for (const [index, route] of routes.entries()) {
        if (route.deny !== true) continue;
        const document = parseDocument(original.text);
        document.deleteIn(['listeners', listener, 'routes', index, 'deny']);
        document.setIn(['listeners', listener, 'routes', index, 'require'], Object.keys(written.roles));
        mutants.set(`with the route ${route.name} open`, document.toString());
      }
    }
    for (const [what, text] of mutants) {
      assert.notDeepEqual(await ownFailures({ file: original.file, text }), [], `${what} all its tests still pass`);
    }
  });
}

for (const name of EXAMPLES) {
  test(`the example ${name}: passes its own tests`, async () => {
    assert.deepEqual(await ownFailures(example(name)), []);
  });
}

test('the Compose example opens what the preset for the queen opens', async () => {
  const routes = async (source: PolicySource): Promise<unknown[]> =>
    (await rulesOf(source)).listeners.flatMap((listener) =>
      listener.type === 'http'
        ? listener.routes.routes.map((route) => [route.name, route.pattern, route.methods, route.access])
        : [],
    );
  assert.deepEqual(await routes(example('compose')), await routes(preset('rbee-queen')));
});
