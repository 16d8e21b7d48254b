export { FakeCatalog } from "./testing/fake-catalog.js";
