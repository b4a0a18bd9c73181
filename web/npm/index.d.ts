/** How a model is loaded. */
export interface LoadOptions {
  /** Called while the model file comes: how many bytes of it are there, and of how many, where that is known. */
  onProgress?: (progress: { bytes: number; total?: number }) => void;
  /** What makes the faces: WebGPU where there is a GPU, and WebAssembly on the CPU elsewhere ("auto", the default). */
  executor?: Executor;
  /** Makes the faces in a worker, so that the page stays responsive. */
  worker?: boolean;
  /** Where `program_bg.wasm` is, or what is in it. Bundlers find it by themselves. */
  wasmUrl?: Source;
  /** The same of `relaxed_bg.wasm`, which runs in its place where the browser knows relaxed SIMD. Not used if `wasmUrl` alone is given. */
  relaxedWasmUrl?: Source;
  /** Ends the download. The promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** Which faces are made. */
export interface GenerateOptions {
  /** Of the first face; the others have the seeds that follow. Without it, chance decides. */
  seed?: number | bigint;
  /** A name or a date in place of the seed: the same face on every device, and in the page. */
  name?: string;
  /** How many faces, 1 by default. */
  count?: number;
  /** Denoising steps: as many as the model has, or fewer. */
  steps?: number;
  /** What makes these faces, and those after them. */
  executor?: Executor;
  /** The numbers of images between the kernels of WebGPU: "f16" is faster on many GPUs. "f32" by default. */
  dtype?: "f32" | "f16";
  /** Where the faces are drawn, side by side and as near to a square as they go; its size is set. */
  canvas?: HTMLCanvasElement | OffscreenCanvas;
  /** Called for the noise and after each denoising step of each face. Faces are made one by one then. */
  onStep?: (preview: Preview) => void;
  /** Ends the call, after the face that is being made. The promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** A face on its way. */
export interface Preview {
  /** Which of the faces, from 0. */
  face: number;
  /** How many denoising steps it has behind it: 0 is noise. */
  step: number;
  /** What the decoder makes of it. */
  image: ImageData;
}

/** "candle" is what "cpu" was called before. */
export type Executor = "auto" | "webgpu" | "cpu" | "candle";

/** An address, or what is there. */
export type Source = string | URL | Blob | ArrayBuffer | Uint8Array;

/** A model that makes faces. */
export class Lddgan {
  private constructor();

  /** Downloads a model file, unless it is given, and makes it ready. */
  static load(source: Source, options?: LoadOptions): Promise<Lddgan>;

  /** Makes faces, in the order of their seeds. Calls wait for those before them. */
  generate(options?: GenerateOptions): Promise<ImageData[]>;

  /** Height and width of a face in pixels. */
  readonly imageSize: number;

  /** Denoising steps that the model was trained for. */
  readonly steps: number;

  /** What makes the faces, in words. */
  readonly executor: string;

  /** What a visitor should know about that, if there is something. */
  readonly note: string | undefined;

  /** Gives the memory back. A call that runs ends before. */
  free(): void;
}
