/** policies/policy.schema.json is what editors read. `UPDATE_GOLDEN=1` writes it anew. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { policyJsonSchema, policySchema } from '../../src/policy/schema.js';

const SHIPPED = fileURLToPath(new URL('../../../policies/policy.schema.json', import.meta.url));

test('the shipped schema is that of the program', async () => {
  const current = `${JSON.stringify(policyJsonSchema(), null, 2)}\n`;
  if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(SHIPPED, current);
  assert.equal(await readFile(SHIPPED, 'utf8'), current, 'run the tests with UPDATE_GOLDEN=1');
});

test('it is closed, and knows every key of the top', () => {
  const schema = policyJsonSchema();
  assert.equal(schema['additionalProperties'], false);
  assert.deepEqual(Object.keys(schema['properties'] as object), Object.keys(policySchema.shape));
});
