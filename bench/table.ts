import { median } from './load.js';

/** What a workload found. */
export interface Table {
  readonly workload: string;
  readonly about: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
}

export interface Column {
  readonly key: string;
  readonly title: string;
  readonly digits: number;
}

export interface Row {
  readonly name: string;
  /** By the column's key; what is missing was not measured. */
  readonly cells: Readonly<Record<string, number | undefined>>;
}

/**
 * Of the same workload, measured with programs that were started anew: two starts of one program differ by up to a fifth
 * of its CPU time, however many rounds each of them is measured for.
 */
export function medians(tables: readonly Table[]): Table {
  const [first] = tables;
  if (first === undefined) throw new TypeError('no table');
  const rows = first.rows.map(({ name, cells }) => {
    const same = tables.map((table) => table.rows.find((row) => row.name === name)?.cells ?? {});
    const keys = Object.keys(cells).map((key) => [key, median(same.map((one) => one[key] ?? Number.NaN))]);
    return { name, cells: Object.fromEntries(keys) as Row['cells'] };
  });
  return { ...first, rows };
}

const WIDTH = 16;

export function tableText({ workload, about, columns, rows }: Table): string {
  const first = Math.max(...rows.map(({ name }) => name.length), workload.length) + 2;
  const line = (cells: readonly string[]): string =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(first) : cell.padStart(WIDTH))).join('');
  return [
    `${workload}: ${about}`,
    line(['', ...columns.map(({ title }) => title)]),
    ...rows.map(({ name, cells }) =>
      line([
        name,
        ...columns.map(({ key, digits }) => {
          const value = cells[key];
          return value === undefined || Number.isNaN(value) ? '-' : value.toFixed(digits);
        }),
      ]),
    ),
    '',
    '',
  ].join('\n');
}
