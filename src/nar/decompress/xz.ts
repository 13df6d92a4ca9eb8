import type { ByteStream } from '../../stream/byte-stream.ts';
import { yieldToEventLoop } from '../event-loop.ts';
import { xzModule, type WasmModule } from '../xz-module.ts';
import { DecompressionError, truncated } from './decompression-error.ts';

/** What the module exports (`src/native/xz-decompress.c` of the package, around xz-embedded). */
interface XzExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  /** The address of a new context; 0 if there was no memory. */
  create_context(): number;
  /** Says that so many bytes stand in the input buffer. */
  supply_input(context: number, size: number): void;
  /** Decodes until the input is used up or the output buffer is full. No input means its end. */
  get_next_output(context: number): number;
}

/** What is used of the global, for the one module there is; Node's types do not declare it. */
declare const WebAssembly: {
  instantiate(module: WasmModule, imports: object): Promise<{ readonly exports: XzExports }>;
};

/** The words of a context: 32 bits each, little-endian. */
const WORD = { bufferSize: 0, input: 1, inputAt: 2, inputSize: 3, output: 4, outputAt: 5 } as const;

/** `enum xz_ret` of xz-embedded. */
const RESULT = {
  ok: 0,
  streamEnd: 1,
  noMemory: 3,
  aboveMemoryLimit: 4,
  notThisFormat: 5,
  unsupportedOptions: 6,
  corrupt: 7,
  noProgress: 8,
} as const;

/** What the module takes besides the dictionary, and its allocator's rounding, in bytes. */
const OWN_MEMORY = 1024 * 1024;

/** Output after which the event loop gets its turn, in bytes: a few milliseconds. */
const SLICE = 64 * 1024;

/**
 * The contents of the xz streams in a row. See `decompress` for what is thrown.
 *
 * Each call has an instance of its own, so that any number run at once and its memory goes with it.
 */
export async function* decompressXz(
  stream: ByteStream,
  maxWindow: number,
): AsyncGenerator<Uint8Array, void, void> {
  let decoder: XzDecoder | undefined;
  let slice = 0;
  for await (const chunk of stream) {
    decoder ??= await openDecoder(maxWindow);
    for (let at = 0; at < chunk.length; at += decoder.bufferSize) {
      decoder.supply(chunk.subarray(at, at + decoder.bufferSize));
      do {
        decoder.step();
        const output = decoder.takeOutput();
        if (output.length > 0) yield output;
        slice += output.length;
        if (slice >= SLICE) {
          slice = 0;
          await yieldToEventLoop();
        }
      } while (decoder.mayHaveMore);
    }
  }
  if (decoder === undefined) throw truncated('xz');
  decoder.supply(new Uint8Array(0));
  for (let ended = false; !ended;) {
    ended = decoder.step();
    const output = decoder.takeOutput();
    if (output.length > 0) yield output;
    else if (!ended) throw truncated('xz');
  }
}

async function openDecoder(maxWindow: number): Promise<XzDecoder> {
  const instance = await WebAssembly.instantiate(await xzModule(), {});
  return new XzDecoder(instance.exports, maxWindow);
}

class XzDecoder {
  /** The most input that may be supplied at once, in bytes. */
  readonly bufferSize: number;
  readonly #exports: XzExports;
  readonly #maxWindow: number;
  readonly #ownMemory: number;
  readonly #context: number;
  #outputWasFull = false;

  constructor(exports: XzExports, maxWindow: number) {
    this.#exports = exports;
    this.#maxWindow = maxWindow;
    this.#context = exports.create_context();
    if (this.#context === 0) throw beyondMemory('there is no memory for the decoder');
    this.#ownMemory = exports.memory.buffer.byteLength + OWN_MEMORY;
    this.bufferSize = this.#word(WORD.bufferSize);
  }

  /** Gives the next input; the one before must be used up. An empty one marks the end. */
  supply(bytes: Uint8Array): void {
    new Uint8Array(this.#exports.memory.buffer).set(bytes, this.#word(WORD.input));
    this.#exports.supply_input(this.#context, bytes.length);
  }

  /**
   * Decodes on.
   *
   * @returns whether the end of the input was met where it may end
   */
  step(): boolean {
    const result = this.#exports.get_next_output(this.#context);
    // The dictionary is allocated when its size is met, and the memory of an instance never shrinks.
    if (this.#exports.memory.buffer.byteLength > this.#ownMemory + this.#maxWindow) {
      throw beyondMemory(`the dictionary takes more than the ${this.#maxWindow} bytes allowed`);
    }
    if (result === RESULT.ok || result === RESULT.streamEnd) return result === RESULT.streamEnd;
    throw failure(result);
  }

  /** A copy of what was decoded since the last call. */
  takeOutput(): Uint8Array {
    const context = new DataView(this.#exports.memory.buffer, this.#context);
    const start = context.getUint32(WORD.output * 4, true);
    const size = context.getUint32(WORD.outputAt * 4, true);
    context.setUint32(WORD.outputAt * 4, 0, true);
    this.#outputWasFull = size === this.bufferSize;
    return new Uint8Array(this.#exports.memory.buffer).slice(start, start + size);
  }

  /** Whether another step could give output without more input. */
  get mayHaveMore(): boolean {
    return this.#outputWasFull || this.#word(WORD.inputAt) < this.#word(WORD.inputSize);
  }

  #word(index: number): number {
    return new DataView(this.#exports.memory.buffer, this.#context).getUint32(index * 4, true);
  }
}

function failure(result: number): DecompressionError {
  switch (result) {
    case RESULT.noProgress:
      return truncated('xz');
    case RESULT.notThisFormat:
      return new DecompressionError(
        'xz',
        'the input, or what follows its last stream, is not in this format',
      );
    case RESULT.noMemory:
      return beyondMemory('there is no memory for the dictionary');
    case RESULT.aboveMemoryLimit:
      return unsupported('the dictionary is larger than the 64 MiB that are supported');
    case RESULT.unsupportedOptions:
      return unsupported('it uses a filter or a check that is not supported');
    case RESULT.corrupt:
      return new DecompressionError('xz', 'the data is corrupt');
    default:
      return unsupported(`the decoder failed with code ${result}`);
  }
}

function beyondMemory(why: string): DecompressionError {
  return new DecompressionError('xz', why, { reason: 'resources' });
}

function unsupported(why: string): DecompressionError {
  return new DecompressionError('xz', why, { reason: 'unsupported' });
}
