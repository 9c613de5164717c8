import * as path from 'node:path';
import { Secret } from '../secret/secret.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { namesLoopback } from './loopback-name.js';
import type { Material } from './material.js';
import type { AuditSettings, DeliverySettings } from './policy.js';
import type { AuditEntry, DeliveryEntry } from './schema-audit.js';

const DAY_MS = 86_400_000;
const MIB = 1024 * 1024;

interface Context {
  /** Absolute; a relative directory starts there. */
  readonly baseDir: string;
  /** Absolute; where the trail is kept unless the policy says. */
  readonly stateDir: string;
  readonly material: Material;
  readonly findings: Findings;
}

export function compileAudit(
  entry: AuditEntry | undefined,
  node: Draft | null,
  context: Context,
): AuditSettings | null {
  if (entry === undefined) return null;
  const { baseDir, stateDir, findings } = context;
  if (node !== null && Object.keys(entry).length === 0) {
    findings.missing(
      node,
      'on_failure',
      'missing, needed is one key at least',
      'write on_failure: deny, or remove audit',
    );
  }
  return {
    dir: entry.dir === undefined ? path.join(stateDir, 'audit', 'log') : path.resolve(baseDir, entry.dir),
    onFailure: entry.on_failure ?? 'deny',
    checkpointRecords: entry.checkpoint?.records ?? 1000,
    checkpointMs: entry.checkpoint?.interval ?? 60_000,
    segmentBytes: entry.rotate?.size ?? 64 * MIB,
    // Seven years, what SOC 2 asks for at most.
    keepMs: entry.keep ?? 2555 * DAY_MS,
    minFreeBytes: entry.min_free ?? 64 * MIB,
    deliver: compileDelivery(entry.deliver, node?.get('deliver') ?? null, context),
  };
}

function compileDelivery(
  entry: DeliveryEntry | undefined,
  node: Draft | null,
  { material, findings }: Context,
): DeliverySettings | null {
  if (entry === undefined || node === null) return null;
  checkCredentials(entry, node, findings);
  const pairNode = node.get('client_certificate');
  return {
    url: entry.url,
    token: compileToken(node.get('token'), material, findings),
    certificate: (pairNode === null ? undefined : material.certificates.get(pairNode)) ?? null,
    authority: material.clientAuthorities.get(node) ?? null,
    batchRecords: entry.batch?.records ?? 500,
    batchBytes: entry.batch?.bytes ?? MIB,
    batchMs: entry.batch?.interval ?? 1000,
    wait: entry.wait ?? false,
  };
}

function checkCredentials(entry: DeliveryEntry, node: Draft, findings: Findings): void {
  const { protocol, hostname } = new URL(entry.url);
  if (!node.declares('token') && !node.declares('client_certificate') && !namesLoopback(hostname)) {
    findings.missing(
      node,
      'token',
      'missing, needed is token or client_certificate: a collector that takes records of anybody takes forged ones too',
      'write token: { file: PATH } or client_certificate: { cert: FILE, key: FILE }',
    );
  }
  if (protocol === 'https:') return;
  for (const key of ['client_certificate', 'ca'] as const) {
    if (!node.declares(key)) continue;
    findings.error(
      'wrong_value',
      node.get(key),
      'key',
      'there is no TLS to use it in',
      'remove it, or write https://…',
    );
  }
}

const LONGEST_TOKEN = 8192;

function compileToken(node: Draft | null, material: Material, findings: Findings): Secret | null {
  const bytes = node === null ? undefined : material.secrets.get(node);
  if (bytes === undefined) return null;
  if (bytes.length <= LONGEST_TOKEN && bytes.every((byte) => byte >= 0x21 && byte <= 0x7e)) {
    return Secret.fromBytes(bytes);
  }
  findings.error(
    'secret_malformed',
    node,
    'value',
    `the token cannot be shown in a header field: allowed are at most ${LONGEST_TOKEN} printable ASCII characters without blanks`,
  );
  return null;
}
