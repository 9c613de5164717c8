import type { TestContext } from 'node:test';
import { requireComponent } from '../support/component.js';
import { WatchedProcess } from '../support/process.js';

/** What systemd does with the socket: the words of each message. */
const RECEIVER = `
import json, os, socket, struct, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind('\\0' + name[1:] if name[0] == '@' else name)
print('bound', flush=True)
while True:
    text, controls, _, _ = receiver.recvmsg(65536, 4096)
    for level, kind, data in controls:
        if kind == socket.SCM_RIGHTS:
            # The barrier: whoever sent it waits until this is closed (sd_notify_barrier(3)).
            for at in range(0, len(data) // 4 * 4, 4):
                os.close(struct.unpack_from('i', data, at)[0])
    print(json.dumps({'words': text.decode().split('\\n')}), flush=True)
`;

/** Receives at `name`, a path or an abstract name after `@`. Null where the test is skipped. */
export async function receiveNotices(name: string, t: TestContext): Promise<NoticeReceiver | null> {
  // That one is of Debian's, where the first in the path may be a slow stand-in.
  const python = requireComponent('python3-websockets', t);
  if (python === null) return null;
  const receiver = new NoticeReceiver(python, ['-c', RECEIVER, name]);
  await receiver.waitForOutput(/bound/);
  return receiver;
}

export class NoticeReceiver extends WatchedProcess {
  /** Messages so far, without those that only wait for the others to be read. */
  get messages(): readonly (readonly string[])[] {
    return this.logLines
      .map(({ words }) => (words as string[]).filter((word) => word !== ''))
      .filter((words) => words[0] !== 'BARRIER=1');
  }

  /** The first message from `from` on that has this word; where it stands. */
  async heard(word: string, from = 0): Promise<{ readonly words: readonly string[]; readonly at: number }> {
    const find = (): number => this.messages.findIndex((words, at) => at >= from && words.includes(word));
    await this.waitForLog(() => find() !== -1);
    const at = find();
    return { words: this.messages[at] ?? [], at };
  }
}
