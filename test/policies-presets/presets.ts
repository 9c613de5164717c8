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

/** A policy is asked, never changed: many tests may ask the same one. */
const known = new Map<string, Promise<Policy>>();

/** The rules alone: tokens, certificates and keys are the user's to make. */
export async function rulesOf({ file, text }: PolicySource): Promise<Policy> {
  const key = `${file}\n${text}`;
  const policy = known.get(key) ?? load({ file, text });
  known.set(key, policy);
  return await policy;
}

async function load({ file, text }: PolicySource): Promise<Policy> {
  const loaded = await loadPolicyText(text, file, { env: {}, now: NOW, skipSecretFiles: true });
  assert.ok(loaded.ok, JSON.stringify(loaded));
  return loaded.policy;
}

export function httpListeners(policy: Policy): HttpListener[] {
  return policy.listeners.filter((listener) => listener.type === 'http');
}

/** What a member of a body may be where the presets demand that it is there. */
const SOUND_MEMBERS: Readonly<Record<string, string>> = {
  hive_id: 'hive-1',
  hive_url: 'http://192.168.1.11:7835',
  prompt: 'hello',
  url: 'http://127.0.0.1:18001',
};

/**
 * A caller from an allowed place, who asks for what the route is about.
 * @param value of the field that the route decides by; null where it decides by none
 */
export function requestFor(
  listener: HttpListener,
  route: Route,
  as: SupposedRequest['as'],
  value: string | null = null,
): SupposedRequest {
  return {
    listener: listener.name,
    method: [...(route.methods ?? ['POST'])][0] ?? 'GET',
    target: targetOf(route, as?.name),
    host: null,
    from: firstAddress(route, listener),
    upgrade: route.pattern.startsWith('/ws/'),
    body: bodyOf(route, as?.name, value),
    as,
  };
}

/** A path that only this pattern was written for: parameters filled, something below `**`. */
export function targetOf(route: Route, caller = 'x1'): string {
  const fill = (parameter: string): string => {
    const check = route.demands?.head?.path.find((one) => one.name === parameter)?.check;
    return check?.type === 'caller' ? caller : check?.type === 'range' ? '1' : 'x1';
  };
  return route.pattern
    .replace(/\{([a-z0-9_]+)\}/g, (_, parameter: string) => fill(parameter))
    .replace('**', 'some/thing');
}

/** JSON with what must be in it, where bodies are judged. */
function bodyOf(route: Route, caller = 'x1', value: string | null): string | null {
  const rules = route.demands?.body?.json ?? null;
  if (rules === null) return null;
  const members: Record<string, string> = {};
  const field = rules.byValue?.pointer[0];
  if (field !== undefined && value !== null) members[field] = value;
  for (const { name, check } of rules.checks) {
    if (!check.required) continue;
    const sound = check.type === 'caller' ? caller : SOUND_MEMBERS[name];
    assert.ok(sound !== undefined, `${route.name}: nothing is known of ${name}`);
    members[name] = sound;
  }
  return JSON.stringify(members);
}

function firstAddress(route: Route, listener: HttpListener): string {
  const range = (route.from ?? listener.allowFrom)?.texts[0] ?? '127.0.0.1';
  return range.replace(/\/.*$/, '');
}

export function ask(policy: Policy, request: SupposedRequest): Supposition {
  return suppose(policy, request, NOW);
}
