/** A listener of `type: tcp`: who may connect, and where the bytes go. */
import { z } from 'zod';
import { connectionCounts } from './schema-limits.js';
import {
  bindPorts,
  durationOrNone,
  duration,
  flag,
  list,
  map,
  name,
  names,
  range,
  ranges,
  socketName,
  tcpUpstream,
} from './schema-scalars.js';
import { tls } from './schema-tls.js';

export const proxyProtocol = z.literal('require', { error: 'require' }).meta({
  description: 'Trusted proxies begin each connection with a PROXY header (v1 or v2), or are closed',
});

export const tcpListener = map('a map with type: tcp, bind, upstream and who may connect', {
  type: z.literal('tcp'),
  bind: bindPorts,
  socket: socketName.optional(),
  upstream: tcpUpstream,
  allow_from: ranges.optional().meta({ description: "The socket's peer" }),
  from: ranges.optional().meta({ description: 'The client, after trusted proxies' }),
  tls: tls.optional(),
  authenticate: list(name, 'names')
    .optional()
    .meta({ description: 'The authenticator (type: mtls) of client certificates' }),
  require: z
    .union([name, names], { error: 'a permission or role, or a list of them' })
    .optional()
    .meta({ description: 'Permissions or roles, any of which is enough' }),
  inner: z
    .literal('ssh', { error: 'ssh' })
    .optional()
    .meta({ description: 'What is passed on encrypts and authenticates by itself' }),
  trusted_proxies: z.array(range, { error: 'a list of addresses and ranges, which may be empty' }).optional(),
  proxy_protocol: proxyProtocol.optional(),
  send_proxy_protocol: z
    .enum(['v1', 'v2'], { error: 'v1 or v2' })
    .optional()
    .meta({ description: 'The upstream is told in a PROXY header who connected' }),
  limits: connectionCounts.optional(),
  timeouts: map('a map such as { handshake: 10s }', {
    handshake: duration.optional(),
    head: duration.optional().meta({ description: 'For the PROXY header' }),
  }).optional(),
  idle: durationOrNone
    .optional()
    .meta({ description: 'A session ends after so long without a byte; none unless given' }),
  streams: map('a map such as { max: 12h }', {
    end_at_expiry: flag.optional().meta({ description: 'A session ends when the certificate it began with expires' }),
    max: durationOrNone.optional().meta({ description: 'The longest that a session may be open' }),
  }).optional(),
  unsafe_plain_tcp: flag.optional(),
  unsafe_no_authentication: flag.optional(),
  unsafe_network_identity: flag.optional(),
});

export type TcpListenerEntry = z.output<typeof tcpListener>;
