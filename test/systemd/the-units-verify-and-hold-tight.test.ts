import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { writeFileIn } from '../support/policy-builder.js';
import { REPOSITORY, runCommand } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const FOLDER = join(REPOSITORY, 'examples', 'systemd');

/** The units as an administrator would install them, but for the program, which is not at /usr/local/bin here. */
function install(directory: TemporaryDirectory): string[] {
  return readdirSync(FOLDER)
    .filter((name) => /\.(service|socket)$/.test(name))
    .map((name) =>
      writeFileIn(
        directory,
        name,
        readFileSync(join(FOLDER, name), 'utf8').replaceAll('/usr/local/bin/guardbee', process.execPath),
        0o644,
      ),
    );
}

test('systemd reads the units without a complaint', async (t) => {
  const analyze = requireComponent('systemd-analyze', t);
  if (analyze === null) return;
  using directory = new TemporaryDirectory();
  const units = install(directory);
  assert.ok(units.length > 0);
  const { code, stdout, stderr } = await runCommand(analyze, ['verify', '--man=no', ...units]);
  // What the machine's own units are criticised for is not our affair.
  const complaints = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('guardbee'));
  assert.deepEqual(complaints, []);
  assert.equal(code, 0, stderr);
});

test('the service is as confined as its README says', async (t) => {
  const analyze = requireComponent('systemd-analyze', t);
  if (analyze === null) return;
  using directory = new TemporaryDirectory();
  install(directory);
  const said = /`systemd-analyze security` gives it ([\d.]+)/.exec(
    readFileSync(join(FOLDER, 'README.md'), 'utf8'),
  )?.[1];
  assert.ok(said !== undefined);
  // In tenths; exits with 1 where the exposure is greater.
  const most = String(Math.round(Number(said) * 10));
  const unit = directory.file('guardbee.service');
  const { code, stdout } = await runCommand(analyze, ['security', '--offline=true', `--threshold=${most}`, unit]);
  assert.equal(code, 0, stdout);
});
