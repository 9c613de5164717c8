/** Compose and Kubernetes can't be run here: what they say is held against the policies in them and the Containerfile. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { testPolicy } from '../../src/cli/check.js';
import { loadPolicyText } from '../../src/policy/load.js';
import type { HttpListener, Policy } from '../../src/policy/policy.js';
import { REPOSITORY } from '../support/process.js';
import { NOW, example, httpListeners, rulesOf } from './presets.js';

type Tree = Readonly<Record<string, unknown>>;

const text = (...path: string[]): string => readFileSync(join(REPOSITORY, ...path), 'utf8');
const CONTAINERFILE = text('Containerfile');

/** What stands at a path of keys and places; undefined where nothing does. */
function at(tree: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>((here, key) => (here as Tree | undefined)?.[key], tree);
}

function list(tree: unknown, ...path: readonly (string | number)[]): Tree[] {
  const found = at(tree, ...path);
  assert.ok(Array.isArray(found), path.join('.'));
  return found as Tree[];
}

function onlyListener(policy: Policy): HttpListener {
  const [listener, ...others] = httpListeners(policy);
  assert.ok(listener !== undefined && others.length === 0);
  return listener;
}

/** Paths of secrets, as the policy writes them. */
function secretPathsIn(policyText: string): string[] {
  return [...policyText.matchAll(/\/run\/secrets\/[\w./-]+/g)].map(([path]) => path);
}

const containerfile = {
  /** Of each instruction the last. */
  last: (name: string): string =>
    [...CONTAINERFILE.replace(/\\\n\s*/g, '').matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].at(-1)?.[1] ?? '',
};

test('the image runs a Node line with long-term support, as an ordinary user, without a shell', () => {
  const bases = [...CONTAINERFILE.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base);
  assert.deepEqual(bases, ['node:24-slim', 'node:24-slim']);
  assert.equal(containerfile.last('USER'), 'node');
  const entry = ['node', '/opt/guardbee/dist/src/cli/guardbee.js'];
  assert.deepEqual(JSON.parse(containerfile.last('ENTRYPOINT')), entry);
  assert.deepEqual(JSON.parse(containerfile.last('CMD')), ['run']);
  const health = /^(?:--\S+ )+CMD (\[.*\])$/.exec(containerfile.last('HEALTHCHECK'))?.[1];
  assert.deepEqual(JSON.parse(health ?? 'null'), [...entry, 'health']);
  assert.match(containerfile.last('ENV'), /GUARDBEE_POLICY=\/etc\/guardbee\/policy\.yaml$/);
});

test('what the Containerfile copies is let through to it, and nothing that holds a secret', () => {
  const [first, ...through] = text('Containerfile.dockerignore').trim().split('\n');
  assert.equal(first, '*');
  const copied = [...CONTAINERFILE.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = '']) =>
    names.split(' '),
  );
  for (const name of copied) {
    assert.ok(
      through.some((line) => line === `!${name}` || line.startsWith(`!${name}/`)),
      `${name} is copied and ignored`,
    );
  }
  assert.ok(through.includes('**/tokens.yaml'));
});

test('Compose: ports, paths, times and rights fit the policy', async () => {
  const compose: unknown = parse(text('examples', 'compose', 'compose.yaml'));
  const source = example('compose');
  const policy = await rulesOf(source);
  const guard = at(compose, 'services', 'guardbee');
  assert.equal(at(guard, 'network_mode'), 'service:queen');
  assert.equal(at(guard, 'read_only'), true);
  assert.deepEqual(at(guard, 'cap_drop'), ['ALL']);
  assert.match(String(at(guard, 'user')), /^[1-9]\d*:[1-9]\d*$/);
  const { bind } = onlyListener(policy);
  assert.deepEqual(at(compose, 'services', 'queen', 'ports'), [`${String(bind.port)}:${String(bind.port)}`]);
  const { target } = policy.upstreams[0] ?? {};
  assert.ok(target?.kind === 'tcp');
  assert.ok((at(compose, 'services', 'queen', 'command') as string[]).includes(String(target.port)));
  const mounted = (at(guard, 'secrets') as string[]).map((name) => `/run/secrets/${name}`);
  assert.deepEqual([...new Set(secretPathsIn(source.text))].sort(), [...mounted].sort());
  assert.deepEqual(at(guard, 'healthcheck', 'test'), ['CMD', 'guardbee', 'health']);
  assert.ok(policy.admin !== null);
  const grace = /^(\d+)s$/.exec(String(at(guard, 'stop_grace_period')))?.[1];
  assert.ok(Number(grace) * 1000 > policy.drainMs);
});

