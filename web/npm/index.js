import init, { Lddgan } from "./program.js";

await init();

export { Lddgan };
