import { NotThisMachineError, isThisMachine, lookupThisMachine } from '../net/this-machine.js';
import type { Upstream } from '../policy/policy.js';
import { GivenUp } from './upstream-failure.js';
import { type ConnectedSocket, UpstreamSocket } from './upstream-socket.js';

const CONNECT_MS = 5_000;
const KEEP_ALIVE_MS = 60_000;

/** Called once. */
export type Connected = (result: ConnectedSocket | { readonly error: Error }) => void;

export interface Connecting {
  readonly cancel: () => void;
}

/**
 * Opens a socket to an upstream. Where it must be this machine, both the addresses of its name and the address that was
 * really reached are looked at: DNS and /etc/hosts change after the policy was read.
 */
export function openSocket(upstream: Upstream, reading: 'shared buffer' | 'stream', done: Connected): Connecting {
  const { target, mustBeLoopback } = upstream;
  const socket = new UpstreamSocket(reading);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  if (target.kind === 'unix') {
    socket.connect({ path: target.path });
  } else {
    const { host, port } = target;
    socket.connect({ host, port, ...(mustBeLoopback ? { lookup: lookupThisMachine } : {}) });
  }
  const settle: Connected = (result) => {
    clearTimeout(timer);
    socket.off('connect', onConnect);
    socket.off('error', onError);
    if ('error' in result) {
      // A late error of a socket that nobody uses must not become an uncaught one.
      socket.on('error', () => undefined);
      socket.destroy();
    }
    done(result);
  };
  const onConnect = (): void => {
    const sound = !mustBeLoopback || target.kind === 'unix' || isThisMachine(socket.remoteAddress);
    settle(sound ? socket : { error: new NotThisMachineError() });
  };
  const onError = (error: Error): void => {
    settle({ error });
  };
  const timer = setTimeout(() => {
    settle({ error: new GivenUp('upstream_timeout') });
  }, CONNECT_MS);
  socket.on('connect', onConnect);
  socket.on('error', onError);
  return {
    cancel: () => {
      clearTimeout(timer);
      socket.off('connect', onConnect);
      socket.off('error', onError);
      socket.on('error', () => undefined);
      socket.destroy();
    },
  };
}
