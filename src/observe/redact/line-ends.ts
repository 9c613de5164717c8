/** Where lines begin and end; asked in order, each line is looked for once. */
export class LineEnds {
  readonly #text: string;
  #start = 0;
  #from = 0;
  #end = -1;

  constructor(text: string) {
    this.#text = text;
  }

  start(position: number): number {
    this.#find(position);
    return this.#start;
  }

  after(position: number): number {
    this.#find(position);
    return this.#end;
  }

  #find(position: number): void {
    if (position >= this.#from && position <= this.#end) return;
    // Not before the line end that was found last: it was looked at then.
    const known = position > this.#end ? this.#end : 0;
    let start = position;
    while (start > known && start > 0 && !/[\r\n]/.test(this.#text.charAt(start - 1))) start--;
    LINE_END.lastIndex = position;
    this.#start = start;
    this.#from = position;
    this.#end = LINE_END.exec(this.#text)?.index ?? this.#text.length;
  }
}

const LINE_END = /[\r\n]/g;
