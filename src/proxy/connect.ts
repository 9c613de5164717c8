import { type Socket, connect } from 'node:net';
import { NotThisMachineError, isThisMachine, lookupThisMachine } from '../net/this-machine.js';
import type { Upstream } from '../policy/policy.js';
import { GivenUp } from './upstream-failure.js';

const CONNECT_MS = 5_000;
const KEEP_ALIVE_MS = 60_000;

/**
 * Opens a socket to an upstream. Where it must be this machine, both the addresses of its name and the address that was
 * really reached are looked at: DNS and /etc/hosts change after the policy was read.
 * @param done called once
 */
export function openSocket(
  upstream: Upstream,
  done: (result: Socket | { readonly error: Error }) => void,
): { readonly cancel: () => void } {
  const { target, mustBeLoopback } = upstream;
  // A WebSocket's directions end one by one; without `allowHalfOpen` Node closes the other for us.
  const options = { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  const socket =
    target.kind === 'unix'
      ? connect({ ...options, path: target.path })
      : connect({
          ...options,
          host: target.host,
          port: target.port,
          ...(mustBeLoopback ? { lookup: lookupThisMachine } : {}),
        });
  const settle = (result: Socket | { readonly error: Error }): void => {
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
