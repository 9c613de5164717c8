import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import httpProxy from 'http-proxy';

/** http-proxy 1.18.1 as its manual shows it, with an identity field set where its manual says: on `proxyReq`. */
export class HttpProxy implements AsyncDisposable {
  readonly port: number;
  readonly #close: () => Promise<void>;
  /** Called when the client of a request is gone, as far as Node's server knows. */
  readonly clientLeft: Promise<void>;

  private constructor(port: number, clientLeft: Promise<void>, close: () => Promise<void>) {
    this.port = port;
    this.clientLeft = clientLeft;
    this.#close = close;
  }

  static async start(target: string): Promise<HttpProxy> {
    const proxy = httpProxy.createProxyServer({ target });
    proxy.on('proxyReq', (request) => {
      request.setHeader('x-auth-user', 'nobody');
    });
    proxy.on('error', (_error, _request, response) => {
      response.end();
    });
    let left: () => void = () => undefined;
    const clientLeft = new Promise<void>((resolve) => {
      left = resolve;
    });
    const server = createServer((request, response) => {
      response.once('close', () => {
        if (!response.writableFinished) left();
      });
      proxy.web(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return new HttpProxy(port, clientLeft, async () => {
      proxy.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
