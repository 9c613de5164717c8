import { isUnspecified, parseAddress, sameAddress } from '../net/address.js';
import type { ParsedBind } from './bind.js';
import { formatBind } from './bind.js';
import type { Draft } from './draft.js';
import type { Outbound } from './compile-outbound.js';
import type { Findings } from './findings.js';
import type { Material } from './material.js';
import type { Upstream } from './policy.js';
import { loopbackHint } from './upstream.js';
import type { ParsedUpstream } from './upstream.js';

interface Context {
  readonly material: Material;
  readonly findings: Findings;
}

/** The upstreams of a policy, each once. */
export class CompiledUpstreams {
  readonly #context: Context;
  readonly #byKey = new Map<string, Upstream>();

  constructor(context: Context) {
    this.#context = context;
  }

  all(): readonly Upstream[] {
    return [...this.#byKey.values()];
  }

  /** Checks where the upstream is; `node` is that of its text. */
  compile(
    upstream: ParsedUpstream,
    own: ParsedBind,
    remoteAllowed: boolean,
    node: Draft | null,
    scheme: 'http' | 'tcp' = 'http',
  ): Upstream {
    if (upstream.secure) this.#refuseTls(upstream, node);
    else if (!remoteAllowed) this.#checkLoopback(upstream, node, scheme);
    this.#checkNotItself(upstream, own, node);
    const mustBeLoopback = upstream.nearness === 'loopback' || !remoteAllowed;
    const key = `${mustBeLoopback} ${upstream.name}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const { name, authority, target } = upstream;
    const compiled: Upstream = { name, authority, target, mustBeLoopback, tls: null };
    this.#byKey.set(key, compiled);
    return compiled;
  }

  /** Of an outbound listener; null where it may be none. */
  compileOutbound(upstream: ParsedUpstream, own: ParsedBind, outbound: Outbound, node: Draft | null): Upstream | null {
    this.#checkNotItself(upstream, own, node);
    const far = outbound.tlsOf(upstream, node);
    if (far === null) return null;
    const key = `${far.tls.digest} ${upstream.name}`;
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const { name, target } = upstream;
    const compiled: Upstream = { name, authority: far.authority, target, mustBeLoopback: false, tls: far.tls };
    this.#byKey.set(key, compiled);
    return compiled;
  }

  #refuseTls({ target }: ParsedUpstream, node: Draft | null): void {
    const port = target.kind === 'tcp' ? target.port : 443;
    this.#context.findings.error(
      'bad_upstream',
      node,
      'value',
      'TLS is spoken with the upstream of an outbound listener; that of any other is on this machine and needs none',
      `write http://127.0.0.1:${port}; for a service elsewhere that programs of this machine call, write outbound: true in the listener`,
    );
  }

  /** A service that moved nowhere when guardbee took its port. */
  #checkNotItself({ name, target }: ParsedUpstream, own: ParsedBind, node: Draft | null): void {
    if (target.kind !== 'tcp') return;
    if (target.port > (own.lastPort ?? own.port) || (target.lastPort ?? target.port) < own.port) return;
    const address = parseAddress(target.host === 'localhost' ? '127.0.0.1' : target.host);
    if (address === null || !(sameAddress(address, own.address) || isUnspecified(own.address))) return;
    this.#context.findings.error(
      'upstream_is_listener',
      node,
      'value',
      `${name} is where this listener itself listens (${formatBind(own)}), so requests would go round in a circle`,
      'let the service listen on another port, and write that here',
    );
  }

  #checkLoopback(upstream: ParsedUpstream, node: Draft | null, scheme: 'http' | 'tcp'): void {
    if (upstream.nearness === 'loopback' || upstream.target.kind !== 'tcp') return;
    const { host } = upstream.target;
    const refuse = (why: string): void =>
      this.#context.findings.error(
        'upstream_not_loopback',
        node,
        'value',
        `refusing ${upstream.name}: ${why}; allowed is this machine alone (loopback), or a unix socket`,
        loopbackHint(upstream, scheme),
      );
    if (upstream.nearness === 'remote') {
      refuse('it is not loopback, so others can reach it too and see what is sent to it');
      return;
    }
    const looked = this.#context.material.hosts.get(host);
    if (looked?.kind === 'remote') refuse(`the name has the address ${looked.address}, which others can reach too`);
    else if (looked?.kind === 'unknown')
      refuse(`the name cannot be resolved (${looked.why}), so it is not known to be this machine`);
  }
}
