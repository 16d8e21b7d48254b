export * from "./placement.js";
export * from "./slots.js";
