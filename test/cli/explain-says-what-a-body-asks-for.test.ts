import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writePolicy } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const POLICY = `version: 1
listeners:
  queen:
    bind: 127.0.0.1:7833
    upstream: http://127.0.0.1:17833
    local_identity: { name: local, roles: [viewer] }
    routes:
      - name: submit
        path: /v1/jobs
        methods: [POST]
        body:
          json:
            field: operation
            require_by_value: { status: read, install: control }
            check: { id: { type: identifier } }
roles: { viewer: [read], keyholder: [read, control] }
`;

test('explain says what a body asks for, which value is wrong, and that a body is needed', async () => {
  using folder = new TemporaryDirectory();
  const policy = writePolicy(folder, POLICY);
  const asked = async (...options: string[]): Promise<readonly [unknown, string]> => {
    const { stdout } = await runGuardbee(['explain', 'POST', '/v1/jobs', '--json', '--policy', policy, ...options]);
    const said = JSON.parse(stdout) as { readonly reason: unknown; readonly why: string };
    return [said.reason, said.why];
  };
  const rows: readonly (readonly [options: readonly string[], reason: string | null, why: RegExp])[] = [
    [['--role', 'viewer', '--body', '{"operation":"status"}'], null, /has read, which is enough for "status"$/],
    [['--role', 'viewer', '--body', '{"operation":"install"}'], 'permission_missing', /"install" asks for control$/],
    [['--role', 'keyholder', '--body', '{"operation":"install"}'], null, /has control, which is enough for "install"$/],
    [['--role', 'viewer', '--body', '{"operation":"new"}'], 'operation_unknown', /which knows status, install$/],
    [['--role', 'viewer', '--body', '{"operation":"status","id":"a b"}'], 'field_invalid', /^id of the body breaks/],
    [['--role', 'viewer', '--header', 'X-Deadline: 1', '--body', '{}'], 'deadline_passed', /X-Deadline/],
    [['--role', 'viewer'], 'body_type_unsupported', /--body TEXT gives it one/],
  ];
  for (const [options, reason, why] of rows) {
    const [code, words] = await asked(...options);
    assert.equal(code, reason, options.join(' '));
    assert.match(words, why);
  }
});
