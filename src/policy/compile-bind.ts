import { isUnspecified, sameAddress } from '../net/address.js';
import { CidrSet } from '../net/cidr-set.js';
import type { CidrRange } from '../net/cidr.js';
import { formatBind } from './bind.js';
import type { ParsedBind } from './bind.js';
import { compileAcmeHosts } from './compile-acme.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { Material } from './material.js';
import type { Bind, TlsSettings } from './policy.js';
import type { TlsEntry } from './schema.js';

/** No two sockets on one address and port. Addresses stand with the node of their text. */
export function findDuplicateBinds(
  binds: readonly { readonly bind: ParsedBind; readonly node: Draft | null }[],
  findings: Findings,
): void {
  for (const [index, { bind, node }] of binds.entries()) {
    // Port 0 is a free one, so never that of another.
    if (bind.port === 0 && bind.path === undefined) continue;
    const earlier = binds.slice(0, index).find((other) => overlap(other.bind, bind));
    if (earlier === undefined) continue;
    findings.error(
      'duplicate_bind',
      node,
      'value',
      `${formatBind(bind)} is taken by ${formatBind(earlier.bind)} in line ${earlier.node?.origin.at.line ?? 0}`,
      'give one of them another port or address',
    );
  }
}

/** The wildcard address takes the port on every address of its family. */
function overlap(a: ParsedBind, b: ParsedBind): boolean {
  if (a.path !== undefined || b.path !== undefined) return a.path === b.path;
  if (a.port > (b.lastPort ?? b.port) || b.port > (a.lastPort ?? a.port)) return false;
  if (sameAddress(a.address, b.address)) return true;
  return a.address.family === b.address.family && (isUnspecified(a.address) || isUnspecified(b.address));
}

export function compileBind(bind: ParsedBind, node: Draft | null, socket?: string): Bind {
  const position = node?.origin.at ?? { line: 0, column: 0 };
  const { host, port, loopback, path } = bind;
  return { host, port, loopback, socket: socket ?? null, position, ...(path === undefined ? {} : { path }) };
}

export function rangesOrNull(ranges: readonly CidrRange[] | undefined): CidrSet | null {
  return ranges === undefined ? null : new CidrSet(ranges);
}

/** @param hosts of the listener; undefined: it has none */
export function compileTls(
  tls: TlsEntry | undefined,
  hosts: readonly string[] | undefined,
  listener: Draft,
  { material, findings }: { readonly material: Material; readonly findings: Findings },
): TlsSettings | null {
  const node = listener.get('tls');
  if (tls === undefined || node === null) return null;
  if ('acme' in tls) return { kind: 'acme', hosts: compileAcmeHosts(tls.acme, hosts, listener, findings) };
  if ('self_signed' in tls) return { kind: 'self_signed', names: [...new Set(tls.self_signed.names)] };
  const nodes = 'cert' in tls ? [node] : (node.get('certificates')?.items ?? []);
  return { kind: 'files', certificates: nodes.flatMap((one) => material.certificates.get(one) ?? []) };
}
