/** Of an alert on a metric that nobody exports, one learns on the day that it should have fired. */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parse } from 'yaml';
import { DENIALS } from '../../src/denial.js';
import { Metrics } from '../../src/observe/metrics.js';
import { requireComponent } from '../support/component.js';
import { startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { REPOSITORY } from '../support/process.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TestRedis } from '../support/redis.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { KeyServer, issuerKey, jwkOf } from '../support/token-issuer.js';
import { waitUntil } from '../support/wait.js';
import { SUBMIT, policyWith } from './exchange-fixture.js';

const PROMETHEUS = join(REPOSITORY, 'examples', 'prometheus');
const RULES = join(PROMETHEUS, 'guardbee.rules.yml');
const DASHBOARD = join(REPOSITORY, 'examples', 'grafana', 'guardbee.json');

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly legendFormat: string }[];
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
}

interface Dashboard {
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly expr?: string; readonly titleFormat?: string }[] };
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[];
  };
}

const rules = (): readonly Rule[] =>
  (parse(readFileSync(RULES, 'utf8')) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
const dashboard = (): Dashboard => JSON.parse(readFileSync(DASHBOARD, 'utf8')) as Dashboard;

/** What Grafana puts in before it asks. */
const filledIn = (expr: string): string => expr.replaceAll('$__rate_interval', '5m').replace(/"\$\w+"/g, '".*"');

/** Every expression, with what is shown of its result (labels in braces). */
function expressions(): { readonly where: string; readonly expr: string; readonly shown: string }[] {
  const { panels, annotations } = dashboard();
  return [
    ...rules().map(({ alert, expr, annotations: said }) => ({
      where: alert,
      expr,
      shown: Object.values(said).join(' ').replaceAll('$labels.', ''),
    })),
    ...panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr, legendFormat }) => ({ where: title, expr: filledIn(expr), shown: legendFormat })),
    ),
    ...annotations.list.flatMap(({ expr, titleFormat = '' }) =>
      expr === undefined ? [] : [{ where: 'annotation', expr: filledIn(expr), shown: titleFormat }],
    ),
  ];
}

/** Selectors of an expression: what stands before braces or is a metric's name by itself. */
function selectors(expr: string): { readonly metric: string; readonly matchers: ReadonlyMap<string, string> }[] {
  return [...expr.matchAll(/\b((?:guardbee|process|nodejs)_\w+|up)\b(?:\{([^}]*)\})?/g)].map(
    ([, metric = '', inside = '']) => ({
      metric,
      matchers: new Map(
        [...inside.matchAll(/(\w+)(=~|=)"([^"]*)"/g)].map(([, label = '', operator, value = '']) => [
          label,
          operator === '=' ? value.replace(/[.+*?^$()|[\]{}\\]/g, '\\$&') : value,
        ]),
      ),
    }),
  );
}

const groupings = (expr: string): string[] =>
  [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names = '']) => names.split(',').map((name) => name.trim()));

/** Labels that Prometheus itself gives what it scrapes. */
const OF_THE_SCRAPE = ['job', 'instance'];

test('promtool finds the rules good, and each fires when it should', (t) => {
  const promtool = requireComponent('promtool', t);
  if (promtool === null) return;
  const runs: readonly (readonly string[])[] = [
    ['check', 'rules', RULES],
    ['test', 'rules', 'guardbee.rules.test.yml'],
    ['check', 'config', '--syntax-only', 'prometheus.yml'],
  ];
  for (const args of runs) {
    const ran: SpawnSyncReturns<string> = spawnSync(promtool, args, { cwd: PROMETHEUS, encoding: 'utf8' });
    assert.equal(ran.status, 0, `${args.join(' ')}: ${ran.stdout}${ran.stderr}`);
  }
});

test('every alert is tested: when it fires, and that it does not when all is well', () => {
  const tested = parse(readFileSync(join(PROMETHEUS, 'guardbee.rules.test.yml'), 'utf8')) as {
    tests: {
      input_series: { series: string }[];
      alert_rule_test?: { alertname: string; exp_alerts: unknown[] }[];
    }[];
  };
  const firing = tested.tests.flatMap(({ alert_rule_test = [] }) =>
    alert_rule_test.filter(({ exp_alerts }) => exp_alerts.length > 0).map(({ alertname }) => alertname),
  );
  assert.deepEqual(
    [...new Set(firing)].sort(),
    rules()
      .map(({ alert }) => alert)
      .sort(),
  );
  const calm = tested.tests[0]?.input_series.map(({ series }) => series.replace(/\{.*/, '')) ?? [];
  const asked = new Set(rules().flatMap(({ expr }) => selectors(expr).map(({ metric }) => metric)));
  assert.deepEqual(
    [...asked].filter((metric) => !calm.includes(metric)),
    [],
  );
  for (const { alert, labels, annotations } of rules()) {
    assert.match(labels['severity'] ?? '', /^(critical|warning)$/, alert);
    assert.deepEqual(Object.keys(annotations), ['summary', 'description'], alert);
  }
});

test('every expression of the dashboard is one that Prometheus understands', (t) => {
  const promtool = requireComponent('promtool', t);
  if (promtool === null) return;
  const directory = new TemporaryDirectory(t);
  const records = expressions().map(({ expr }, index) => ({ record: `r:${String(index)}`, expr }));
  const file = writeFileIn(directory, 'rules.yml', JSON.stringify({ groups: [{ name: 'panels', rules: records }] }));
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'rules', file], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});

