export { Lddgan } from "./program.js";
export type { GenerateOptions, LoadOptions } from "./program.js";
