import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** A private folder (0700), removed by `using`, by `remove()`, or at the end of the test that was given. */
export class TemporaryDirectory implements Disposable {
  readonly path: string;

  constructor(t?: TestContext) {
    // mkdtemp makes it 0700 whatever the umask says.
    this.path = mkdtempSync(join(tmpdir(), 'guardbee-test-'));
    t?.after(() => {
      this.remove();
    });
  }

  file(...names: string[]): string {
    return join(this.path, ...names);
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}
