export { Model, type ModelPoint } from "./testing/model.fixture.js";
