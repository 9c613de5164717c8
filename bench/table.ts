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