test('the dashboard can be imported: one uid, a data source to choose, units, panels beside each other', () => {
  const { uid, panels, templating } = dashboard();
  assert.equal(uid, 'guardbee');
  assert.deepEqual(
    templating.list.map(({ name, type }) => `${type} ${name}`),
    ['datasource datasource', 'query job', 'query instance', 'query listener'],
  );
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Set<string>();
  for (const { type, title, datasource, gridPos, targets = [], fieldConfig } of panels) {
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        const cell = `${String(x)} ${String(y)}`;
        assert.ok(!taken.has(cell), `${title} lies over another panel`);
        taken.add(cell);
      }
    }
    if (type === 'row') continue;
    assert.equal(datasource?.uid, '${datasource}', title);
    assert.notEqual(fieldConfig?.defaults.unit ?? '', '', title);
    assert.ok(targets.length > 0, title);
    assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
  }
});

/** Labels and their values on a page, by metric. */
type Page = ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>;

function readPage(text: string): Page {
  const page = new Map<string, Map<string, Set<string>>>();
  for (const line of text.split('\n')) {
    const [, metric, inside = ''] = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (metric === undefined) continue;
    const labels = page.get(metric) ?? new Map<string, Set<string>>();
    page.set(metric, labels);
    for (const [, label = '', value = ''] of inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels.set(label, (labels.get(label) ?? new Set()).add(value));
    }
  }
  return page;
}

/** The page of a guardbee that has everything that is counted, and has seen some of it happen. */
async function realPage(t: TestContext): Promise<Page | null> {
  const redis = await TestRedis.start(t);
  if (redis === null) return null;
  await using keys = await KeyServer.start([jwkOf(issuerKey('k', 'P-256'))]);
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    prepare: (directory) => writeFileIn(directory, 'redis.url', redis.url),
    top: {
      admin: { bind: '127.0.0.1:0' },
      audit: { dir: 'audit', deliver: { url: 'http://127.0.0.1:9/audit' } },
      state: { redis: { url: { file: 'redis.url' } } },
    },
    authenticators: {
      sso: { type: 'jwt', issuer: 'i', audience: 'a', jwks: { url: keys.url }, revocation: 'shared' },
    },
    listener: {
      authenticate: ['keys', 'sso'],
      limits: { rate: { requests: 50, per: '1s', shared: true } },
    },
    listeners: { elsewhere: { allow_from: ['10.0.0.0/8'] } },
    shadow: (policy) => policy,
  });
  assert.equal((await request(guard.plain, { path: '/x', token: guard.token })).status, 200);
  assert.equal((await request(guard.plain, { path: '/x' })).status, 401);
  await assert.rejects(request(guard.target('elsewhere')));
  upstream.respond = respond.silentEvents();
  const leaving = await RawConnection.connect(guard.plain);
  leaving.socket.write(requestBytes(guard.plain, { path: '/slow', token: guard.token }));
  await upstream.waitForRequest(({ target }) => target === '/slow');
  leaving.close();
  const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  const url = `${String(admin['url.full'])}/metrics`;
  return await waitUntil(async () => {
    const page = readPage(await (await fetch(url)).text());
    return page.has('guardbee_upstream_aborts_total') && page.has('guardbee_jwks_age_seconds') ? page : null;
  }, 'everything to be counted');
}

/** What a policy that is tried, and an authority that is not there, keep it from having. */
async function pageOfWorkersAndAcme(): Promise<Page> {
  const metrics = new Metrics({ policy: policyWith([SUBMIT]), version: '0', log: { droppedLines: 0 } });
  metrics.watchWorkers(() => ({ ready: 1, wanted: 2, restarts: 1 }));
  metrics.watchAcme(() => [{ host: 'a.example.com', notAfterMs: null, succeeded: 0, failed: 1, lastSuccessMs: null }]);
  return readPage(await metrics.text());
}

test('every metric, and every label of it, that an alert or a panel names is on a real page', async (t) => {
  const real = await realPage(t);
  if (real === null) return;
  const page = new Map([...(await pageOfWorkersAndAcme()), ...real]);
  for (const { where, expr, shown } of expressions()) {
    const found = selectors(expr);
    assert.ok(found.length > 0, `${where}: ${expr}`);
    const known = new Set(OF_THE_SCRAPE);
    for (const { metric, matchers } of found) {
      // Prometheus makes this one itself.
      if (metric === 'up') continue;
      const labels = page.get(metric);
      assert.ok(labels !== undefined, `${where}: there is no ${metric}`);
      for (const name of labels.keys()) known.add(name);
      for (const [label, pattern] of matchers) {
        if (OF_THE_SCRAPE.includes(label)) continue;
        const values = label === 'reason' ? [...(labels.get(label) ?? []), ...Object.keys(DENIALS)] : labels.get(label);
        assert.ok(values !== undefined, `${where}: ${metric} has no label ${label}`);
        // A status may be one that this page has not seen.
        const all = label === 'code' ? [...values, '502'] : [...values];
        assert.ok(
          all.some((value) => new RegExp(`^(?:${pattern})$`).test(value)),
          `${where}: no ${label} of ${metric} is ${pattern}`,
        );
      }
    }
    for (const [, name = ''] of shown.matchAll(/\{\{ ?([a-z]\w*) ?\}\}/g)) {
      assert.ok(known.has(name), `${where}: no metric of it has the label ${name}`);
    }
    for (const name of groupings(expr)) assert.ok(known.has(name), `${where}: no metric of it has the label ${name}`);
  }
  for (const { definition } of dashboard().templating.list) {
    const [, metric = '', label = ''] = /^label_values\((\w+)(?:\{.*\})?, (\w+)\)$/.exec(definition ?? '') ?? [];
    if (definition === undefined) continue;
    assert.ok(page.has(metric), definition);
    assert.ok(OF_THE_SCRAPE.includes(label) || page.get(metric)?.has(label) === true, definition);
  }
});
