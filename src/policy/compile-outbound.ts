/** Listeners of `outbound: true`, through which programs of this machine call a service elsewhere. */
import { sha256Hex } from '../secret/digest.js';
import { formatBind } from './bind.js';
import { authorityDigest } from './client-authority.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { Material } from './material.js';
import type { UpstreamTls } from './policy.js';
import type { HttpListenerEntry } from './schema.js';
import { OUTBOUND_UPSTREAM_FORM, authorityOf } from './upstream.js';
import type { ParsedUpstream } from './upstream.js';

interface Context {
  readonly material: Material;
  readonly findings: Findings;
}

/** What the upstreams of one listener have in common. */
export interface Outbound {
  /** Refuses what does not speak TLS; `node` is that of the upstream's text. Null: it is refused. */
  tlsOf(upstream: ParsedUpstream, node: Draft | null): { readonly tls: UpstreamTls; readonly authority: string } | null;
}

/** Null: the listener is an ordinary one. @param node of the listener */
export function compileOutbound(
  entry: HttpListenerEntry,
  node: Draft,
  { material, findings }: Context,
): Outbound | null {
  const tlsNode = node.get('upstream_tls');
  if (entry.outbound !== true) {
    if (entry.bind.path !== undefined) {
      findings.error(
        'bad_bind',
        node.get('bind'),
        'value',
        'listening on a unix socket is for outbound listeners',
        'write outbound: true beside it, or an address and a port such as 127.0.0.1:8443',
      );
    }
    findings.error(
      'wrong_value',
      tlsNode,
      'key',
      'this is for outbound listeners: all others have their upstream on this machine, and speak no TLS with it',
      'write outbound: true beside it, or remove it',
    );
    return null;
  }
  checkPlace(entry, node, findings);
  const written = entry.upstream_tls;
  const pairNode = tlsNode?.get('client_certificate') ?? null;
  const authority = (tlsNode === null ? undefined : material.clientAuthorities.get(tlsNode)) ?? null;
  const certificate = (pairNode === null ? undefined : material.certificates.get(pairNode)) ?? null;
  const spki = written?.spki === undefined ? null : new Set(written.spki.map(({ value }) => value));
  const known = JSON.stringify([
    authority === null ? null : authorityDigest(authority),
    certificate === null ? null : [certificate.certPem, certificate.key.digests()],
    spki === null ? null : [...spki].sort(),
  ]);
  return {
    tlsOf: (upstream, upstreamNode) => {
      const { target } = upstream;
      if (!upstream.secure || target.kind !== 'tcp') {
        findings.error(
          'outbound_without_tls',
          upstreamNode,
          'value',
          `refusing ${upstream.name}: an outbound listener speaks TLS alone; allowed is ${OUTBOUND_UPSTREAM_FORM}`,
          'write https://NAME:PORT; for a service on this machine leave out outbound',
        );
        return null;
      }
      const serverName = written?.server_name ?? target.host;
      return {
        tls: { serverName, authority, certificate, spki, digest: sha256Hex(`${serverName} ${known}`) },
        authority: authorityOf(serverName, target.port, true),
      };
    },
  };
}

/** Whoever reaches it has what it shows the upstream: it is for this machine alone. */
function checkPlace({ bind, unsafe_remote_upstream }: HttpListenerEntry, node: Draft, findings: Findings): void {
  const refuse = (at: Draft | null, place: 'key' | 'value', why: string, hint: string): void => {
    findings.error('outbound_not_local', at, place, `refusing ${why}`, hint);
  };
  if (!bind.loopback) {
    refuse(
      node.get('bind'),
      'value',
      `${formatBind(bind)}: an outbound listener is for programs of this machine, and others could use what it shows the upstream`,
      `write bind: 127.0.0.1:${bind.port}`,
    );
  } else if (node.declares('tls')) {
    refuse(
      node.get('tls'),
      'key',
      'tls: an outbound listener is for programs of this machine that speak plain HTTP; TLS is spoken with the upstream',
      'remove it; who its upstream must be stands in upstream_tls',
    );
  }
  if (bind.path !== undefined && node.declares('socket')) {
    findings.error(
      'wrong_value',
      node.get('socket'),
      'key',
      'what systemd hands over here has an address and a port; a unix socket is made by guardbee itself',
      'remove it, or bind 127.0.0.1:PORT',
    );
  }
  if (unsafe_remote_upstream === true) {
    findings.error(
      'wrong_value',
      node.get('unsafe_remote_upstream'),
      'key',
      'the upstreams of an outbound listener may be anywhere, and TLS protects what is sent to them',
      'remove it',
    );
  }
}
