import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type SupposedRequest, type Supposition, suppose } from '../../src/gate/policy-tests.js';
import { loadPolicyText } from '../../src/policy/load.js';
import type { HttpListener, Policy, Route } from '../../src/policy/policy.js';

export const PRESETS = [
  'quickstart',
  'metrics',
  'rbee-queen',
  'rbee-hive',
  'rbee-worker',
  'kohakuriver-host',
  'kohakuriver-runner',
  'fetchml',
  'maestro',
] as const;

export const EXAMPLES = ['prometheus', 'systemd', 'compose'] as const;

export const NOW = Date.UTC(2026, 10, 22);

export interface PolicySource {
  readonly file: string;
  readonly text: string;
}

export function preset(name: string): PolicySource {
  return source(`policies/${name}.yaml`);
}

export function example(name: string): PolicySource {
  return source(`examples/${name}/policy.yaml`);
}

function source(path: string): PolicySource {
  const file = fileURLToPath(new URL(`../../../${path}`, import.meta.url));
  return { file, text: readFileSync(file, 'utf8') };
}

/** The rules alone: tokens, certificates and keys are the user's to make. */
export async function rulesOf({ file, text }: PolicySource): Promise<Policy> {
  const loaded = await loadPolicyText(text, file, { env: {}, now: NOW, skipSecretFiles: true });
  assert.ok(loaded.ok, JSON.stringify(loaded));
  return loaded.policy;
}

export function httpListeners(policy: Policy): HttpListener[] {
  return policy.listeners.filter((listener) => listener.type === 'http');
}

/** A caller from an allowed place, who asks for what the route is about. */
export function requestFor(listener: HttpListener, route: Route, as: SupposedRequest['as']): SupposedRequest {
  return {
    listener: listener.name,
    method: [...(route.methods ?? ['POST'])][0] ?? 'GET',
    target: targetOf(route),
    host: null,
    from: firstAddress(route, listener),
    upgrade: route.pattern.startsWith('/ws/'),
    as,
  };
}

/** A path that only this pattern was written for: parameters filled, something below `**`. */
export function targetOf(route: Route): string {
  return route.pattern.replace(/\{[a-z0-9_]+\}/g, 'x1').replace('**', 'some/thing');
}

function firstAddress(route: Route, listener: HttpListener): string {
  const range = (route.from ?? listener.allowFrom)?.texts[0] ?? '127.0.0.1';
  return range.replace(/\/.*$/, '');
}

export function ask(policy: Policy, request: SupposedRequest): Supposition {
  return suppose(policy, request, NOW);
}
