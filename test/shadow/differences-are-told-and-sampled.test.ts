import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Verdict, differences } from '../../src/gate/verdict.js';
import type { LogFields } from '../../src/observe/log.js';
import { ShadowFindings } from '../../src/observe/shadow-findings.js';

const permitted = (route: string, upstream = 'up', roles: readonly string[] = ['a', 'b']): Verdict => ({
  said: 'permitted',
  route,
  upstream,
  who: { name: 'ann', roles },
});
const denied = (route: string, reason: 'route_denied' | 'permission_missing' = 'route_denied'): Verdict => ({
  said: 'denied',
  route,
  reason,
});

test('two verdicts differ where client or upstream would see another thing', () => {
  const CASES: readonly (readonly [Verdict, Verdict, readonly string[]])[] = [
    [permitted('one'), permitted('other'), []],
    [permitted('one'), permitted('one', 'up', ['b', 'a']), []],
    [permitted('one'), permitted('one', 'up', ['a']), ['who']],
    [permitted('one'), permitted('one', 'up', ['a', 'c']), ['who']],
    [permitted('one'), { said: 'permitted', route: 'one', upstream: 'down', who: null }, ['upstream', 'who']],
    [permitted('one'), denied('one'), ['verdict']],
    [denied('one'), denied('other'), []],
    [denied('one'), denied('one', 'permission_missing'), ['reason']],
    [denied('one'), { said: 'answered', by: 'preflight' }, ['verdict']],
    [{ said: 'answered', by: 'session_page' }, { said: 'answered', by: 'preflight' }, ['verdict']],
    [{ said: 'answered', by: 'preflight' }, { said: 'answered', by: 'preflight' }, []],
  ];
  for (const [first, other, expected] of CASES) {
    assert.deepEqual(differences(first, other), expected);
    assert.deepEqual(differences(other, first), expected);
  }
});

test('the first of each kind is told at once, then ten a minute, and how many more there were', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const lines: (readonly [event: string, fields: LogFields | undefined])[] = [];
  const say = (event: string, _msg: string, fields?: LogFields): void => {
    lines.push([event, fields]);
  };
  const log = { info: say, warn: say, error: say, errorFields: () => ({}) };
  const findings = new ShadowFindings(log, ['main']);
  const differ = (route: string): void => {
    const [first, second] = [permitted(route), denied(route)];
    findings.differs({ listener: 'main', requestId: 'id', first, second, in: differences(first, second) });
  };
  const told = (event: string): number => lines.filter(([one]) => one === event).length;
  for (let i = 0; i < 20; i += 1) differ(`route-${String(i)}`);
  assert.equal(told('shadow.differs'), 20);
  for (let i = 0; i < 25; i += 1) differ('route-1');
  assert.equal(told('shadow.differs'), 30);
  assert.equal(told('shadow.left_out'), 0);
  t.mock.timers.tick(60_000);
  assert.deepEqual(lines.at(-1), ['shadow.left_out', { 'guardbee.shadow.left_out': 15 }]);
  differ('route-1');
  assert.equal(told('shadow.differs'), 31);
  for (let i = 0; i < 5; i += 1) findings.broke('main', new Error('x'), 'id');
  for (let i = 0; i < 5; i += 1) findings.undecided('main', 'too_slow', 'id');
  assert.deepEqual([told('shadow.broke'), told('shadow.undecided')], [1, 1]);
  assert.deepEqual(findings.counts.get('main'), { same: 0, differs: 46, undecided: 10 });
  for (let i = 0; i < 12; i += 1) differ('route-1');
  findings.stop();
  assert.deepEqual(lines.at(-1), ['shadow.left_out', { 'guardbee.shadow.left_out': 3 }]);
});
