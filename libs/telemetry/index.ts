export * from "./span.js";
