import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type Server, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { listenAt } from '../../src/server/socket-file.js';
import { WatchedProcess } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

describe('the socket of a listener', () => {
  const directory = new TemporaryDirectory();
  const servers: Server[] = [];

  after(() => {
    for (const server of servers) server.close();
    directory.remove();
  });

  const folder = (name: string): string => {
    const made = directory.file(name);
    mkdirSync(made, { mode: 0o700, recursive: true });
    return made;
  };
  const listen = async (path: string): Promise<Server> => {
    const server = createServer((socket) => {
      // Some only look whether anybody answers.
      socket.on('error', () => undefined).end('here');
    });
    await listenAt(server, path);
    servers.push(server);
    return server;
  };
  const said = async (path: string): Promise<string> => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await once(socket, 'end');
    return text;
  };

  test('is for its owner alone, and goes with the listener', async () => {
    const path = join(folder('own'), 'link.sock');
    const modeOfFile = (name: string): number => {
      writeFileSync(directory.file(name), '');
      return statSync(directory.file(name)).mode;
    };
    const before = modeOfFile('before');
    const server = await listen(path);
    assert.equal(modeOfFile('after'), before);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(await said(path), 'here');
    server.close();
    await once(server, 'close');
    assert.equal(existsSync(path), false);
  });

  test('takes the place of one whose process was killed', async () => {
    const path = join(folder('dead'), 'link.sock');
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('listens'))`;
    await using dead = new WatchedProcess(process.execPath, ['-e', script]);
    await dead.waitForOutput(/listens/);
    await dead.kill('SIGKILL');
    assert.ok(existsSync(path));
    await listen(path);
    assert.equal(await said(path), 'here');
  });

  test('takes the place of none that answers', async () => {
    const path = join(folder('taken'), 'link.sock');
    await listen(path);
    await assert.rejects(listen(path), { code: 'EADDRINUSE' });
    assert.equal(await said(path), 'here');
  });

  test('takes the place of no other file', async () => {
    const path = join(folder('file'), 'link.sock');
    writeFileSync(path, 'of somebody');
    await assert.rejects(listen(path), { code: 'NOT_A_SOCKET' });
    assert.equal(readFileSync(path, 'utf8'), 'of somebody');
  });

  test('is made in no directory that others may write to, and makes none', async () => {
    for (const mode of [0o770, 0o707, 0o1777]) {
      const open = folder(`open-${mode.toString(8)}`);
      chmodSync(open, mode);
      await assert.rejects(listen(join(open, 'link.sock')), { code: 'DIRECTORY_TOO_OPEN' });
      assert.equal(existsSync(join(open, 'link.sock')), false);
    }
    await assert.rejects(listen(directory.file('nowhere/link.sock')), { code: 'ENOENT' });
  });

  test('may have a path as long as any', async () => {
    const deep = folder('d'.repeat(107 - Buffer.byteLength(directory.file('')) - '/link.sock'.length));
    const path = join(deep, 'link.sock');
    const server = await listen(path);
    assert.ok(Buffer.byteLength(path) >= 100);
    assert.equal(await said(path), 'here');
    server.close();
    await once(server, 'close');
    assert.equal(existsSync(path), false);
  });
});
