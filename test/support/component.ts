import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { TestContext } from 'node:test';

/** Programs that some tests need, the Debian packages they come in, and what to look for. */
export const COMPONENTS = Object.freeze({
  chromium: { package: 'chromium', command: 'chromium' },
  curl: { package: 'curl', command: 'curl' },
  h2load: { package: 'nghttp2-client', command: 'h2load' },
  nghttp: { package: 'nghttp2-client', command: 'nghttp' },
  haproxy: { package: 'haproxy', command: 'haproxy' },
  htpasswd: { package: 'apache2-utils', command: 'htpasswd' },
  netcat: { package: 'netcat-openbsd', command: 'nc' },
  openssl: { package: 'openssl', command: 'openssl' },
  pebble: { package: 'pebble', command: 'pebble' },
  prometheus: { package: 'prometheus', command: 'prometheus' },
  promtool: { package: 'prometheus', command: 'promtool' },
  ps: { package: 'procps', command: 'ps' },
  'python3-websockets': { package: 'python3-websockets', command: 'python3', module: 'websockets' },
  'systemd-analyze': { package: 'systemd', command: 'systemd-analyze' },
  'systemd-notify': { package: 'systemd', command: 'systemd-notify' },
  'systemd-socket-activate': { package: 'systemd', command: 'systemd-socket-activate' },
  'redis-server': { package: 'redis-server', command: 'redis-server' },
  ssh: { package: 'openssh-client', command: 'ssh' },
  'ssh-keygen': { package: 'openssh-client', command: 'ssh-keygen' },
  sshd: { package: 'openssh-server', command: 'sshd' },
  wrk: { package: 'wrk', command: 'wrk' },
}) satisfies Record<string, { package: string; command: string; module?: string }>;

export type Component = keyof typeof COMPONENTS;

const found = new Map<Component, string | null>();

/**
 * Path of the program, or null after marking the test as skipped. In CI nothing is skipped: there it throws.
 *
 *     const curl = requireComponent('curl', t);
 *     if (curl === null) return;
 */
export function requireComponent(component: Component, t: TestContext): string | null {
  const path = find(component);
  if (path !== null) return path;
  const complaint = `needs ${component} (Debian package ${COMPONENTS[component].package})`;
  if (process.env['CI'] === 'true') throw new Error(`${complaint}, which CI must have`);
  t.skip(complaint);
  return null;
}

function find(component: Component): string | null {
  let path = found.get(component);
  if (path === undefined) {
    path = look(COMPONENTS[component]);
    found.set(component, path);
  }
  return path;
}

function look(row: { readonly command: string; readonly module?: string }): string | null {
  // Services are there, and not in the PATH of everybody.
  const paths = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin']
    .map((folder) => join(folder, row.command))
    .filter(isExecutable);
  const { module } = row;
  if (module === undefined) return paths[0] ?? null;
  // The first python3 may be another than the one that Debian's modules are for.
  return paths.find((path) => spawnSync(path, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
