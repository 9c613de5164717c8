/** Who a request is addressed to: the Host field, or `:authority` in HTTP/2 (RFC 9110 §7.2). */
export interface Authority {
  /** As sent; this is what the upstream gets. */
  readonly text: string;
  /** Lower case, no port, no trailing dot, no brackets. */
  readonly name: string;
  /** Null where none was given. */
  readonly port: number | null;
}

const REG_NAME = /^([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::([0-9]{1,5}))?$/;
const IPV6 = /^\[([0-9A-Fa-f:.]{2,45})\](?::([0-9]{1,5}))?$/;

/** Null when it isn't a host: userinfo, paths, blanks and percent-encoding are not allowed in it. */
export function readAuthority(text: string): Authority | null {
  const found = REG_NAME.exec(text) ?? IPV6.exec(text);
  if (found === null) return null;
  const port = found[2] === undefined ? null : Number(found[2]);
  if (port !== null && port > 65535) return null;
  const name = (found[1] ?? '').toLowerCase();
  return { text, name: name.endsWith('.') ? name.slice(0, -1) : name, port };
}

/** The same host, whatever the case, and with the scheme's own port counting as none. */
export function sameAuthority(a: Authority, b: Authority, scheme: 'http' | 'https'): boolean {
  const usual = scheme === 'https' ? 443 : 80;
  return a.name === b.name && (a.port ?? usual) === (b.port ?? usual);
}