test('Kubernetes: the policy in the ConfigMap passes its tests, and lacks nothing but its secrets', async () => {
  const policyText = policyInManifest();
  const policy = await rulesOf({ file: 'policy.yaml', text: policyText });
  assert.ok(policy.tests.length > 3);
  const results = testPolicy(policy, NOW);
  assert.deepEqual(
    results.filter(({ passed }) => !passed).map(({ message }) => message),
    [],
  );
  const bare = await loadPolicyText(policyText, '/etc/guardbee/policy.yaml', { env: {}, now: NOW });
  assert.ok(!bare.ok);
  for (const { code } of bare.issues) assert.ok(code.endsWith('_missing'), code);
});

test('Kubernetes: ports, paths, times and rights fit the policy', async () => {
  const { deployment, service, network } = manifest();
  const policyText = policyInManifest();
  const policy = await rulesOf({ file: 'policy.yaml', text: policyText });
  const pod = at(deployment, 'spec', 'template', 'spec');
  const [app, guard] = list(pod, 'containers');
  assert.equal(at(guard, 'name'), 'guardbee');

  const { bind } = onlyListener(policy);
  assert.deepEqual(at(guard, 'ports'), [{ name: 'https', containerPort: bind.port }]);
  assert.equal(at(service, 'spec', 'ports', 0, 'targetPort'), 'https');
  assert.deepEqual(at(network, 'spec', 'ingress', 0, 'ports'), [{ protocol: 'TCP', port: bind.port }]);
  const labels = at(deployment, 'spec', 'template', 'metadata', 'labels');
  for (const selector of [
    at(service, 'spec', 'selector'),
    at(network, 'spec', 'podSelector', 'matchLabels'),
    at(deployment, 'spec', 'selector', 'matchLabels'),
  ])
    assert.deepEqual(selector, labels);
  const { target } = policy.upstreams[0] ?? {};
  assert.ok(target?.kind === 'tcp');
  assert.deepEqual((at(app, 'args') as string[]).slice(-1), [String(target.port)]);

  assert.ok(policy.admin !== null);
  const admin = `${policy.admin.host}:${String(policy.admin.port)}`;
  for (const probe of ['readinessProbe', 'livenessProbe']) {
    const command = at(guard, probe, 'exec', 'command') as string[];
    assert.deepEqual([command[0], command[1], ...command.slice(-2)], ['guardbee', 'health', '--admin', admin]);
  }

  const seconds = (one: unknown): number => Number(at(one, 'lifecycle', 'preStop', 'sleep', 'seconds'));
  const drain = seconds(guard) + policy.drainMs / 1000;
  assert.ok(seconds(app) >= drain, 'the service is there while guardbee drains');
  assert.ok(Number(at(pod, 'terminationGracePeriodSeconds')) >= drain + 10, 'and guardbee may end what is left');

  const user = at(pod, 'securityContext');
  assert.equal(at(user, 'runAsNonRoot'), true);
  assert.equal(at(user, 'runAsUser'), 1000);
  assert.equal(at(user, 'fsGroup'), at(user, 'runAsGroup'));
  assert.equal(at(user, 'seccompProfile', 'type'), 'RuntimeDefault');
  for (const one of [app, guard]) {
    assert.deepEqual(at(one, 'securityContext'), {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
  }

  const mounts = new Map(list(guard, 'volumeMounts').map(({ name, mountPath }) => [String(name), String(mountPath)]));
  const volumes = new Map(list(pod, 'volumes').map((volume) => [String(volume['name']), volume]));
  assert.deepEqual([...mounts.keys()].sort(), [...volumes.keys()].sort());
  assert.equal(`${mounts.get('policy') ?? ''}/policy.yaml`, '/etc/guardbee/policy.yaml');
  assert.ok(policy.stateDir.startsWith(`${mounts.get('state') ?? ''}/`), 'the volume itself is everyone’s');
  const projected = at(volumes.get('secrets'), 'projected');
  assert.equal(at(projected, 'defaultMode'), 0o440);
  const paths = list(projected, 'sources').flatMap((one) =>
    list(one, 'secret', 'items').map(({ path }) => `${mounts.get('secrets') ?? ''}/${String(path)}`),
  );
  assert.deepEqual([...new Set(secretPathsIn(policyText))].sort(), paths.sort());
});

function manifest(): { config: unknown; deployment: unknown; service: unknown; network: unknown } {
  const documents = parseAllDocuments(text('examples', 'kubernetes', 'app.yaml'));
  assert.ok(Array.isArray(documents));
  const trees = documents.map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as unknown;
  });
  const of = (kind: string): unknown => {
    const found = trees.filter((tree) => at(tree, 'kind') === kind);
    assert.equal(found.length, 1, kind);
    return found[0];
  };
  return {
    config: of('ConfigMap'),
    deployment: of('Deployment'),
    service: of('Service'),
    network: of('NetworkPolicy'),
  };
}

function policyInManifest(): string {
  const found = at(manifest().config, 'data', 'policy.yaml');
  assert.equal(typeof found, 'string');
  return found as string;
}
